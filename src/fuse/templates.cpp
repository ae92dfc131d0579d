// Template kernels: a contraction whose operands lie as a matrix product or convolution needs them, with everything
// else in its group as epilogue.
#include <algorithm>

#include "base/check.h"
#include "fuse/attention.h"
#include "fuse/contraction.h"
#include "fuse/program.h"

namespace toroid::fuse {
namespace {

struct Var {
  std::string name;
  Sym extent;
};

// Vars (outermost first) that one index walks: sum of stride * var == stride(last) * position. Takes from the back as
// many as fit both operands' strides.
struct Run {
  std::vector<Var> vars;
  Sym extent = 1;
};

// How an address depends on variables: a stride each, and the rest.
struct Strides {
  std::map<std::string, Sym> by_var;
  Sym rest = 0;
};
std::optional<Strides> strides_of(const Sym& address, const std::vector<Var>& vars) {
  Strides result;
  Sym rest = address;
  for (const Var& var : vars) {
    auto line = linear_in(rest, var.name);
    if (!line) return std::nullopt;
    for (const Var& other : vars)
      if (depends_on(line->coefficient, other.name)) return std::nullopt;
    result.by_var[var.name] = line->coefficient;
    rest = line->rest;
  }
  result.rest = rest;
  return result;
}

// Splits the longest suffix of `vars` that all `strides` walk as one index.
Run take_run(std::vector<Var>& vars, const std::vector<const Strides*>& strides) {
  Run run;
  while (!vars.empty()) {
    const Var& next = vars.back();
    if (!run.vars.empty()) {
      const Var& inner = run.vars.front();
      bool fits = true;
      for (const Strides* s : strides)
        fits &= proves_eq(s->by_var.at(next.name), s->by_var.at(inner.name) * inner.extent);
      if (!fits) break;
    }
    run.vars.insert(run.vars.begin(), next);
    run.extent *= next.extent;
    vars.pop_back();
  }
  return run;
}

// name -> its value when `position` walks the run.
void decode(const Run& run, const Sym& position, std::map<std::string, Sym>& values) {
  Sym inner = 1;
  for (size_t i = run.vars.size(); i-- > 0;) {
    const Var& var = run.vars[i];
    Sym value = floor_div(position, inner);
    values[var.name] = i == 0 ? value : mod(value, var.extent);
    inner *= var.extent;
  }
}

class TemplateBuilder {
 public:
  TemplateBuilder(Program& program, Schedule& schedule, const Group& group)
      : program_(program), loops_(program.loops), pool_(program.pool()), schedule_(schedule), group_(group) {}

  std::optional<Kernel> build() {
    const TensorId id = group_.members[0];
    const Item& item = program_[id];
    if (program_.target.lanes() < 8) return std::nullopt;
    Kernel kernel;
    kernel.where = loops_[id].where;
    kernel.device = loops_[id].device;
    std::map<std::string, Sym> values;  // the contraction's output variables in kernel variables
    if (item.attention) {
      auto work = build_attention(program_, schedule_, id, values);
      if (!work) return std::nullopt;
      kernel.flops =
          Sym(2 * (work->head_size + work->value_size)) * work->batch * work->heads * work->queries * work->keys;
      kernel.reads = {work->q, work->k, work->v};
      kernel.work = std::move(*work);
      finish(id, kernel, values);
      return kernel;
    }
    auto factors = factors_of(pool_, item.contraction);
    if (!factors) return std::nullopt;
    const size_t wishes = program_.wishes.size();
    auto conv = match_conv(program_, id);
    bool built = conv && build_conv(id, *conv, kernel, values);
    // A convolution that only waits for its input is not tried as a matrix product.
    if (!built && program_.wishes.size() == wishes && !factors->guarded)
      built = build_matmul(id, *factors, kernel, values);
    if (!built) return std::nullopt;
    finish(id, kernel, values);
    return kernel;
  }

