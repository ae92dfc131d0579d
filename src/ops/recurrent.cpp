// lstm, gru and plain recurrent layers, per layer and direction: one product for what all steps take from their inputs,
// then a scan over the steps, whose body is the product with the hidden state and the gates:
//   %r.l0.x[t, n, g] = sum(i: x[t, n, i] * w_ih[g, i]) + b_ih[g]
//   %h, %c, %y = call "scan" (%h0, %c0, %r.l0.x, %w_hh, %b_hh)
#include <algorithm>

#include "base/check.h"
#include "ops/body.h"
#include "ops/compose.h"
#include "ops/rules.h"

namespace toroid {

namespace {

enum class CellKind { lstm, gru, rnn_tanh, rnn_relu };

struct CellWeights {
  LoopValue w_ih, w_hh;
  std::optional<LoopValue> b_ih, b_hh, projection;
};

struct Layers {
  CellKind kind = CellKind::lstm;
  bool biases = true, bidirectional = false, batch_first = false, projected = false;
  int64_t count = 1;
  std::vector<ValueId> params;
  size_t directions() const { return bidirectional ? 2 : 1; }
  size_t each() const { return 2 + (biases ? 2 : 0) + (projected ? 1 : 0); }  // parameters of a layer in one direction
};

int64_t gates_of(CellKind kind) { return kind == CellKind::lstm ? 4 : kind == CellKind::gru ? 3 : 1; }

Result<Layers> layers_of(const Call& call, CellKind kind) {
  Layers l;
  l.kind = kind;
  l.biases = call.flag("has_biases");
  l.bidirectional = call.flag("bidirectional");
  l.batch_first = call.flag("batch_first");
  l.count = call.constant("num_layers");
  l.params = call.values("params");
  if (call.flag("train") && call.number("dropout") != 0)
    return fail(Kind::unsupported_op, "`{}` with dropout in training (random numbers)", call.op());
  if (call.type("input").rank() != 3)
    return fail(Kind::unsupported_op, "`{}` of an input of rank {}", call.op(), call.type("input").rank());
  const size_t cells = l.directions() * static_cast<size_t>(l.count);
  l.projected = kind == CellKind::lstm && l.params.size() == (l.each() + 1) * cells;
  if (l.params.size() != l.each() * cells)
    return fail(Kind::unsupported_op, "`{}` with {} parameters for {} cells", call.op(), l.params.size(), cells);
  return l;
}

CellWeights weights_of(const LowerCall& call, const Layers& l, size_t cell) {
  const size_t at = cell * l.each();
  CellWeights w{.w_ih = call.tensor(l.params[at]), .w_hh = call.tensor(l.params[at + 1])};
  if (l.biases) w.b_ih = call.tensor(l.params[at + 2]), w.b_hh = call.tensor(l.params[at + 3]);
  if (l.projected) w.projection = call.tensor(l.params[at + l.each() - 1]);
  return w;
}

struct State {
  LoopValue h, c;  // c for lstm only
};

LoopValue rounded(LoopBuilder& b, const LoopValue& x, const std::string& suffix) { return b.materialize(x, suffix); }

// One gate of [n, gates * hidden].
LoopValue gate(LoopBuilder& b, const LoopValue& all, int64_t k, const Sym& hidden) {
  return b.slice(all, 1, hidden * k, hidden);
}

State step(LoopBuilder& b, CellKind kind, const LoopValue& from_x, const CellWeights& w, const State& old, DType dtype,
           const std::string& name) {
  LoopBuilder* p = &b;
  DType acc = accumulate_type(dtype);
  const Sym hidden = floor_div(w.w_hh.sizes[0], gates_of(kind));
  SymList sizes{old.h.sizes[0], hidden};
  LoopValue from_h = b.contract(
      acc, {sizes[0], w.w_hh.sizes[0]}, {w.w_hh.sizes[1]},
      [p, h = old.h, w](const Index& o, const Index& k) {
        return p->mul(h.at({o[0], k[0]}), w.w_hh.at({o[1], k[0]}));
      },
      name + ".hh");
  if (w.b_hh)
    from_h = b.map({from_h, *w.b_hh}, from_h.sizes, acc, acc,
                   [p](const std::vector<ExprId>& v) { return p->add(v[0], v[1]); });
  auto sigmoid = [p](ExprId v) { return p->op(ScalarOp::sigmoid, {v}); };
  auto tanh = [p](ExprId v) { return p->op(ScalarOp::tanh, {v}); };
  if (kind == CellKind::gru) {
    // r, z, n: h' = (h - n) * z + n with n = tanh(x_n + r * h_n)
    std::vector<LoopValue> parts{old.h};
    for (int64_t k = 0; k < 3; ++k) parts.push_back(gate(b, from_x, k, hidden));
    for (int64_t k = 0; k < 3; ++k) parts.push_back(gate(b, from_h, k, hidden));
    LoopValue h = b.map(parts, sizes, acc, dtype, [=](const std::vector<ExprId>& v) {
      ExprId r = sigmoid(p->add(v[1], v[4])), z = sigmoid(p->add(v[2], v[5]));
      ExprId n = tanh(p->add(v[3], p->mul(r, v[6])));
      return p->add(p->mul(p->sub(v[0], n), z), n);
    });
    return {rounded(b, h, name + ".h"), {}};
  }
  LoopValue gates =
      b.map({from_x, from_h}, from_h.sizes, acc, acc, [p](const std::vector<ExprId>& v) { return p->add(v[0], v[1]); });
  if (kind != CellKind::lstm) {
    LoopValue h = map1(b, gates, acc, dtype, [=](ExprId v) {
      return kind == CellKind::rnn_tanh ? tanh(v) : p->op(ScalarOp::max, {v, number_expr(*p, 0, acc)});
    });
    return {rounded(b, h, name + ".h"), {}};
  }
  // i, f, g, o: c' = f * c + i * g, h' = o * tanh(c')
  std::vector<LoopValue> parts{old.c};
  for (int64_t k = 0; k < 3; ++k) parts.push_back(gate(b, gates, k, hidden));
  LoopValue c = b.map(parts, sizes, acc, dtype, [=](const std::vector<ExprId>& v) {
    return p->add(p->mul(sigmoid(v[2]), v[0]), p->mul(sigmoid(v[1]), tanh(v[3])));
  });
  c = rounded(b, c, name + ".c");
  LoopValue h = b.map({c, gate(b, gates, 3, hidden)}, sizes, acc, dtype,
                      [=](const std::vector<ExprId>& v) { return p->mul(sigmoid(v[1]), tanh(v[0])); });
  if (w.projection) h = matmul_nt(b, rounded(b, h, name + ".whole"), *w.projection, nullptr, dtype);
  return {rounded(b, h, name + ".h"), c};
}

// x [t, n, i] through one layer in one direction.
struct Pass {
  LoopValue outputs;  // [t, n, hidden]
  State last;
};

Result<Pass> run_direction(LoopBuilder& b, const Layers& l, const LoopValue& x, const CellWeights& w,
                           const State& start, bool backwards, const std::string& name) {
  const DType dtype = x.dtype, acc = accumulate_type(dtype);
  const bool lstm = l.kind == CellKind::lstm;
  LoopValue from_x = matmul_nt(b, x, w.w_ih, w.b_ih ? &*w.b_ih : nullptr, acc);
  from_x = b.materialize(from_x, name + ".x");
  std::vector<LoopValue> carried{start.h}, others{w.w_hh};
  if (lstm) carried.push_back(start.c);
  if (w.b_hh) others.push_back(*w.b_hh);
  if (w.projection) others.push_back(*w.projection);
  TD_TRY(std::vector<LoopValue> results,
         scan_steps(
             b, "step" + name, carried, {from_x}, others, backwards,
             [&](LoopBuilder& inner, const std::vector<LoopValue>& old, const std::vector<LoopValue>& row,
                 const std::vector<LoopValue>& weights) {
               CellWeights cell{.w_hh = weights[0]};
               if (w.b_hh) cell.b_hh = weights[1];
               if (w.projection) cell.projection = weights.back();
               const State next = step(inner, l.kind, row[0], cell, {old[0], lstm ? old[1] : LoopValue{}}, dtype, "");
               ScanStep result{{next.h}, {next.h}};
               if (lstm) result.carried.push_back(next.c);
               return result;
             }));
  Pass pass{results.back(), {results[0], {}}};
  if (lstm) pass.last.c = results[1];
  return pass;
}

Result<std::vector<LoopValue>> lower_recurrent(LoopBuilder& b, const LowerCall& call, CellKind kind) {
  TD_TRY(Layers l, layers_of(call, kind));
  LoopValue x = call.tensor("input");
  if (l.batch_first) x = b.transpose(x, 0, 1);
  bool lstm = kind == CellKind::lstm;
  LoopValue h0 = lstm ? call.tensor(call.values("hx")[0]) : call.tensor("hx");
  LoopValue c0 = lstm ? call.tensor(call.values("hx")[1]) : LoopValue{};
  std::vector<LoopValue> last_h, last_c;
  for (int64_t layer = 0; layer < l.count; ++layer) {
    std::vector<Pass> passes;
    for (size_t d = 0; d < l.directions(); ++d) {
      size_t cell = static_cast<size_t>(layer) * l.directions() + d;
      State start{b.select(h0, 0, static_cast<int64_t>(cell)),
                  lstm ? b.select(c0, 0, static_cast<int64_t>(cell)) : LoopValue{}};
      TD_TRY(Pass pass,
             run_direction(b, l, x, weights_of(call, l, cell), start, d == 1, format(".l{}{}", layer, d ? "r" : "")));
      passes.push_back(std::move(pass));
      last_h.push_back(b.unsqueeze(passes.back().last.h, 0));
      if (lstm) last_c.push_back(b.unsqueeze(passes.back().last.c, 0));
    }
    x = passes[0].outputs;
    if (passes.size() == 2) x = b.materialize(b.cat({x, passes[1].outputs}, 2), format(".l{}.y", layer));
  }
  if (l.batch_first) x = b.transpose(x, 0, 1);
  std::vector<LoopValue> out{x, b.cat(last_h, 0)};
  if (lstm) out.push_back(b.cat(last_c, 0));
  return out;
}

Types infer_recurrent(const Call& call, CellKind kind) {
  TD_TRY(Layers l, layers_of(call, kind));
  const TensorType& x = call.type("input");
  Sym hidden = call.type(l.params[1]).sizes[1];
  TensorType y = unclaimed_type(call, x.dtype, {x.sizes[0], x.sizes[1], hidden * static_cast<int64_t>(l.directions())});
  if (!l.batch_first) y.strides = contiguous_strides(y.sizes);
  TensorType state = contiguous_type(
      call, x.dtype, {static_cast<int64_t>(l.directions()) * l.count, l.batch_first ? x.sizes[0] : x.sizes[1], hidden});
  std::vector<TensorType> out{y, state};
  if (kind == CellKind::lstm) {
    out.push_back(state);
    const Sym whole = floor_div(call.type(l.params[1]).sizes[0], gates_of(kind));
    out.back() = contiguous_type(call, x.dtype, {state.sizes[0], state.sizes[1], whole});
  }
  return out;
}

// One step of one layer.
Result<std::vector<LoopValue>> lower_cell(LoopBuilder& b, const LowerCall& call, CellKind kind) {
  LoopValue x = call.tensor("input");
  const bool lstm = kind == CellKind::lstm;
  CellWeights w{.w_ih = call.tensor("w_ih"), .w_hh = call.tensor("w_hh")};
  if (is_tensor(call, "b_ih")) w.b_ih = call.tensor("b_ih");
  if (is_tensor(call, "b_hh")) w.b_hh = call.tensor("b_hh");
  State old{lstm ? call.tensor(call.values("hx")[0]) : call.tensor("hx"),
            lstm ? call.tensor(call.values("hx")[1]) : LoopValue{}};
  LoopValue from_x = matmul_nt(b, x, w.w_ih, w.b_ih ? &*w.b_ih : nullptr, accumulate_type(x.dtype));
  State next = step(b, kind, b.materialize(from_x, ".x"), w, old, x.dtype, "");
  std::vector<LoopValue> out{next.h};
  if (lstm) out.push_back(next.c);
  return out;
}

}  // namespace

void add_recurrent_ops(OpTable& ops) {
  struct Row {
    const char* name;
    CellKind kind;
  };
  for (Row row : {Row{"lstm", CellKind::lstm}, Row{"gru", CellKind::gru}, Row{"rnn_tanh", CellKind::rnn_tanh},
                  Row{"rnn_relu", CellKind::rnn_relu}}) {
    int64_t g = row.kind == CellKind::lstm ? 4 : row.kind == CellKind::gru ? 3 : 1;
    // Two directions over a batch of 2, three steps, 4 inputs, hidden size 3.
    std::string cell = format("f32[{0},4], f32[{0},3], f32[{0}], f32[{0}]", g * 3);
    std::string state = row.kind == CellKind::lstm ? "[f32[2,2,3], f32[2,2,3]]" : "f32[2,2,3]";
    std::string name = format("aten.{}.input", row.name);
    OpRow& added =
        ops.add(name)
            .infer([kind = row.kind](const Call& call) { return infer_recurrent(call, kind); })
            .lower_many(
                [kind = row.kind](LoopBuilder& b, const LowerCall& call) { return lower_recurrent(b, call, kind); })
            .sample(format("{}(f32[2,3,4], {}, [{}, {}], True, 1, 0.0, False, True, True)", name, state, cell, cell));
    if (row.kind == CellKind::lstm)  // hidden size 3, of which a product makes 2
      added.sample(name +
                   "(f32[2,3,4], [f32[1,3,2], f32[1,3,3]], [f32[12,4], f32[12,2], f32[12], f32[12], f32[2,3]], True, "
                   "1, 0.0, False, False, False)");

    const std::string one_state = row.kind == CellKind::lstm ? "[f32[2,3], f32[2,3]]" : "f32[2,3]";
    const std::string cell_name = row.name + std::string("_cell.default");
    lowered(ops, cell_name, [kind = row.kind](LoopBuilder& b, const LowerCall& call) {
      return lower_cell(b, call, kind);
    }).sample(format("aten.{}(f32[2,4], {}, {})", cell_name, one_state, cell));
  }
}

}  // namespace toroid
