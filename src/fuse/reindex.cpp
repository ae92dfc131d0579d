// Reductions that a map reads in another order than theirs (a layer norm whose result is rolled and cut into windows)
// are computed in the reader's order, so that they share its kernel: where it reads them at f(i), they become tensors
// over i. That costs nothing when the reader reads each of their rows once.
#include <algorithm>

#include "base/check.h"
#include "fuse/program.h"

namespace toroid::fuse {
namespace {

class Reindexer {
 public:
  Reindexer(Program& program, TensorId reader)
      : program_(program), loops_(program.loops), pool_(program.pool()), reader_(reader) {}

  bool run() {
    if (!find_outer()) return false;
    bodies_[reader_] = program_[reader_].body;
    for (int32_t i = reader_.index; i-- > 0;)
      if (!add(TensorId{i})) return false;
    if (moved_.empty()) return false;
    for (auto& [id, body] : bodies_) program_[id].body = with_new_indices(id, body);
    for (const auto& [id, moved] : moved_) {
      LoopTensor& tensor = loops_[id];
      tensor.vars = moved.vars;
      tensor.sizes.clear();
      for (const Sym& var : moved.vars) tensor.sizes.push_back(extent_of(var));
      tensor.strides = contiguous_strides(tensor.sizes);
      tensor.body = program_[id].body;
      Item& item = program_[id];
      item.vars = item.index = tensor.vars;
      item.parts.clear();
      for (size_t d = 0; d < tensor.vars.size(); ++d) item.parts.push_back({static_cast<int>(d)});
    }
    return true;
  }

 private:
  // A tensor in the reader's order: over the outer variables, then those of its own dims that stay.
  struct Moved {
    std::vector<int> kept;  // its old dims
    SymList vars;
  };

  bool is_moved_kind(TensorId id) const {
    const Item& item = program_[id];
    return (item.kind == Kind::reduction || item.kind == Kind::map) && !item.inlined && !item.hidden;
  }

  // The reader's variables that stand in an index of a reduction, but not alone: these are computed together.
  bool find_outer() {
    std::set<std::string> names;
    for (const Use& use : program_[reader_].uses) {
      if (program_[use.tensor].kind != Kind::reduction) continue;
      for (ExprId index : use.index) {
        if (is_index_symbol(pool_, index)) continue;
        for (const std::string& name : pool_.free_symbols(index)) names.insert(name);
      }
    }
    for (const Sym& var : loops_[reader_].vars) {
      if (!var.is_symbol() || !names.contains(var.symbol_name())) continue;
      const Sym own = Sym::index(format("r{}", outer_.size()), extent_of(var));
      canonical_[var.symbol_name()] = own;
      outer_names_.insert(own.symbol_name());
      outer_of_reader_.push_back(var);
      outer_.push_back(own);
    }
    return !outer_.empty();
  }

  // Depends on outer variables and sizes alone, and on no tensor.
  bool only_outer(ExprId index) const {
    if (pool_.has_kind(index, ExprKind::load)) return false;
    const std::vector<std::string> names = pool_.free_symbols(index);
    return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
      return outer_names_.contains(name) || std::any_of(loops_.symbols.begin(), loops_.symbols.end(),
                                                        [&](const SymbolInfo& symbol) { return symbol.name == name; });
    });
  }

  // The indices of a load in a body, with the reader's outer variables by their canonical names.
  std::vector<ExprId> indices(TensorId in, const Expr& load) {
    std::vector<ExprId> list = load.args;
    if (in == reader_)
      for (ExprId& index : list) index = pool_.rewrite(index, canonical_, nullptr);
    return list;
  }

  // Takes a tensor along when everything that reads it comes along; false when one that must come cannot.
  bool add(TensorId id) {
    std::vector<std::vector<ExprId>> reads;
    bool others = false;
    for (TensorId by : program_[id].readers) {
      auto body = bodies_.find(by);
      if (body == bodies_.end()) {
        others = true;
        continue;
      }
      std::vector<ExprId> loads;
      collect_loads(pool_, body->second, loads);
      for (ExprId load : loads) {
        if (pool_[load].tensor == id) reads.push_back(indices(by, pool_[load]));
      }
    }
    if (reads.empty()) return true;
    const Item& item = program_[id];
    const bool must = item.kind == Kind::reduction;
    if (!is_moved_kind(id) || others || item.is_output || pool_.has_kind(item.body, ExprKind::scan)) return !must;
    Moved moved;
    const LoopTensor& tensor = loops_[id];
    std::map<std::string, ExprId> renamed;
    Sym own_points = 1, points = 1;
    moved.vars = outer_;
    for (const Sym& var : outer_) points *= extent_of(var);
    for (size_t d = 0; d < tensor.sizes.size(); ++d) {
      const ExprId at = reads[0][d];
      const bool kept = is_index_symbol(pool_, at) && !only_outer(at);
      for (const std::vector<ExprId>& read : reads)
        if (kept ? !is_index_symbol(pool_, read[d]) || only_outer(read[d]) : read[d] != at || !only_outer(at))
          return !must;
      if (kept) {
        moved.kept.push_back(static_cast<int>(d));
        moved.vars.push_back(Sym::index(format("r{}", moved.vars.size()), tensor.sizes[d]));
      } else {
        own_points *= tensor.sizes[d];
      }
      if (tensor.vars[d].is_symbol())
        renamed[tensor.vars[d].symbol_name()] = kept ? pool_.index(moved.vars.back()) : at;
    }
    // Each row once, or it would be work done again.
    if (program_.at_hints(points) > program_.at_hints(own_points)) return !must;
    bodies_[id] = pool_.substitute(item.body, renamed);
    moved_[id] = std::move(moved);
    return true;
  }

  ExprId with_new_indices(TensorId id, ExprId body) {
    const SymList& outer = id == reader_ ? outer_of_reader_ : outer_;
    return pool_.rewrite(body, {}, [&](const Expr& load, const std::vector<ExprId>& index) -> ExprId {
      auto found = moved_.find(load.tensor);
      if (found == moved_.end()) return {};
      std::vector<ExprId> at;
      for (const Sym& var : outer) at.push_back(pool_.index(var));
      for (int d : found->second.kept) at.push_back(index[static_cast<size_t>(d)]);
      return pool_.load(load.tensor, load.dtype, at);
    });
  }

  Program& program_;
  Loops& loops_;
  ExprPool& pool_;
  const TensorId reader_;
  SymList outer_, outer_of_reader_;
  std::map<std::string, Sym> canonical_;  // of the reader's outer variables
  std::set<std::string> outer_names_;
  std::map<TensorId, ExprId> bodies_;  // of the reader and all that comes along, loads at old indices
  std::map<TensorId, Moved> moved_;
};

}  // namespace

void reindex_reductions(Program& program) {
  for (size_t i = 0; i < program.items.size(); ++i) {
    const TensorId id{static_cast<int32_t>(i)};
    if (program[id].kind != Kind::map || program[id].inlined || program[id].hidden) continue;
    if (Reindexer(program, id).run()) program.find_uses();
  }
}

}  // namespace toroid::fuse