 private:
  bool build_matmul(TensorId id, const Factors& factors, Kernel& kernel, std::map<std::string, Sym>& values) {
    const LoopTensor& out = loops_[id];
    const Expr sum = pool_[program_[id].contraction];
    std::vector<Var> out_vars, k_vars, all;
    for (size_t d = 0; d < out.vars.size(); ++d)
      if (out.vars[d].is_symbol()) out_vars.push_back({out.vars[d].symbol_name(), out.sizes[d]});
    for (const Sym& var : sum.vars)
      if (var.is_symbol()) k_vars.push_back({var.symbol_name(), var.node()->extent});
    all = out_vars;
    all.insert(all.end(), k_vars.begin(), k_vars.end());

    Expr a = pool_[factors.a], b = pool_[factors.b];
    auto address_a = element_address(pool_, schedule_.place(a.tensor), a.args);
    auto address_b = element_address(pool_, schedule_.place(b.tensor), b.args);
    const DType dtype = loops_[a.tensor].dtype;
    if (loops_[b.tensor].dtype != dtype || (dtype != DType::f32 && dtype != DType::bf16)) return false;
    auto strides_a = address_a ? strides_of(*address_a, all) : std::nullopt;
    auto strides_b = address_b ? strides_of(*address_b, all) : std::nullopt;
    if (!strides_a) return wish(id, false);
    if (!strides_b) return wish(id, true);

    auto in = [](const Strides& s, const Var& v) { return s.by_var.at(v.name) != Sym(0); };
    auto only_in = [&](const Strides& x, const Strides& y) {
      std::vector<Var> vars;
      for (const Var& v : out_vars)
        if (in(x, v) && !in(y, v)) vars.push_back(v);
      return vars;
    };
    // The columns are the operand's that is a weight; else the one whose variable is innermost in the output.
    const bool weight_a = loops_[a.tensor].kind == TensorKind::weight,
               weight_b = loops_[b.tensor].kind == TensorKind::weight;
    bool swap = weight_a && !weight_b;
    if (weight_a == weight_b && !out_vars.empty()) {
      swap = in(*strides_a, out_vars.back()) && !in(*strides_b, out_vars.back());
    }
    if (only_in(swap ? *strides_a : *strides_b, swap ? *strides_b : *strides_a).empty() &&
        !only_in(swap ? *strides_b : *strides_a, swap ? *strides_a : *strides_b).empty() &&
        !(swap ? weight_a : weight_b))
      swap = !swap;
    if (swap) {
      std::swap(a, b);
      std::swap(strides_a, strides_b);
    }

    std::vector<Var> n_vars = only_in(*strides_b, *strides_a), m_vars, batch_vars;
    for (const Var& v : out_vars) {
      if (in(*strides_b, v) && !in(*strides_a, v)) continue;
      // Of one row there is none to walk: it must not part its neighbours ([2, 1, 512] is two rows, not two batches).
      if (v.extent == Sym(1))
        values[v.name] = 0;
      else
        (in(*strides_b, v) ? batch_vars : m_vars).push_back(v);
    }
    Run k = take_run(k_vars, {&*strides_a, &*strides_b});
    Run n = take_run(n_vars, {&*strides_b});
    Run m = take_run(m_vars, {&*strides_a});
    if (!k_vars.empty() || !n_vars.empty()) return wish(id, !swap);
    batch_vars.insert(batch_vars.begin(), m_vars.begin(), m_vars.end());  // rows that one stride does not reach

    auto innermost = [](const Run& run, const Strides& s) {
      return run.vars.empty() ? Sym(0) : s.by_var.at(run.vars.back().name);
    };
    MatmulKernel work;
    work.dtype = dtype;
    work.a = a.tensor;
    MatmulKernel::Columns columns;
    MatmulKernel::Right right;
    right.tensor = b.tensor;
    columns.n = n.extent;
    work.m = m.extent;
    work.k = k.extent;
    work.a_row_stride = innermost(m, *strides_a);
    work.a_k_stride = k.vars.empty() ? Sym(1) : innermost(k, *strides_a);
    right.n_stride = n.vars.empty() ? Sym(1) : innermost(n, *strides_b);
    right.k_stride = k.vars.empty() ? Sym(1) : innermost(k, *strides_b);
    work.a_offset = strides_a->rest;
    right.offset = strides_b->rest;
    if (!work.k.is_constant() && !proves_lt(0, work.k)) return false;
    if (work.a_k_stride != Sym(1) && work.a_row_stride != Sym(1)) return wish(id, swap);

    Run batch;
    for (const Var& v : batch_vars) {
      batch.vars.push_back(v);
      batch.extent *= v.extent;
    }
    work.batch = batch.extent;
    const Sym b0 = Sym::index("b0", batch.extent), m0 = Sym::index("m0", m.extent), n0 = Sym::index("n0", n.extent);
    decode(batch, b0, values);
    decode(m, m0, values);
    decode(n, n0, values);
    for (const Var& v : batch_vars) {
      work.a_batch_offset += strides_a->by_var.at(v.name) * values.at(v.name);
      right.batch_offset += strides_b->by_var.at(v.name) * values.at(v.name);
    }

    // A weight becomes panels when Toroid compiles: [n/64][k/g][64][g].
    if (loops_[b.tensor].kind == TensorKind::weight && batch.extent == Sym(1) && n.extent.is_constant() &&
        work.k.is_constant() && !schedule_[schedule_.place(b.tensor).buffer].mutated) {
      auto constant = [](const Sym& s) { return s.constant(); };
      if (!constant(right.n_stride) || !constant(right.k_stride) || !constant(right.offset)) return false;
      right.packed = packed_constant(b.tensor, {n.extent.value(), work.k.value()},
                                     {right.n_stride.value(), right.k_stride.value()}, right.offset.value(), dtype);
    } else if (right.n_stride != Sym(1) && right.k_stride != Sym(1)) {
      return wish(id, !swap);
    }
    kernel.flops = Sym(2) * work.batch * work.m * n.extent * work.k;
    kernel.reads = {work.a, right.tensor};
    columns.right.push_back(std::move(right));
    work.columns.push_back(std::move(columns));
    kernel.work = std::move(work);
    return true;
  }

