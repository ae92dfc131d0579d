// The table itself, and what a row reads of a call: arguments by name, with their types.
#include "ops/op_table.h"

#include <algorithm>

#include "base/check.h"
#include "ops/linalg.h"
#include "ops/plugin.h"
#include "ops/quantized.h"
#include "ops/rules.h"

namespace toroid {

namespace {

template <class T>
const T* get(const Arg& arg) {
  return std::get_if<T>(&arg);
}

// An empty list in a text has no element to tell its kind by.
bool is_empty_list(const Arg& arg) {
  if (auto v = get<std::vector<ValueId>>(arg)) return v->empty();
  if (auto v = get<std::vector<double>>(arg)) return v->empty();
  if (auto v = get<std::vector<bool>>(arg)) return v->empty();
  if (auto v = get<std::vector<std::string>>(arg)) return v->empty();
  return false;
}

int64_t wrap(const Call& call, int64_t dim, int64_t rank) {
  rank = std::max<int64_t>(rank, 1);  // a 0-d tensor counts as one dim here
  TD_CHECK(dim >= -rank && dim < rank, "`{}`: dim {} of a tensor of rank {}", call.op(), dim, rank);
  return dim < 0 ? dim + rank : dim;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------- Call

bool Call::has(std::string_view name) const {
  int at = schema_.find_arg(name);
  return at >= 0 && !std::holds_alternative<None>(arg(name));
}

const Arg& Call::arg(std::string_view name) const {
  int at = schema_.find_arg(name);
  TD_CHECK(at >= 0, "`{}` has no argument `{}`", node_.op, name);
  if (static_cast<size_t>(at) < node_.args.size()) return node_.args[static_cast<size_t>(at)];
  const auto& fallback = schema_.args[static_cast<size_t>(at)].default_value;
  TD_CHECK(fallback.has_value(), "`{}` is called without `{}`", node_.op, name);
  return *fallback;
}

ValueId Call::value(std::string_view name) const {
  const ValueId* id = get<ValueId>(arg(name));
  TD_CHECK(id && id->valid(), "`{}`: argument `{}` is no tensor", node_.op, name);
  return *id;
}

std::vector<ValueId> Call::values(std::string_view name) const {
  const Arg& a = arg(name);
  if (auto list = get<std::vector<ValueId>>(a)) return *list;
  if (is_empty_list(a)) return {};
  if (auto list = get<SymList>(a); list && list->empty()) return {};
  return {value(name)};
}

const TensorType& Call::type(std::string_view name) const { return type(value(name)); }

Sym Call::integer(std::string_view name) const {
  const Arg& a = arg(name);
  if (auto v = get<Sym>(a)) return *v;
  if (auto v = get<bool>(a)) return Sym(*v ? 1 : 0);
  if (auto v = get<double>(a); v && *v == static_cast<double>(static_cast<int64_t>(*v)))
    return static_cast<int64_t>(*v);
  TD_CHECK(false, "`{}`: argument `{}` is no integer", node_.op, name);
}

int64_t Call::constant(std::string_view name) const {
  Sym v = integer(name);
  TD_CHECK(v.is_constant(), "`{}`: argument `{}` is {}, must be a known integer", node_.op, name, to_string(v));
  return v.value();
}

SymList Call::integers(std::string_view name) const {
  const Arg& a = arg(name);
  if (auto v = get<SymList>(a)) return *v;
  if (auto v = get<Sym>(a)) return {*v};
  if (auto v = get<std::vector<bool>>(a)) {
    SymList out;
    for (bool x : *v) out.push_back(x ? 1 : 0);
    return out;
  }
  if (is_empty_list(a)) return {};
  TD_CHECK(false, "`{}`: argument `{}` is no list of integers", node_.op, name);
}

SymList Call::integers(std::string_view name, size_t length) const {
  SymList list = integers(name);
  if (list.size() == 1 && length != 1) list.resize(length, list[0]);
  TD_CHECK(list.size() == length, "`{}`: argument `{}` has {} entries, must have {}", node_.op, name, list.size(),
           length);
  return list;
}

double Call::number(std::string_view name) const {
  const Arg& a = arg(name);
  if (auto v = get<double>(a)) return *v;
  if (auto v = get<bool>(a)) return *v ? 1 : 0;
  if (auto v = get<Sym>(a)) {
    if (v->is_constant()) return static_cast<double>(v->value());
    std::set<std::string> names;
    collect_symbols(*v, names);
    if (names.empty()) return evaluate_float(*v, {});
  }
  if (auto v = get<std::complex<double>>(a)) {
    if (v->imag() == 0) return v->real();
    refuse(format("`{}` with a complex `{}`", node_.op, name));
  }
  TD_CHECK(false, "`{}`: argument `{}` is no known number", node_.op, name);
}

bool Call::flag(std::string_view name) const {
  const Arg& a = arg(name);
  if (auto v = get<bool>(a)) return *v;
  return constant(name) != 0;
}

std::string Call::text(std::string_view name) const {
  const std::string* v = get<std::string>(arg(name));
  TD_CHECK(v, "`{}`: argument `{}` is no text", node_.op, name);
  return *v;
}

std::optional<DType> Call::dtype(std::string_view name) const {
  if (!has(name)) return std::nullopt;
  const DType* v = get<DType>(arg(name));
  TD_CHECK(v, "`{}`: argument `{}` is no dtype", node_.op, name);
  return *v;
}

int Call::scalar_category(std::string_view name) const {
  const Arg& a = arg(name);
  if (get<bool>(a)) return 0;
  if (auto v = get<Sym>(a)) return is_float_sym(*v) ? 2 : 1;
  if (get<double>(a)) return 2;
  TD_CHECK(get<std::complex<double>>(a), "`{}`: argument `{}` is no number", node_.op, name);
  return 3;
}

int64_t Call::dim(std::string_view name, int64_t rank) const { return wrap(*this, constant(name), rank); }

std::vector<int64_t> Call::dims(std::string_view name, int64_t rank) const {
  std::vector<int64_t> out;
  if (has(name))
    for (const Sym& d : integers(name)) out.push_back(wrap(*this, d.value(), rank));
  if (out.empty())
    for (int64_t d = 0; d < rank; ++d) out.push_back(d);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  if (rank == 0) out.clear();
  return out;
}

// ----------------------------------------------------------------------------------------------------- LowerCall

ExprId LowerCall::scalar(LoopBuilder& b, std::string_view name, DType dtype) const {
  const Arg& a = arg(name);
  if (auto v = get<Sym>(a)) {
    if (is_float_sym(*v)) return b.cvt(sym_expr(b, *v), dtype);
    return b.cvt(b.index(*v), dtype);
  }
  if (auto v = get<std::complex<double>>(a)) {
    const DType part = register_type(part_type(is_complex(dtype) ? dtype : DType::c128));
    const ExprId z = b.pool().pair(number_expr(b, v->real(), part), number_expr(b, v->imag(), part));
    return is_complex(dtype) ? z : b.cvt(b.pool().real(z), dtype);
  }
  return number_expr(b, number(name), dtype);
}

// ------------------------------------------------------------------------------------------------- OpRow, OpTable

Result<std::vector<LoopValue>> OpRow::lowered(LoopBuilder& b, const LowerCall& call) const {
  try {
    return lower_rule(b, call);
  } catch (Refused& refused) {
    return fail(std::move(refused.diagnostic));
  }
}

OpRow& OpRow::lower(LowerOne rule) {
  lower_rule = [rule = std::move(rule)](LoopBuilder& b, const LowerCall& call) -> Result<std::vector<LoopValue>> {
    TD_TRY(LoopValue value, rule(b, call));
    return std::vector<LoopValue>{std::move(value)};
  };
  return *this;
}

const OpTable& OpTable::all() {
  static const OpTable table = [] {
    OpTable t;
    add_pointwise_ops(t);
    add_compare_ops(t);
    add_activation_ops(t);
    add_creation_ops(t);
    add_view_ops(t);
    add_slice_ops(t);
    add_join_ops(t);
    add_reduction_ops(t);
    add_norm_ops(t);
    add_matmul_ops(t);
    add_conv_ops(t);
    add_pool_ops(t);
    add_pool_gradient_ops(t);
    add_resample_ops(t);
    add_resample_gradient_ops(t);
    add_index_ops(t);
    add_attention_ops(t);
    add_recurrent_ops(t);
    add_scatter_ops(t);
    add_loss_ops(t);
    add_dynamic_ops(t);
    add_linalg_ops(t);
    add_composed_linalg_ops(t);
    add_spectral_ops(t);
    add_special_ops(t);
    add_sort_ops(t);
    add_scan_ops(t);
    add_random_ops(t);
    add_complex_ops(t);
    add_fft_ops(t);
    add_composed_view_ops(t);
    add_composed_math_ops(t);
    add_composed_loss_ops(t);
    add_composed_index_ops(t);
    add_grid_ops(t);
    add_quantized_ops(t);
    add_composed_norm_ops(t);
    add_composed_gradient_ops(t);
    add_window_ops(t);
    add_bit_ops(t);
    add_aliases(t);
    return t;
  }();
  return table;
}

OpRow& OpTable::add(std::string name) {
  auto [at, fresh] = rows_.try_emplace(name, std::make_unique<OpRow>());
  TD_CHECK(fresh, "op `{}` has two rows", name);
  at->second->name = std::move(name);
  return *at->second;
}

const OpRow* OpTable::find(std::string_view name) const {
  auto at = rows_.find(std::string(name));
  return at == rows_.end() ? find_plugin_row(name) : at->second.get();
}

std::vector<std::string> OpTable::names() const { return like(""); }

std::vector<std::string> OpTable::like(std::string_view part) const {
  std::vector<std::string> out;
  for (const auto& [name, row] : rows_)
    if (name.find(part) != std::string::npos) out.push_back(name);
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace toroid
