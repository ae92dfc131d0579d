// Groups of tensors that become one kernel. A contraction takes the maps behind it as its epilogue. Everything else
// joins by rows: tensors that share their outer dims are computed one outer point after another, so that what passes
// between them stays in registers or in the nearest cache.
#include <algorithm>
#include <functional>
#include <set>

#include "base/check.h"
#include "fuse/program.h"

namespace toroid::fuse {
namespace {

constexpr int64_t row_bytes_limit = 256 << 10;  // a row must stay in the second-level cache

// For each outer position of a producer's group: the reader's dim that walks it. Nothing when some load of `producer`
// in the reader's body is not at the same outer point.
class Relation {
 public:
  Relation(Program& program, TensorId producer, TensorId reader)
      : program_(program), producer_(producer), reader_(reader) {}

  // The reader's dim for the producer's dim: -1 when it is not one plain output variable, in every load.
  int reader_dim(int producer_dim) const {
    int found = -2;
    for (const Use& use : program_[reader_].uses) {
      if (use.tensor != producer_) continue;
      int dim = var_dim(use.index[static_cast<size_t>(producer_dim)]);
      if (found != -2 && found != dim) return -1;
      found = dim;
    }
    return found < 0 ? -1 : found;
  }
  // The producer's dim that the reader's output dim walks, in every load; -1 when there is none.
  int producer_dim(int reader_dim) const {
    const size_t rank = program_.loops[producer_].sizes.size();
    for (size_t d = 0; d < rank; ++d)
      if (this->reader_dim(static_cast<int>(d)) == reader_dim) return static_cast<int>(d);
    return -1;
  }

 private:
  int var_dim(ExprId index) const {
    std::string name;
    if (!is_index_symbol(program_.pool(), index, &name)) return -1;
    const SymList& vars = program_.loops[reader_].vars;
    for (size_t d = 0; d < vars.size(); ++d)
      if (vars[d].is_symbol() && vars[d].symbol_name() == name) return static_cast<int>(d);
    return -1;
  }
  Program& program_;
  TensorId producer_, reader_;
};

// Dims of more than one element.
std::vector<int> real_dims(const Program& program, TensorId id) {
  std::vector<int> dims;
  const SymList& sizes = program.loops[id].sizes;
  for (size_t d = 0; d < sizes.size(); ++d)
    if (sizes[d] != Sym(1)) dims.push_back(static_cast<int>(d));
  return dims;
}

class Grouper {
 public:
  explicit Grouper(Program& program) : program_(program), loops_(program.loops) {}

  void run() {
    for (size_t i = 0; i < program_.items.size(); ++i) {
      const TensorId id{static_cast<int32_t>(i)};
      const Item& item = program_[id];
      if (item.kind == Kind::source || item.inlined) continue;
      place_alone(id);
      if (item.kind == Kind::contract || group(item.group).closed) continue;
      if (item.kind == Kind::map && join_template(id)) continue;
      join_producers(id);
    }
    join_siblings();
    drop_empty();
  }

 private:
  Group& group(int32_t index) { return program_.groups[static_cast<size_t>(index)]; }

  void place_alone(TensorId id) {
    Item& item = program_[id];
    Group g;
    g.members = {id};
    g.is_template = item.kind == Kind::contract;
    g.flexible = item.kind == Kind::map;
    g.closed = item.kind == Kind::copy;
    std::vector<int> dims = real_dims(program_, id);
    // A scan walks its dim in order, in a kernel of its own.
    std::vector<ExprId> reductions;
    collect_reductions(program_.pool(), item.body, reductions);
    for (ExprId reduction : reductions) {
      const Expr& scan = program_.pool()[reduction];
      if (scan.kind != ExprKind::scan) continue;
      g.closed = true;
      const Sym at = program_.pool().as_index(scan.args[1]).value_or(Sym(0));
      std::erase_if(dims, [&](int d) { return loops_[id].vars[static_cast<size_t>(d)] == at; });
    }
    g.outer_dims[id] = dims;
    for (int d : dims) g.outer.push_back(loops_[id].sizes[static_cast<size_t>(d)]);
    item.group = static_cast<int32_t>(program_.groups.size());
    program_.groups.push_back(std::move(g));
  }

  // A map whose only contraction producer it reads element by element becomes that contraction's epilogue.
  bool join_template(TensorId id) {
    const int32_t own = program_[id].group;
    for (const Use& use : program_[id].uses) {
      const int32_t target = program_[use.tensor].group;
      if (target < 0 || target == own || !group(target).is_template) continue;
      const TensorId producer = use.tensor;
      if (program_[producer].readers.size() != 1 || program_[producer].is_output ||
          group(target).members.back() != producer) {
        program_.say(format("%{} is not an epilogue of %{}: other readers", loops_[id].name, loops_[producer].name));
        continue;
      }
      if (!one_to_one(producer, id)) {
        program_.say(format("%{} is not an epilogue of %{}: it reads it at other indices", loops_[id].name,
                            loops_[producer].name));
        continue;
      }
      if (reaches_through_others(target, own)) continue;
      group(target).members.push_back(id);
      program_[id].group = target;
      group(own).members.clear();
      return true;
    }
    return false;
  }