  // Asks for a copy of a factor, and gives up for now.
  bool wish(TensorId id, bool second) {
    program_.wishes.push_back({id, {}, second});
    return false;
  }

  bool build_conv(TensorId id, const ConvForm& form, Kernel& kernel, std::map<std::string, Sym>& values) {
    const LoopTensor& out = loops_[id];
    const LoopTensor& x = loops_[form.x];
    const Place& place = schedule_.place(form.x);
    const DType dtype = x.dtype;
    if (loops_[form.weight].dtype != dtype || (dtype != DType::f32 && dtype != DType::bf16)) return false;
    if (place.strides[static_cast<size_t>(form.x_dims[1])] != Sym(1) &&
        x.sizes[static_cast<size_t>(form.x_dims[1])] != Sym(1)) {
      // Channels are not innermost.
      if (form.x_dims[1] == 1) program_.wishes.push_back({id, form.x});
      return false;
    }
    ConvKernel work;
    work.dtype = dtype;
    work.x = form.x;
    work.batch = out.sizes[0];
    const bool flat = form.dims == 1;
    auto dim = [&](int d) { return static_cast<size_t>(form.x_dims[d]); };
    work.in_h = flat ? Sym(1) : x.sizes[dim(2)];
    work.in_w = x.sizes[dim(flat ? 2 : 3)];
    work.out_h = flat ? Sym(1) : out.sizes[2];
    work.out_w = out.sizes[flat ? 2 : 3];
    work.in_channels = x.sizes[dim(1)].value();
    work.out_channels = form.out_channels;
    work.groups = form.groups;
    for (int d = 0; d < 2; ++d) {
      work.kernel[d] = form.kernel[d];
      work.stride[d] = form.stride[d];
      work.padding[d] = form.padding[d];
      work.dilation[d] = form.dilation[d];
    }
    work.x_batch_stride = place.strides[dim(0)];
    work.x_row_stride = flat ? Sym(0) : place.strides[dim(2)];
    work.x_column_stride = place.strides[dim(flat ? 2 : 3)];
    work.x_offset = place.offset;
    work.depthwise = form.groups > 1 && form.in_channels == 1 && form.out_channels == form.groups;

    const int64_t taps = form.kernel[0] * form.kernel[1], ic = form.in_channels;
    if (work.depthwise) {
      // [taps][channels]
      work.packed = view_constant(form.weight, {taps, form.out_channels}, {1, taps}, dtype);
    } else if (form.depth > 1) {
      // Columns (kh, kw, kd, c). Pairs of an odd c would reach into the next kd.
      const int64_t c = ic / form.depth;
      if (dtype == DType::bf16 && c % 2) return false;
      work.packed = packed_constant(form.weight, {form.out_channels, taps, form.depth, c},
                                    {taps * ic, 1, taps, form.depth * taps}, 0, dtype, form.groups);
    } else {
      // Rows are output channels, columns (kh, kw, ic); one group's panels after another's.
      work.packed =
          packed_constant(form.weight, {form.out_channels, taps, ic}, {taps * ic, 1, taps}, 0, dtype, form.groups);
    }
    const Sym n0 = Sym::index("n0", work.batch), h0 = Sym::index("h0", work.out_h), w0 = Sym::index("w0", work.out_w),
              c0 = Sym::index("c0", work.out_channels);
    const Sym kernel_vars[] = {n0, c0, flat ? w0 : h0, w0};
    for (size_t d = 0; d < out.vars.size(); ++d)
      if (out.vars[d].is_symbol()) values[out.vars[d].symbol_name()] = kernel_vars[d];
    kernel.flops = Sym(2 * taps * ic) * work.batch * work.out_h * work.out_w * Sym(work.out_channels);
    kernel.reads = {form.x, form.weight};
    kernel.work = work;
    return true;
  }

