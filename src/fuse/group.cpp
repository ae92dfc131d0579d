// Groups of tensors that become one kernel. A contraction takes the maps behind it as its epilogue. Everything else
// joins by rows: tensors that share their outer dims are computed one outer point after another, so that what passes
// between them stays in registers or in the nearest cache.
#include <algorithm>
#include <functional>
#include <set>

#include "base/check.h"
#include "fuse/across.h"
#include "fuse/contraction.h"
#include "fuse/program.h"
#include "fuse/text_budget.h"

namespace toroid::fuse {
namespace {

constexpr int64_t template_lanes = 16;  // of the widest vectors

// Which variable of a reader walks which variable of a producer (positions in Item::vars).
class Relation {
 public:
  Relation(Program& program, TensorId producer, TensorId reader)
      : program_(program), producer_(producer), reader_(reader) {}

  // The reader's variable for the producer's: -1 when it is not one plain output variable, in every load.
  int reader_dim(int producer_dim) const {
    int found = -2;
    for (const Use& use : program_[reader_].uses) {
      if (use.tensor != producer_) continue;
      int dim = var_dim(program_.var_at(producer_, producer_dim, use.index));
      if (found != -2 && found != dim) return -1;
      found = dim;
    }
    return found < 0 ? -1 : found;
  }

 private:
  int var_dim(const std::optional<Sym>& value) const {
    if (!value || !value->is_symbol()) return -1;
    const SymList& vars = program_[reader_].vars;
    for (size_t d = 0; d < vars.size(); ++d)
      if (vars[d].is_symbol() && vars[d].symbol_name() == value->symbol_name()) return static_cast<int>(d);
    return -1;
  }
  Program& program_;
  TensorId producer_, reader_;
};

// d > 1 where `value` is var // d for one of the reader's variables, whose extent d divides.
int64_t quotient(const Program& program, TensorId reader, const std::optional<Sym>& value, int& var) {
  if (!value || value->kind() != SymKind::floordiv || !value->args()[0].is_symbol()) return 0;
  const std::optional<int64_t> divisor = value->args()[1].constant();
  const SymList& vars = program[reader].vars;
  for (var = 0; var < static_cast<int>(vars.size()); ++var)
    if (vars[static_cast<size_t>(var)] == value->args()[0])
      return divisor && *divisor > 1 && proves_divisible(program.extent(reader, var), *divisor) ? *divisor : 0;
  return 0;
}

class Grouper {
 public:
  explicit Grouper(Program& program) : program_(program), loops_(program.loops), budget_(program) {}

