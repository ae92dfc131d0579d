// Integer divisions whose divisor has zeros: compiled code fails as eager does, and only then.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/file.h"
#include "driver/graph_builder.h"
#include "interp/interp.h"
#include "toroid/compiler.h"
#include "toroid/graph_builder.h"
#include "toroid/runtime.h"

namespace toroid {
namespace {

using Tensor = GraphBuilder::Tensor;

class Division : public testing::TestWithParam<const char*> {
 protected:
  Tensor call(const char* op, const GraphBuilder::Arguments& args) {
    auto results = g_.call(op, args);
    EXPECT_TRUE(results) << results.error().to_string();
    return results ? results->at(0) : Tensor{};
  }
  void inputs(int64_t size) {
    a_ = *g_.input("a", GetParam(), {size});
    b_ = *g_.input("b", GetParam(), {size});
  }
  void divide_all() {
    for (Tensor q : {call("aten.floor_divide.default", {a_, b_}), call("aten.remainder.Tensor", {a_, b_}),
                     call("aten.fmod.Tensor", {a_, b_}), call("aten.div.Tensor_mode", {a_, b_, "trunc"}),
                     call("aten.div.Tensor_mode", {a_, b_, "floor"})})
      ASSERT_TRUE(g_.output(q));
  }
  void load() {
    CompileOptions options;
    options.temporary_folder = folder_.path();
    auto package = compile(g_, options);
    ASSERT_TRUE(package) << package.error().to_string();
    package_ = std::make_unique<Package>(std::move(*package));
    ASSERT_EQ(toroid_load_memory(package_->data(), package_->size(), nullptr, &model_), 0) << toroid_last_error();
  }
  // The status of a run on b; a counts from -20.
  int run(const std::vector<double>& b, int32_t threads) {
    const DType type = *dtype_from_name(GetParam());
    std::vector<double> a;
    for (size_t i = 0; i < b.size(); ++i) a.push_back(static_cast<double>(i) - 20);
    const int64_t sizes[] = {static_cast<int64_t>(b.size())};
    InterpTensor x = InterpTensor::of(type, {sizes[0]}, a), y = InterpTensor::of(type, {sizes[0]}, b);
    std::vector<toroid_tensor> in, out(static_cast<size_t>(outputs_));
    for (InterpTensor* t : {&x, &y})
      in.push_back({sizeof(toroid_tensor), t->data.data(), sizes, nullptr, 1,
                    type == DType::i64 ? TOROID_I64 : TOROID_I32, 0, 0, nullptr});
    for (toroid_tensor& t : out) t = {}, t.size = sizeof t;
    toroid_run_options options = {};
    options.size = sizeof options;
    options.threads = threads;
    const int status = toroid_run_alloc(model_, in.data(), in.size(), out.data(), out.size(), &options);
    if (status == 0) toroid_free_outputs(out.data(), out.size());
    return status;
  }
  void expect_failure(const std::vector<double>& b) {
    for (int32_t threads : {1, 2}) {
      EXPECT_EQ(run(b, threads), TOROID_KERNEL_ERROR);
      EXPECT_NE(std::string(toroid_last_error()).find("integer division by zero"), std::string::npos)
          << toroid_last_error();
    }
  }
  void expect_success(const std::vector<double>& b) {
    for (int32_t threads : {1, 2}) EXPECT_EQ(run(b, threads), 0) << toroid_last_error();
  }
  // Only the last of `count` divisors is 0.
  void expect_failure_at_the_end(size_t count) {
    std::vector<double> b(count, 7);
    expect_success(b);
    b.back() = 0;
    expect_failure(b);
  }
  void TearDown() override {
    if (model_) toroid_unload(model_);
  }

  GraphBuilder g_{"p"};
  Tensor a_, b_;
  int outputs_ = 1;
  TempFolder folder_ = *TempFolder::create();
  std::unique_ptr<Package> package_;
  toroid_model* model_ = nullptr;
};

// 37 elements end in lanes that nobody reads, whose divisors are 0.
TEST_P(Division, EachOpAlone) {
  const GraphBuilder::Arguments modes[] = {{}, {}, {}, {"trunc"}, {"floor"}};
  const char* ops[] = {"aten.floor_divide.default", "aten.remainder.Tensor", "aten.fmod.Tensor", "aten.div.Tensor_mode",
                       "aten.div.Tensor_mode"};
  for (size_t k = 0; k < std::size(ops); ++k) {
    SCOPED_TRACE(ops[k]);
    if (model_) toroid_unload(model_), model_ = nullptr;
    g_ = GraphBuilder("p");
    inputs(37);
    GraphBuilder::Arguments args{a_, b_};
    args.insert(args.end(), modes[k].begin(), modes[k].end());
    ASSERT_TRUE(g_.output(call(ops[k], args)));
    load();
    std::vector<double> b(37, 3);
    expect_success(b);
    for (size_t at : {0u, 17u, 36u}) {
      b[at] = 0;
      expect_failure(b);
      b[at] = -2;
    }
    expect_success(b);
  }
}

TEST_P(Division, ByManyThreads) {
  inputs(200003);
  divide_all();
  outputs_ = 5;
  load();
  expect_failure_at_the_end(200003);
}

TEST_P(Division, IntoASum) {
  inputs(1037);
  const Tensor q = call("aten.floor_divide.default", {a_, b_});
  ASSERT_TRUE(g_.output(call("aten.sum.default", {q})));
  load();
  expect_failure_at_the_end(1037);
}

// A divisor that is at least 1, and a number: there is nothing to look at.
TEST_P(Division, ByWhatIsNotZero) {
  inputs(37);
  const Tensor least = call("aten.clamp.default", {b_, 1});
  ASSERT_TRUE(g_.output(call("aten.floor_divide.default", {a_, least})));
  ASSERT_TRUE(g_.output(call("aten.remainder.Scalar", {a_, 3})));
  outputs_ = 2;
  load();
  expect_success(std::vector<double>(37, 0));
}

// The quotient is computed only where the concatenation has it: no lane beside it fails.
TEST_P(Division, BesideAnotherPart) {
  inputs(37);
  const Tensor q = call("aten.floor_divide.default", {a_, b_});
  ASSERT_TRUE(g_.output(call("aten.cat.default", {std::vector<Tensor>{q, a_}, 0})));
  load();
  std::vector<double> b(37, 2);
  expect_success(b);
  b[36] = 0;
  expect_failure(b);
}

INSTANTIATE_TEST_SUITE_P(Types, Division, testing::Values("i64", "i32"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace toroid
