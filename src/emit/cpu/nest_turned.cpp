// Pointwise nests with loads that lie across their vectors: blocks of LANES x LANES are turned round on the way.
#include "emit/cpu/nest_emitter.h"

namespace toroid::emit {

NestText NestEmitter::emit_turned() {
  SymList others = nest_.outer;
  const Sym vector = others.back(), along = others[turned_.along];
  others.pop_back();
  others.erase(others.begin() + static_cast<ptrdiff_t>(turned_.along));
  // Some blocks side by side, so that each page that is read gives more than one line.
  const int64_t width = at_hints(along.node()->extent) >= 64 * lanes_ ? 4 * lanes_ : lanes_;
  const Sym tiles = ceil_div(along.node()->extent, width);
  int64_t units = at_hints(tiles);
  size_t prefix = 0;
  while (prefix < others.size() && units < wanted_units) units *= at_hints(others[prefix++].node()->extent);
  // The vector's variable in blocks where the tiles alone are too few.
  const Sym extent = vector.node()->extent;
  const bool blocks = units < wanted_units && at_hints(extent) > unit_elements;
  Sym count = tiles;
  for (size_t i = 0; i < prefix; ++i) count *= others[i].node()->extent;

  begin_streams();
  open("for (i64 u = begin; u < end; ++u) {");
  std::string rest = "u";
  if (blocks) {
    const std::string per = text(ceil_div(extent, unit_elements));
    line(format("const i64 low = u % {0} * {1}, high = low + {1} < {2} ? low + {1} : {2}, r = u / {0};", per,
                unit_elements, text(extent)));
    rest = "r";
    count *= ceil_div(extent, unit_elements);
  } else {
    line(format("const i64 low = 0, high = {};", text(extent)));
  }
  line(format("const i64 first = {} % {} * {};", rest, text(tiles), width));
  const std::string all = text(along.node()->extent);
  line(format("const i64 last = first + {0} < {1} ? first + {0} : {1}, whole = first + (last - first) / {2} * {2};",
              width, all, lanes_));
  std::string points = format("{} / {}", rest, text(tiles));
  for (size_t i = prefix; i-- > 0;) {
    line(format("const i64 q{} = {};", i, points));
    const std::string name = declare(others[i]);
    line(i ? format("const i64 {} = q{} % {};", name, i, text(others[i].node()->extent))
           : format("const i64 {} = q{};", name, i));
    points = format("q{} / {}", i, text(others[i].node()->extent));
  }
  for (size_t i = prefix; i < others.size(); ++i) {
    const std::string name = declare(others[i]);
    open(format("for (i64 {} = 0; {} < {}; ++{}) {{", name, name, text(others[i].node()->extent), name));
  }
  const std::string v = declare(vector);
  line(format("i64 {} = low;", v));
  open(format("for (; {0} + {1} <= high; {0} += {1}) {{", v, lanes_));
  open(format("for (i64 block = first; block < whole; block += {}) {{", lanes_));
  variables_[along.symbol_name()] = "block";
  for (size_t k = 0; k < turned_.loads.size(); ++k) {
    const TensorId id = loops_.pool[turned_.loads[k].load].tensor;
    line(format("__attribute__((aligned(64))) f32 turned{}[{}];", k, lanes_ * lanes_));
    line(format("transpose_block_f32({} + {}, {}, turned{}, {});", params_.buffer(schedule_.place(id).buffer),
                text(turned_.loads[k].address), text(turned_.loads[k].stride), k, lanes_));
  }
  open(format("for (i64 k = 0; k < {}; ++k) {{", lanes_));
  line(format("const i64 {} = block + k;", declare(along)));
  for (size_t k = 0; k < turned_.loads.size(); ++k)
    tiles_[turned_.loads[k].load] = format("turned{} + {} * k", k, lanes_);
  phases(vector.symbol_name(), "");
  tiles_.clear();
  close();
  close();
  close();
  // What fills no block, as it is.
  open("for (i64 k = first; k < last; ++k) {");
  line(format("const i64 {} = k;", declare(along)));
  const std::string w = declare(vector);
  line(format("i64 {} = k < whole ? {} : low;", w, v));
  open(format("for (; {} + {} <= high; {} += {}) {{", w, lanes_, w, lanes_));
  phases(vector.symbol_name(), "");
  close();
  open(format("if ({} < high) {{", w));
  line(format("const i64 tail = high - {};", w));
  phases(vector.symbol_name(), "tail");
  close();
  close();
  for (size_t i = prefix; i < others.size(); ++i) close();
  close();
  end_streams();
  NestText result;
  result.body = std::move(out_);
  result.units = to_c(count, [&](const std::string& name) { return format("s[{}]", params_.symbol_slot(name)); });
  return result;
}

}  // namespace toroid::emit