  void run() {
    for (size_t i = 0; i < program_.items.size(); ++i) {
      const TensorId id{static_cast<int32_t>(i)};
      const Item& item = program_[id];
      if (item.kind == Kind::source || item.inlined) continue;
      place_alone(id);
      if (item.kind == Kind::contract || group(item.group).closed) continue;
      if (item.kind == Kind::map && join_template(id)) continue;
      if (join_finish(id)) continue;
      join_producers(id);
    }
    join_siblings();
    for (Group& g : program_.groups) spread(program_, g);
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
    g.closed = item.kind == Kind::copy || item.kind == Kind::call || item.kind == Kind::routine;
    // What a symbol is read from must be there before any kernel that knows the symbol.
    for (const SymbolRead& read : loops_.symbol_reads) g.closed |= read.tensor == id;
    std::vector<int> dims = real_dims(program_, id);
    // A scan walks its dim in order, in a kernel of its own.
    std::vector<ExprId> reductions;
    if (item.kind != Kind::call) collect_reductions(program_.pool(), item.body, reductions);
    for (ExprId reduction : reductions) {
      const Expr& scan = program_.pool()[reduction];
      if (scan.kind != ExprKind::scan) continue;
      g.closed = true;
      const Sym at = program_.pool().as_index(scan.args[1]).value_or(Sym(0));
      std::erase_if(dims, [&](int d) { return item.vars[static_cast<size_t>(d)] == at; });
    }
    g.outer_dims[id] = dims;
    for (int d : dims) g.outer.push_back(program_.extent(id, d));
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
      if (!budget_.fits(group(target), group(own))) {
        program_.say(
            format("%{} is not an epilogue of %{}: the kernel is long enough", loops_[id].name, loops_[producer].name));
        continue;
      }
      if (!follow(group(target), producer, id)) {
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

  // The reader walks the same elements as `producer`, a member of the template's group, and so those of the
  // contraction.
  bool follow(Group& g, TensorId producer, TensorId reader) {
    auto inverse = inverse_index(program_, producer, reader);
    if (!inverse) return false;
    const TensorId first = g.members[0];
    std::map<std::string, Sym> follows;
    bool plain = true;
    for (const auto& [name, value] : *inverse) {
      follows[name] = producer == first ? value : substitute(value, g.follows.at(producer));
      plain &= follows[name].is_symbol();
    }
    if (!plain && (program_.plain_epilogue.contains(loops_[first].name) || !columns_whole(first, follows)))
      return false;
    g.follows[reader] = std::move(follows);
    g.plain &= plain;
    return true;
  }

  // Vectors of a template run along its columns: they stay whole only where these are split at multiples of a vector's
  // length, and innermost in what they become part of. Kernels of convolutions promise no such multiples.
  bool columns_whole(TensorId contraction, const std::map<std::string, Sym>& follows) {
    const bool conv = match_conv(program_, contraction).has_value() || program_[contraction].attention;
    const SymList& vars = loops_[contraction].vars;
    for (size_t d = conv ? 0 : vars.size() - 1; d < vars.size(); ++d) {
      if (!vars[d].is_symbol()) continue;
      // Of attention (batch, heads, queries, columns), of a convolution (batch, channels, space).
      if (conv && d != (program_[contraction].attention ? vars.size() - 1 : 1)) continue;
      const std::string& column = vars[d].symbol_name();
      for (const auto& [name, value] : follows) {
        if (!depends_on(value, column)) continue;
        if (conv && !value.is_symbol()) return false;
        auto step = step_in_run(value, column, template_lanes);
        if (!step || (*step != Sym(0) && *step != Sym(1))) return false;
      }
    }
    return true;
  }

  void join_producers(TensorId id) {
    for (size_t u = 0; u < program_[id].uses.size(); ++u) {
      const TensorId producer = program_[id].uses[u].tensor;
      const int32_t own = program_[id].group;
      int32_t from = program_[producer].group;
      if (from < 0 || from == own || group(from).is_template || group(from).closed) continue;
      if (group(from).finishes(producer)) continue;
      if (reaches_through_others(from, own)) {
        program_.say(format("%{} does not join %{}: another kernel stands between them", loops_[id].name,
                            loops_[producer].name));
        continue;
      }
      if (!budget_.fits(group(from), group(own))) {
        if (!budget_.cut(from, id) || program_[producer].group == from) {
          program_.say(
              format("%{} does not join %{}: the kernel is long enough", loops_[id].name, loops_[producer].name));
          continue;
        }
        from = program_[producer].group;
        if (reaches_through_others(from, own) || !budget_.fits(group(from), group(own))) continue;
      }
      if (merge(from, own, id) || merge_in_parts(from, own, id)) continue;
      if (group(own).members.size() == 1 && join_across(from, own)) return;
      program_.say(format("%{} does not join %{}: their rows differ", loops_[id].name, loops_[producer].name));
    }
  }

  // The same after the variables of `id` that walk a producer's in steps (statistics read at c // 4) are split: its
  // high part walks the producer's variable, its low part the row.
  bool merge_in_parts(int32_t from, int32_t own, TensorId id) {
    if (group(own).members.size() != 1 || reads_finish(own, from)) return false;
    const Item before = program_[id];
    const Group whole = group(own);
    for (int round = 0; round < 8 && split_one(from, id); ++round) {
    }
    if (program_[id].vars.size() == before.vars.size()) return false;
    Group& g = group(own);
    g.outer_dims[id] = real_dims(program_, id);
    g.outer.clear();
    for (int d : g.outer_dims[id]) g.outer.push_back(program_.extent(id, d));
    if (merge(from, own, id)) return true;
    program_[id] = before;
    group(own) = whole;
    return false;
  }
  bool split_one(int32_t from, TensorId id) {
    for (const Use& use : program_[id].uses) {
      if (program_[use.tensor].group != from) continue;
      for (int producer_dim : group(from).outer_dims.at(use.tensor)) {
        int var = 0;
        if (int64_t d = quotient(program_, id, program_.var_at(use.tensor, producer_dim, use.index), var)) {
          program_.split_var(id, var, d);
          return true;
        }
      }
    }
    return false;
  }

  // Merges the group of the new tensor `id` (own) into an earlier group that it reads.
  bool merge(int32_t from, int32_t own, TensorId id) {
    Group merged = group(from);
    const Group reader = group(own);
    if (!reader.finish.empty() || reads_finish(own, from)) return false;
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
    bool flexible = merged.flexible && reader.flexible;
    if (flexible) {
      // Maps over one space walk it alike. Over two spaces they share rows, where the first is dear to compute again.
      for (size_t p = 0; p < map.size() && map[p] >= 0; ++p) kept.push_back(p);
      if (kept.size() != map.size() || map.size() != real_dims(program_, id).size()) {
        if (!rows_pay(merged, kept.size(), map, id)) return false;
        flexible = false;
      }
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
    result.flexible = flexible;
    result.finish = merged.finish;
    result.across = merged.across;
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
        if (!proves_eq(program_.extent(member, dims[p]), result.outer[p])) return false;
      result.members.push_back(member);
      result.outer_dims[member] = dims;
    }
    std::sort(result.members.begin(), result.members.end());
    if (!result.flexible && !rows_fit(result)) return false;
    group(from) = result;
    group(own) = {};
    for (TensorId member : result.all()) program_[member].group = from;
    return true;
  }

  // Some tensor of group `a` reads what group `b` has only when all its points are done.
  bool reads_finish(int32_t a, int32_t b) {
    for (TensorId member : group(a).all())
      for (const Use& use : program_[member].uses)
        if (group(b).finishes(use.tensor)) return true;
    return false;
  }

  // A small map of results that a kernel has at its end is computed there.
  bool join_finish(TensorId id) {
    const int32_t own = program_[id].group;
    if (program_[id].kind != Kind::map || group(own).closed || program_.elements_at_hints(id) > finish_limit)
      return false;
    for (const Use& use : program_[id].uses) {
      const int32_t to = program_[use.tensor].group;
      if (to < 0 || !group(to).finishes(use.tensor) || reaches_through_others(to, own)) continue;
      bool possible = true;
      for (const Use& other : program_[id].uses)
        possible &= program_[other.tensor].group != to || group(to).finishes(other.tensor);
      if (!possible || !budget_.fits(group(to), group(own))) continue;
      group(to).finish.push_back(id);
      program_[id].group = to;
      group(own) = {};
      return true;
    }
    return false;
  }

  // A group of one reduction, and small maps of its result, as reductions over the outer points of another group: a
  // column sum beside row sums, a loss over rows. The reduction reads members of that group, or what they read.
  bool join_across(int32_t to, int32_t own) {
    const Group& reader = group(own);
    Group target = group(to);
    if (target.is_template || target.closed || reader.is_template || reader.closed || reader.members.empty())
      return false;
    if (!reader.finish.empty() || target.members.empty() || !budget_.fits(target, reader)) return false;
    const TensorId id = reader.members[0];
    const ExprId reduction = lone_reduction(program_, reader);
    if (!reduction || !(loops_[id].device == Device{})) return false;
    if (reads_finish(own, to) || reaches_through_others(to, own) || reaches_through_others(own, to)) return false;
    // What reads it in the target is computed when all points are done, too, and the maps behind it read no rows.
    for (size_t m = 1; m < reader.members.size(); ++m)
      for (const Use& use : program_[reader.members[m]].uses)
        if (program_[use.tensor].group == to) return false;
    for (TensorId member : reader.members)
      for (TensorId next : program_[member].readers)
        if (program_[next].group == to && !target.finishes(next)) return false;

    const auto walks = walks_of_outer(program_, to, id, reduction);
    if (!walks) return false;
    target.outer.resize(walks->size());
    for (auto& [member, dims] : target.outer_dims) dims.resize(walks->size());
    target.flexible = false;
    if (!rows_fit(target)) return false;
    target.across[id] = *walks;
    target.finish.insert(target.finish.end(), reader.members.begin(), reader.members.end());
    std::sort(target.finish.begin(), target.finish.end());
    for (TensorId member : target.finish) program_[member].group = to;
    group(to) = std::move(target);
    group(own) = {};
    return true;
  }

  // Two maps over different spaces that share their leading variables: worth a row in scratch where nobody else reads
  // the first one, so that it stays out of memory, and there are rows enough to share out.
  bool rows_pay(const Group& producers, size_t shared, const std::vector<int>& map, TensorId id) {
    if (shared == 0 || producers.members.size() != 1) return false;
    const TensorId producer = producers.members[0];
    if (program_[producer].is_output || program_[producer].readers.size() != 1) return false;
    if (expression_cost(program_.pool(), program_[producer].body) <= 8) return false;
    int64_t rows = 1;
    for (size_t p = 0; p < shared; ++p) {
      if (map[p] != static_cast<int>(p)) return false;
      rows *= program_.at_hints(producers.outer[p]);
    }
    const int64_t elements = program_.elements_at_hints(producer);
    return rows >= 16 && elements / rows <= 8192 && program_.elements_at_hints(id) / rows >= 64;
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
    if (join_across(ga, gb) || join_across(gb, ga)) return;
    if (x.flexible != y.flexible || x.outer.size() != y.outer.size()) return;
    if (!x.finish.empty() || !y.finish.empty()) return;
    for (size_t p = 0; p < x.outer.size(); ++p)
      if (!proves_eq(x.outer[p], y.outer[p])) return;
    if ((x.flexible && (x.members.size() + y.members.size() > 16)) || !budget_.fits(x, y)) return;
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
      for (TensorId member : group(g).all())
        for (TensorId reader : program_[member].readers)
          if (program_[reader].group >= 0 && program_[reader].group != g && walk(program_[reader].group)) return true;
      return false;
    };
    return walk(a);
  }
  // A way from a to b that passes through a third group: merging a and b would make a cycle.
  bool reaches_through_others(int32_t a, int32_t b) {
    for (TensorId member : group(a).all())
      for (TensorId reader : program_[member].readers) {
        const int32_t next = program_[reader].group;
        if (next >= 0 && next != a && next != b && reaches(next, b)) return true;
      }
    return false;
  }

  void drop_empty() {
    std::vector<Group> kept;
    for (Group& g : program_.groups) {
      const std::vector<TensorId> all = g.all();
      if (all.empty()) continue;
      for (TensorId member : all) {
        program_[member].group = static_cast<int32_t>(kept.size());
        TD_CHECK(loops_[member].device == loops_[all[0]].device, "`{}` and `{}` on two devices share a kernel",
                 loops_[member].name, loops_[all[0]].name);
      }
      kept.push_back(std::move(g));
    }
    program_.groups = std::move(kept);
  }

  Program& program_;
  Loops& loops_;
  TextBudget budget_;
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
    // One thread computes what follows from totals: it passes on more than a number through memory.
    if (item.group >= 0 &&
        program.groups[static_cast<size_t>(item.group)].finishes(TensorId{static_cast<int32_t>(i)}) &&
        !item.readers.empty() && program.elements_at_hints(TensorId{static_cast<int32_t>(i)}) > 1)
      item.stored = true;
  }
}

}  // namespace toroid::fuse
