// Matrix products over one left operand become one kernel: a product whose result another one's epilogue reads, element
// by element, is computed in the same tile (gate and up of a gated unit); others lie side by side (query, key and
// value).
#include <algorithm>
#include <functional>

#include "fuse/program.h"

namespace toroid::fuse {
namespace {

constexpr size_t products_limit = 8;  // of one kernel: its text grows with them

class Joiner {
 public:
  Joiner(Program& program, Schedule& schedule, std::vector<Kernel>& kernels)
      : program_(program), pool_(program.pool()), schedule_(schedule), kernels_(kernels) {
    for (size_t k = 0; k < kernels.size(); ++k) {
      reads_.push_back(reads_of(kernels[k]));
      for (TensorId id : kernels[k].writes) writer_[id] = k;
    }
  }

  void run() {
    each_pair([&](size_t x, size_t y) { return stack(x, y) || stack(y, x); });
    each_pair([&](size_t x, size_t y) { return place_beside(x, y); });
    std::erase_if(kernels_, [](const Kernel& kernel) { return kernel.writes.empty(); });
  }

 private:
  // Pairs over one left operand, until no more of them join.
  template <class Join>
  void each_pair(const Join& join) {
    std::map<TensorId, std::vector<size_t>> over;
    for (size_t k = 0; k < kernels_.size(); ++k)
      if (MatmulKernel* work = product(k)) over[work->a].push_back(k);
    for (auto& [left, list] : over)
      for (size_t i = 0; i < list.size(); ++i)
        for (size_t j = i + 1; j < list.size(); ++j)
          if (same_left(list[i], list[j]) && join(list[i], list[j])) i = 0, j = 0;
  }

  // A kernel of packed products that has not gone into another.
  MatmulKernel* product(size_t k) {
    auto* work = std::get_if<MatmulKernel>(&kernels_[k].work);
    if (!work || kernels_[k].writes.empty()) return nullptr;
    for (const MatmulKernel::Columns& columns : work->columns)
      for (const MatmulKernel::Right& b : columns.right)
        if (!b.packed) return nullptr;
    return work;
  }

  // The same rows of the same operand.
  bool same_left(size_t k, size_t other) {
    MatmulKernel *x = product(k), *y = product(other);
    return x && y && x->dtype == y->dtype && x->batch == y->batch && x->m == y->m && x->k == y->k &&
           x->a_offset == y->a_offset && x->a_batch_offset == y->a_batch_offset && x->a_row_stride == y->a_row_stride &&
           x->a_k_stride == y->a_k_stride;
  }

  std::vector<ExprId> loads_of(const Kernel& kernel) const {
    std::vector<ExprId> loads;
    auto from = [&](ExprId value) { collect_loads(pool_, value, loads); };
    if (auto* nest = std::get_if<LoopKernel>(&kernel.work))
      for (const Phase* phase : nest->all_phases()) {
        for (const Reduction& reduction : phase->reductions) from(reduction.value);
        for (const StoreTo& store : phase->stores) from(store.value);
      }
    if (auto* work = std::get_if<AttentionKernel>(&kernel.work); work && work->score) from(work->score);
    for (const StoreTo& store : kernel.epilogue) from(store.value);
    return loads;
  }
  std::set<TensorId> reads_of(const Kernel& kernel) const {
    std::set<TensorId> reads(kernel.reads.begin(), kernel.reads.end());
    for (ExprId load : loads_of(kernel)) reads.insert(pool_[load].tensor);
    return reads;
  }

  // Does `to` need what `from` writes, by way of other kernels?
  bool needs_by_others(size_t to, size_t from) const {
    std::set<size_t> seen;
    std::function<bool(size_t)> needs = [&](size_t k) {
      for (TensorId id : reads_[k]) {
        auto found = writer_.find(id);
        if (found == writer_.end() || found->second == k || (k == to && found->second == from)) continue;
        if (found->second == from || (seen.insert(found->second).second && needs(found->second))) return true;
      }
      return false;
    };
    return needs(to);
  }
  bool needs_directly(size_t to, size_t from) const {
    return std::any_of(kernels_[from].writes.begin(), kernels_[from].writes.end(),
                       [&](TensorId id) { return reads_[to].contains(id); });
  }