  // Every load of `producer` is at a permutation of all the reader's variables (dims of one element aside).
  bool one_to_one(TensorId producer, TensorId reader) {
    Relation relation(program_, producer, reader);
    std::set<int> used;
    for (int d : real_dims(program_, producer)) {
      int dim = relation.reader_dim(d);
      if (dim < 0 || !used.insert(dim).second) return false;
      // A reader of part of it, or of more than it (a concatenation), is another space.
      if (!proves_eq(loops_[producer].sizes[static_cast<size_t>(d)], loops_[reader].sizes[static_cast<size_t>(dim)]))
        return false;
    }
    for (int d : real_dims(program_, reader))
      if (!used.contains(d)) return false;
    return true;
  }

  void join_producers(TensorId id) {
    for (size_t u = 0; u < program_[id].uses.size(); ++u) {
      const TensorId producer = program_[id].uses[u].tensor;
      const int32_t from = program_[producer].group, own = program_[id].group;
      if (from < 0 || from == own || group(from).is_template || group(from).closed) continue;
      if (reaches_through_others(from, own)) {
        program_.say(format("%{} does not join %{}: another kernel stands between them", loops_[id].name,
                            loops_[producer].name));
        continue;
      }
      if (!merge(from, own, id))
        program_.say(format("%{} does not join %{}: their rows differ", loops_[id].name, loops_[producer].name));
    }
  }

  // Merges the group of the new tensor `id` (own) into an earlier group that it reads.
  bool merge(int32_t from, int32_t own, TensorId id) {
    Group merged = group(from);
    const Group reader = group(own);
    // The reader's group holds `id` last; the others joined it through earlier producers. All must agree on the outer
    // dims.
    std::vector<TensorId> producers;
    for (const Use& use : program_[id].uses)
      if (program_[use.tensor].group == from) producers.push_back(use.tensor);

    // outer position of `merged` -> dim of id
    std::vector<int> map(merged.outer.size(), -1);
    for (size_t p = 0; p < merged.outer.size(); ++p) {
      int agreed = -2;
      for (TensorId producer : producers) {
        int producer_dim = merged.outer_dims[producer][p];
        int dim = Relation(program_, producer, id).reader_dim(producer_dim);
        if (agreed != -2 && agreed != dim) dim = -1;
        agreed = dim;
      }
      map[p] = agreed;
    }
    const std::vector<int> reader_dims = reader.outer_dims.at(id);
    std::vector<size_t> kept;  // outer positions of merged that stay
    if (reader.flexible && merged.flexible) {
      // Maps over one space: only when they walk it alike, and their sizes agree.
      for (size_t p = 0; p < map.size(); ++p) {
        if (map[p] < 0) return false;
        kept.push_back(p);
      }
      if (map.size() != real_dims(program_, id).size()) return false;
    } else if (reader.flexible) {
      for (size_t p = 0; p < map.size(); ++p) {
        if (map[p] < 0) return false;
        kept.push_back(p);
      }
    } else if (merged.flexible) {
      // A reduction over maps: the outer dims are those of the reduction.
      for (int dim : reader_dims) {
        auto found = std::find(map.begin(), map.end(), dim);
        if (found == map.end()) return false;
        kept.push_back(static_cast<size_t>(found - map.begin()));
      }
    } else {
      if (map.size() != reader_dims.size()) return false;
      for (size_t p = 0; p < map.size(); ++p) {
        if (map[p] < 0) return false;
        kept.push_back(p);
      }
    }
    std::set<int> distinct;
    for (size_t p : kept)
      if (!distinct.insert(map[p]).second) return false;
    if (!reader.flexible && !merged.flexible) {
      for (int dim : reader_dims)
        if (!distinct.contains(dim)) return false;
    }

    // The outer dims of every member, in merged's order.
    Group result;
    result.flexible = merged.flexible && reader.flexible;
    for (size_t p : kept) result.outer.push_back(merged.outer[p]);
    for (TensorId member : merged.members) {
      std::vector<int> dims;
      for (size_t p : kept) dims.push_back(merged.outer_dims[member][p]);
      result.members.push_back(member);
      result.outer_dims[member] = dims;
    }
    std::vector<int> own_dims;
    for (size_t p : kept) own_dims.push_back(map[p]);
    // Earlier members of the reader's group follow through the reader's own dims.
    for (TensorId member : reader.members) {
      std::vector<int> dims;
      for (int dim : own_dims) {
        auto position = std::find(reader_dims.begin(), reader_dims.end(), dim);
        if (position == reader_dims.end()) {
          if (member != id) return false;
          dims.push_back(dim);
        } else {
          dims.push_back(reader.outer_dims.at(member)[static_cast<size_t>(position - reader_dims.begin())]);
        }
      }
      for (size_t p = 0; p < dims.size(); ++p)
        if (!proves_eq(loops_[member].sizes[static_cast<size_t>(dims[p])], result.outer[p])) return false;
      result.members.push_back(member);
      result.outer_dims[member] = dims;
    }
    std::sort(result.members.begin(), result.members.end());
    if (!result.flexible && !rows_fit(result)) return false;
    group(from) = result;
    group(own) = {};
    for (TensorId member : result.members) program_[member].group = from;
    return true;
  }

