// See scattered.h.
#include "ops/scattered.h"

#include "ops/rules.h"

namespace toroid {

LoopValue scattered(LoopBuilder& b, const LoopValue& base, const SymList& extent,
                    const std::function<ExprId(const Index&)>& place, const std::function<ExprId(const Index&)>& value,
                    Join join, bool include, const std::string& suffix) {
  LoopBuilder* p = &b;
  if (is_complex(base.dtype)) {
    // Real and imaginary parts apart.
    if (join != Join::set && join != Join::add) refuse("complex numbers multiplied or compared at computed places");
    auto part = [&](bool imaginary) {
      auto take = [p, imaginary](ExprId z) { return imaginary ? p->pool().imag(z) : p->pool().real(z); };
      LoopValue of_base = b.from(part_type(base.dtype), base.sizes, [=](const Index& i) { return take(base.at(i)); });
      return scattered(
          b, of_base, extent, place, [=](const Index& i) { return take(p->cvt(value(i), base.dtype)); }, join, include,
          suffix + (imaginary ? ".imag" : ".real"));
    };
    LoopValue re = part(false), im = part(true);
    return b.from(base.dtype, base.sizes, [=](const Index& i) { return p->pool().pair(re.at(i), im.at(i)); });
  }
  const DType type = register_type(base.dtype);
  // Of truths a sum is "any" and a product "all".
  if (is_bool(type)) join = join == Join::add ? Join::most : join == Join::multiply ? Join::least : join;
  LoopValue places = b.from(DType::i64, extent, place);
  LoopValue values = b.from(type, extent, [p, value, type](const Index& i) { return p->cvt(value(i), type); });
  LoopValue y =
      b.routine("scatter", type, base.sizes, {b.convert(base, type), places, values},
                {base.sizes[0], base.sizes[1], extent[1], static_cast<int64_t>(join), include ? 1 : 0}, {}, suffix);
  return b.convert(y, base.dtype);
}

}  // namespace toroid