  // The product of kernel `first` into the tiles of kernel `second`, whose epilogue reads it.
  bool stack(size_t first, size_t second) {
    Kernel &x = kernels_[first], &y = kernels_[second];
    MatmulKernel &a = *product(first), &b = *product(second);
    if (a.columns.size() > 1 || b.columns.size() > 1 || a.columns[0].n != b.columns[0].n) return false;
    if (a.columns[0].right.size() + b.columns[0].right.size() > products_limit) return false;
    // What it reads are the elements that `first` stores at that point.
    std::map<ExprId, ExprId> replaced;
    const auto moved = static_cast<int32_t>(b.columns[0].right.size());
    for (ExprId load : loads_of(y))
      for (const StoreTo& store : x.epilogue) {
        if (store.tensor != pool_[load].tensor) continue;
        if (pool_[load].args != store.index) return false;
        replaced[load] = renumbered(store.value, moved);
      }
    if (replaced.empty() || needs_by_others(second, first)) return false;

    std::vector<StoreTo> stores;
    std::vector<TensorId> written;
    for (const StoreTo& store : x.epilogue) {
      bool wanted = program_[store.tensor].is_output;
      for (size_t k = 0; k < kernels_.size(); ++k) wanted |= k != second && reads_[k].contains(store.tensor);
      if (wanted) {
        stores.push_back({store.tensor, store.index, renumbered(store.value, moved)});
        written.push_back(store.tensor);
      } else {
        schedule_.place(store.tensor) = {};
        program_[store.tensor].stored = false;
      }
    }
    for (const StoreTo& store : y.epilogue)
      stores.push_back({store.tensor, store.index, replace_exprs(pool_, store.value, replaced)});
    y.epilogue = std::move(stores);
    y.writes.insert(y.writes.begin(), written.begin(), written.end());
    b.columns[0].stores = y.epilogue.size();
    b.columns[0].right.insert(b.columns[0].right.end(), a.columns[0].right.begin(), a.columns[0].right.end());
    finish(first, second);
    return true;
  }

  // The same value with its accumulators' numbers higher.
  ExprId renumbered(ExprId value, int32_t by) {
    std::map<ExprId, ExprId> locals;
    for (ExprId id : pool_.postorder({value})) {
      if (pool_[id].kind != ExprKind::local) continue;
      Expr local = pool_[id];
      local.local += by;
      locals[id] = pool_.add(local);
    }
    return replace_exprs(pool_, value, locals);
  }

  bool place_beside(size_t first, size_t second) {
    Kernel &x = kernels_[first], &y = kernels_[second];
    MatmulKernel &a = *product(first), &b = *product(second);
    size_t products = 0;
    for (const MatmulKernel* work : {&a, &b})
      for (const MatmulKernel::Columns& columns : work->columns) products += columns.right.size();
    if (products > products_limit) return false;
    if (needs_directly(first, second) || needs_directly(second, first)) return false;
    // What is read before the other is computed would live longer for nothing.
    const bool later = x.writes.front() < y.writes.front();
    const TensorId until = (later ? y : x).writes.front();
    for (size_t k = 0; k < kernels_.size(); ++k)
      if (!kernels_[k].writes.empty() && kernels_[k].writes.front() < until &&
          needs_directly(k, later ? first : second))
        return false;
    if (needs_by_others(first, second) || needs_by_others(second, first)) return false;
    a.columns.insert(a.columns.end(), b.columns.begin(), b.columns.end());
    x.epilogue.insert(x.epilogue.end(), y.epilogue.begin(), y.epilogue.end());
    x.writes.insert(x.writes.end(), y.writes.begin(), y.writes.end());
    finish(second, first);
    return true;
  }

  // `from` has gone into `to`.
  void finish(size_t from, size_t to) {
    Kernel &x = kernels_[from], &y = kernels_[to];
    for (TensorId id : x.reads)
      if (std::find(y.reads.begin(), y.reads.end(), id) == y.reads.end()) y.reads.push_back(id);
    y.flops += x.flops;
    y.note += " + " + x.note;
    x = Kernel{};
    reads_[from].clear();
    reads_[to] = reads_of(y);
    for (TensorId id : y.writes) writer_[id] = to;
  }

  Program& program_;
  ExprPool& pool_;
  Schedule& schedule_;
  std::vector<Kernel>& kernels_;
  std::vector<std::set<TensorId>> reads_;  // of each kernel
  std::map<TensorId, size_t> writer_;
};

}  // namespace

void join_products(Program& program, Schedule& schedule, std::vector<Kernel>& kernels) {
  Joiner(program, schedule, kernels).run();
}

}  // namespace toroid::fuse