  // What passes between members must stay near: few outer points with long rows are better as kernels of their own,
  // which threads can share.
  bool rows_fit(const Group& g) {
    const int64_t points = program_.at_hints(product(g.outer));
    int64_t longest = 0;
    for (TensorId member : g.members) {
      int64_t row = program_.elements_at_hints(member) / std::max<int64_t>(points, 1);
      longest = std::max(longest, row * dtype_bytes(loops_[member].dtype));
      for (const Use& use : program_[member].uses)
        longest = std::max(longest, program_.elements_at_hints(use.tensor) / std::max<int64_t>(points, 1) * 4);
    }
    return longest <= row_bytes_limit || points >= 16;
  }

  // Sibling reductions over one input, and maps over one space, that read the same tensor: one pass instead of two.
  void join_siblings() {
    for (size_t t = 0; t < program_.items.size(); ++t) {
      std::vector<TensorId> readers = program_[TensorId{static_cast<int32_t>(t)}].readers;
      for (size_t a = 0; a < readers.size(); ++a)
        for (size_t b = a + 1; b < readers.size(); ++b) try_siblings(readers[a], readers[b]);
    }
  }
  void try_siblings(TensorId a, TensorId b) {
    const int32_t ga = program_[a].group, gb = program_[b].group;
    if (ga < 0 || gb < 0 || ga == gb || group(ga).is_template || group(gb).is_template) return;
    if (group(ga).closed || group(gb).closed) return;
    Group &x = group(ga), &y = group(gb);
    if (x.flexible != y.flexible || x.outer.size() != y.outer.size()) return;
    for (size_t p = 0; p < x.outer.size(); ++p)
      if (!proves_eq(x.outer[p], y.outer[p])) return;
    if (x.flexible && (x.members.size() + y.members.size() > 16)) return;
    if (reaches(ga, gb) || reaches(gb, ga)) return;
    for (TensorId member : y.members) {
      x.members.push_back(member);
      x.outer_dims[member] = y.outer_dims[member];
      program_[member].group = ga;
    }
    std::sort(x.members.begin(), x.members.end());
    y = {};
  }

  // Is there a way from group a to group b along reads?
  bool reaches(int32_t a, int32_t b) {
    std::set<int32_t> seen;
    std::function<bool(int32_t)> walk = [&](int32_t g) {
      if (g == b) return true;
      if (!seen.insert(g).second) return false;
      for (TensorId member : group(g).members)
        for (TensorId reader : program_[member].readers)
          if (program_[reader].group >= 0 && program_[reader].group != g && walk(program_[reader].group)) return true;
      return false;
    };
    return walk(a);
  }
  // A way from a to b that passes through a third group: merging a and b would make a cycle.
  bool reaches_through_others(int32_t a, int32_t b) {
    for (TensorId member : group(a).members)
      for (TensorId reader : program_[member].readers) {
        const int32_t next = program_[reader].group;
        if (next >= 0 && next != a && next != b && reaches(next, b)) return true;
      }
    return false;
  }

  void drop_empty() {
    std::vector<Group> kept;
    for (Group& g : program_.groups) {
      if (g.members.empty()) continue;
      for (TensorId member : g.members) {
        program_[member].group = static_cast<int32_t>(kept.size());
        TD_CHECK(loops_[member].device == loops_[g.members[0]].device, "`{}` and `{}` on two devices share a kernel",
                 loops_[member].name, loops_[g.members[0]].name);
      }
      kept.push_back(std::move(g));
    }
    program_.groups = std::move(kept);
  }

  Program& program_;
  Loops& loops_;
};

}  // namespace

void group_tensors(Program& program) {
  Grouper(program).run();
  // What another kernel reads is stored.
  for (size_t i = 0; i < program.items.size(); ++i) {
    Item& item = program.items[i];
    if (item.kind == Kind::source || item.inlined) continue;
    for (TensorId reader : item.readers)
      if (program[reader].group != item.group) item.stored = true;
  }
}

}  // namespace toroid::fuse