  // A strided view of a contiguous weight.
  BufferId view_constant(TensorId weight, std::vector<int64_t> sizes, std::vector<int64_t> strides, DType dtype) {
    Buffer buffer;
    buffer.kind = BufferKind::constant;
    buffer.name = loops_[weight].name + ".taps";
    buffer.device = loops_[weight].device;
    buffer.dtype = dtype;
    buffer.constant_sizes = sizes;
    int64_t elements = 1;
    for (int64_t size : sizes) elements *= size;
    buffer.elements = elements;
    RecipeStep load{"load"}, view{"as_strided"};
    load.weight = loops_[weight].weight.index;
    view.sizes = std::move(sizes);
    view.strides = std::move(strides);
    buffer.recipe = {load, view};
    return shared(std::move(buffer));
  }

  // The packed form of a weight seen as a [rows, columns…] matrix with these strides (over the contiguous weight): its
  // rows as one matrix, or as one after another, each of a group.
  BufferId packed_constant(TensorId weight, std::vector<int64_t> sizes, std::vector<int64_t> strides, int64_t offset,
                           DType dtype, int64_t groups = 1) {
    Buffer buffer;
    buffer.kind = BufferKind::constant;
    buffer.name = loops_[weight].name + ".packed";
    buffer.device = loops_[weight].device;
    buffer.dtype = dtype;
    const int64_t g = dtype == DType::bf16 ? 2 : 1, rows = sizes[0] / groups;
    // Channels are read in pairs: an odd count gets a channel of zeros.
    const bool odd = sizes.size() > 2 && sizes.back() % g != 0;
    int64_t columns = 1;
    for (size_t d = 1; d < sizes.size(); ++d) columns *= sizes[d] + (odd && d + 1 == sizes.size() ? 1 : 0);
    const int64_t rest = rows % 64, width = (rest + 15) / 16 * 16;
    const int64_t elements = groups * (rows / 64 * 64 + width) * ((columns + g - 1) / g * g);
    buffer.constant_sizes = {sizes[0], columns};
    buffer.elements = elements;
    RecipeStep load{"load"};
    load.weight = loops_[weight].weight.index;
    RecipeStep view{"as_strided"}, pack{"pack"};
    view.sizes = sizes;
    view.strides = strides;
    view.offset = offset;
    pack.k_group = g;
    buffer.recipe.push_back(load);
    buffer.recipe.push_back(view);
    if (odd) {
      RecipeStep ones{"mul_scalar"}, zeros{"mul_scalar"}, concat{"concat"};  // both sides of the concat are numbers
      ones.value = 1;
      view.sizes.back() = 1;
      concat.count = 2;
      concat.dim = static_cast<int64_t>(sizes.size()) - 1;
      buffer.recipe.insert(buffer.recipe.end(), {ones, load, view, zeros, concat});
    }
    if (sizes.size() > 2) {
      RecipeStep flat{"as_strided"};
      flat.sizes = {rows, columns};
      flat.strides = {columns, 1};
      if (groups > 1) {
        flat.sizes.insert(flat.sizes.begin(), groups);
        flat.strides.insert(flat.strides.begin(), rows * columns);
      }
      buffer.recipe.push_back(flat);
    }
    buffer.recipe.push_back(pack);
    return shared(std::move(buffer));
  }

