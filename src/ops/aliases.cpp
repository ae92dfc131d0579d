// Second names of ops, as exports have them: each row calls the op that it means with the same arguments in order.
#include "base/check.h"
#include "ops/compose.h"

namespace toroid {

namespace {

struct Alias {
  const char *name, *means;
};

constexpr Alias aliases[] = {
    {"arccos.default", "acos.default"},
    {"arccosh.default", "acosh.default"},
    {"arcsin.default", "asin.default"},
    {"arcsinh.default", "asinh.default"},
    {"arctan.default", "atan.default"},
    {"arctan2.default", "atan2.default"},
    {"arctanh.default", "atanh.default"},
    {"negative.default", "neg.default"},
    {"linalg_matmul.default", "matmul.default"},
    {"matrix_power.default", "linalg_matrix_power.default"},
    {"orgqr.default", "linalg_householder_product.default"},
    {"special_xlogy.default", "xlogy.Tensor"},
    {"special_xlogy.other_scalar", "xlogy.Scalar_Other"},
    {"special_xlogy.self_scalar", "xlogy.Scalar_Self"},
    {"special_logsumexp.default", "logsumexp.default"},
    {"special_softmax.default", "softmax.int"},
    {"special_log_softmax.default", "log_softmax.int"},
    {"special_logit.default", "logit.default"},
    {"special_round.default", "round.decimals"},
    {"_is_all_true.default", "all.default"},
    {"_is_any_true.default", "any.default"},
    {"view_as_real_copy.default", "view_as_real.default"},
    {"view_as_complex_copy.default", "view_as_complex.default"},
    {"squeeze_copy.dims", "squeeze.dims"},
    {"view_copy.dtype", "view.dtype"},
};

}  // namespace

void add_aliases(OpTable& ops) {
  for (const Alias& alias : aliases) {
    const OpRow* target = ops.find(format("aten.{}", alias.means));
    TD_CHECK(target, "`{}` stands for `{}`, which has no row", alias.name, alias.means);
    OpRow& row = compose(ops, alias.name, [means = std::string(alias.means)](Compose& c) -> Composed {
      std::vector<Passed> args;
      for (const SchemaArg& arg : c.call.schema().args) args.push_back(c[arg.name]);
      return c.all(means, std::move(args));
    });
    for (const std::string& sample : target->samples)
      row.sample(format("aten.{}{}", alias.name, sample.substr(sample.find('('))));
  }
}

}  // namespace toroid