  // Tied weights and repeated uses share one constant.
  BufferId shared(Buffer buffer) {
    auto same = [&](const Buffer& other) {
      if (other.kind != BufferKind::constant || other.device != buffer.device || other.dtype != buffer.dtype ||
          other.recipe.size() != buffer.recipe.size())
        return false;
      for (size_t i = 0; i < buffer.recipe.size(); ++i) {
        const RecipeStep &x = other.recipe[i], &y = buffer.recipe[i];
        if (x.op != y.op || x.weight != y.weight || x.sizes != y.sizes || x.strides != y.strides ||
            x.offset != y.offset || x.k_group != y.k_group || x.count != y.count)
          return false;
      }
      return true;
    };
    for (size_t i = 0; i < schedule_.buffers.size(); ++i)
      if (same(schedule_.buffers[i])) return BufferId{static_cast<int32_t>(i)};
    return schedule_.add(std::move(buffer));
  }

  // Epilogue: each stored member's value over the accumulator, at kernel variables.
  void finish(TensorId id, Kernel& kernel, const std::map<std::string, Sym>& values) {
    Expr acc;
    acc.kind = ExprKind::local;
    acc.local = 0;
    acc.dtype = DType::f32;
    const ExprId local = pool_.add(acc);
    std::map<TensorId, ExprId> value_of;
    std::vector<std::string> note;
    for (TensorId member : group_.members) {
      const LoopTensor& tensor = loops_[member];
      std::map<std::string, Sym> renamed;
      ExprId body = program_[member].body;
      if (member == id) {
        renamed = values;
        body = replace_exprs(pool_, body, {{program_[id].contraction, local}});
      } else {
        for (const auto& [name, value] : group_.follows.at(member)) renamed.emplace(name, substitute(value, values));
      }
      for (size_t d = 0; d < tensor.vars.size(); ++d)
        if (tensor.vars[d].is_symbol()) renamed.emplace(tensor.vars[d].symbol_name(), Sym(0));
      value_of[member] = pool_.rewrite(body, renamed, [&](const Expr& load, const std::vector<ExprId>&) -> ExprId {
        auto found = value_of.find(load.tensor);
        return found == value_of.end() ? ExprId{} : found->second;
      });
      std::vector<ExprId> index;
      for (const Sym& var : tensor.vars)
        index.push_back(pool_.index(var.is_symbol() ? renamed.at(var.symbol_name()) : var));
      if (program_[member].stored) {
        kernel.epilogue.push_back({member, index, value_of[member]});
        kernel.writes.push_back(member);
      }
      note.push_back(tensor.name);
    }
    kernel.note = join(note, " + ");
    if (auto* work = std::get_if<MatmulKernel>(&kernel.work)) work->columns[0].stores = kernel.epilogue.size();
  }

  Program& program_;
  Loops& loops_;
  ExprPool& pool_;
  Schedule& schedule_;
  const Group& group_;
};

}  // namespace

std::optional<Kernel> match_template(Program& program, Schedule& schedule, const Group& group) {
  return TemplateBuilder(program, schedule, group).build();
}

}  // namespace toroid::fuse
