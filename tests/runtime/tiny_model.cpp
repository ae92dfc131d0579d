// The tiny model: wrapper text without includes, recipes, package contents, and the answer.
#include "runtime/tiny_model.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>

#include "base/check.h"
#include "base/file.h"
#include "model_abi.h"

namespace toroid::tests {
namespace {

std::string read_all(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The contract's structs without its includes, as the compiler's prelude repeats them.
std::string contract() {
  std::string out =
      "typedef int int32_t; typedef long int64_t; typedef unsigned int uint32_t; typedef unsigned long uint64_t;\n";
  for (const char* file : {"/runtime/model_abi.h", "/runtime/model/wrapper_api.h"}) {
    for (const std::string& line : split(read_all(std::string(TOROID_SOURCE_DIR) + file), '\n'))
      if (!line.starts_with("#include") && !line.starts_with("#pragma")) out += line + "\n";
  }
  return out;
}

constexpr const char* wrapper = R"(
static const TdSlot inputs[] = {{"x", "s0, 4", 6, 2, 0, -1}};
static const TdSlot outputs[] = {{"y", "s0, 8", 6, 2, 0, -1}};
static const TdWeight weights[] = {{"fc.weight", "fc_weight", 6, 1, 128}, {"fc.bias", "fc_bias", 6, 1, 32},
                                   {"scale", "scale", 6, 1, 32}, {"calls", "calls", 6, 2, 4}};
static const char* const features[] = {"sse2", 0};

static int32_t check(const TdView* in, int64_t* symbols, int64_t* shapes, TdError* e) {
  if (td_check_input(in, 0, "x", 6, 2, e)) return 1;
  const int64_t s0 = in->sizes[0];
  if (s0 < 1 || s0 > 4096) return td_bad_size(e, 0, "x", 0, s0, "1..4096");
  if (in->sizes[1] != 4) return td_bad_size(e, 0, "x", 1, in->sizes[1], "4");
  symbols[0] = s0;
  if (shapes) { shapes[0] = s0; shapes[1] = 8; shapes[2] = 8; shapes[3] = 1; }
  return 0;
}

// p: x, packed weight [4][16], bias, scaled bias, y, calls
static void kernel(char* const* p, const int64_t*, int64_t begin, int64_t end) {
  const float *x = (const float*)p[0], *w = (const float*)p[1], *b = (const float*)p[2], *s = (const float*)p[3];
  float* y = (float*)p[4];
  for (int64_t i = begin; i < end; ++i)
    for (int64_t j = 0; j < 8; ++j) {
      float sum = b[j];
      for (int64_t k = 0; k < 4; ++k) sum += x[i * 4 + k] * w[k * 16 + j];
      y[i * 8 + j] = (sum > 0 ? sum : 0) + s[j];
    }
}

static int32_t run(const TdHost* t, void* host, char* w, const TdView* in, TdError* e) {
  int64_t s[1];
  if (check(in, s, 0, e)) return 1;
  if (s[0] == 13) return td_fail(e, 4, "assertion failed: %ld is unlucky", s[0]);
  const char* x = (const char*)in->data;
  if (!td_is_contiguous(in)) {
    char* copy = (char*)t->alloc(host, s[0] * 16);
    if (!copy) return td_fail(e, 2, "no memory for a copy of x");
    td_copy_strided(copy, in, 4);
    x = copy;
  }
  const int64_t sizes[] = {s[0], 8}, strides[] = {8, 1};
  char* y = (char*)t->output(host, 0, sizes, strides, e);
  if (!y) return e->code;
  char* p[] = {(char*)x, w + 4096, w + 4352, w + 4416, y};
  if (t->mark) t->mark(host, 0, 0);
  t->parallel(host, kernel, p, s, s[0], 4, s[0] * NANOSECONDS);
  if (t->mark) t->mark(host, 0, 1);
  if (MUTATES) *(float*)y += *(float*)w += 1;
  return 0;
}

extern "C" __attribute__((visibility("hidden"))) const TdModel toroid_model = {
    sizeof(TdModel), TD_ABI_MAJOR, TD_ABI_MINOR, "NAME", "x86-64", features, IN_SPEC, OUT_SPEC, 1, 1, 4, 1, inputs, outputs,
    weights, 4480, RECIPES, 0, check, run, "{\"kernels\": []}", MUTATES ? 4096 : 0, nullptr, nullptr};
)";

constexpr const char* in_spec =
    R"([1, {"type": "builtins.tuple", "context": "null", "children_spec": [{"type": "builtins.tuple", "context": "null", "children_spec": [{"type": null, "context": null, "children_spec": []}]}, {"type": "builtins.dict", "context": "[]", "children_spec": []}]}])";
constexpr const char* out_spec = R"([1, {"type": null, "context": null, "children_spec": []}])";

std::string c_string(const std::string& text) { return "R\"~~(" + text + ")~~\""; }

runtime::RecipeStep load_weight(int32_t weight) { return {.op = runtime::RecipeOp::load, .weight = weight}; }

}  // namespace

std::vector<float> pattern(size_t count) {
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(static_cast<int>(i * 7 % 11) - 5) / 4;
  return out;
}

TinyModel::TinyModel() {
  for (size_t i = 0; i < 32; ++i) weight[i] = static_cast<float>(i % 9) / 8 - 0.5f;
  for (size_t i = 0; i < 8; ++i) bias[i] = static_cast<float>(i) / 2 - 1, scale[i] = static_cast<float>(i + 1);
}

runtime::Recipes TinyModel::recipes() const {
  using enum runtime::RecipeOp;
  runtime::Recipes r;
  r.weights = {{"fc.weight", TD_F32, {8, 4}, {4, 1}, 0, 1},
               {"fc.bias", TD_F32, {8}, {1}, 0, 1},
               {"scale", TD_F32, {8}, {1}, 0, 1},
               {"calls", TD_F32, {1}, {1}, 0, 2}};
  r.constants = {{0, 4, TD_F32, {1}, {load_weight(3)}},
                 {4096, 256, TD_F32, {8, 4}, {load_weight(0), {.op = pack, .k_group = 1}}},
                 {4352, 32, TD_F32, {8}, {load_weight(1)}},
                 {4416, 32, TD_F32, {8}, {load_weight(1), load_weight(2), {.op = mul}}}};
  if (keeps_scale) r.constants.push_back({4448, 32, TD_F32, {8}, {load_weight(2)}});
  return r;
}

std::string TinyModel::code() const {
  std::string text = contract() + wrapper;
  text = replace_all(text, "NANOSECONDS", "1000");
  text = replace_all(text, "MUTATES", mutates ? "1" : "0");
  text = replace_all(text, "\"NAME\"", toroid::quoted(name));
  text = replace_all(text, "IN_SPEC", c_string(in_spec));
  text = replace_all(text, "OUT_SPEC", c_string(out_spec));
  text = replace_all(text, "RECIPES", c_string(runtime::recipes_to_json(recipes())));
  static std::map<std::string, std::string> compiled;
  if (auto it = compiled.find(text); it != compiled.end()) return it->second;
  auto folder = TempFolder::create(::testing::TempDir());
  TD_CHECK(folder.has_value(), "no temporary folder");
  const std::string source = folder->path() + "/wrapper.cpp", out = folder->path() + "/m.so";
  TD_CHECK(write_file_atomic(source, text).has_value(), "cannot write the wrapper");
  const std::string lib = std::string(TOROID_BINARY_DIR) + "/lib/toroid/";
  const std::string command = format(
      "g++ -nostdinc -nostdinc++ -O1 -fPIC -fvisibility=hidden -Wall -Wextra -shared {} {}model_abi.o -o {} "
      "-Wl,--version-script={}model.map -Wl,--gc-sections -Wl,-s",
      source, lib, out, lib);
  TD_CHECK(std::system(command.c_str()) == 0, "{}", command);
  return compiled[text] = *read_file(out);
}

package::PackageContents TinyModel::contents(const std::string& code_bytes) const {
  package::ModelContents m;
  m.code = code_bytes;
  m.weights_bytes = 4480;
  m.mutated_bytes = mutates ? 4096 : 0;
  m.write_weights = [this](uint64_t begin, std::span<std::byte> out) -> Status {
    std::vector<std::byte> all(4480);
    const runtime::Recipes r = recipes();
    const float calls = 0;
    const int64_t matrix[] = {4, 1}, one[] = {1};
    const runtime::RecipeSource sources[] = {
        {weight.data(), matrix}, {bias.data(), one}, {scale.data(), one}, {&calls, one}};
    for (const runtime::RecipeConstant& c : r.constants) {
      std::string error;
      if (!runtime::run_recipe(r, c, sources, all.data() + c.offset, error)) return fail(Kind::internal, "{}", error);
    }
    std::memcpy(out.data(), all.data() + begin, out.size());
    return {};
  };
  m.target = "x86-64";
  m.features = {"sse2"};
  m.compiler = "g++";
  m.recipes = runtime::recipes_to_json(recipes());
  m.report = "{\"kernels\": []}";
  m.texts = {{"wrapper.txt", "written by hand\n"}};
  return {.prefix = name, .toroid_version = "0.0.1", .models = {m}};
}

std::vector<float> TinyModel::expect(const std::vector<float>& x) const {
  std::vector<float> y(x.size() * 2);
  for (size_t i = 0; i < x.size() / 4; ++i)
    for (size_t j = 0; j < 8; ++j) {
      float sum = bias[j];
      for (size_t k = 0; k < 4; ++k) sum += x[i * 4 + k] * weight[j * 4 + k];
      y[i * 8 + j] = (sum > 0 ? sum : 0) + bias[j] * scale[j];
    }
  return y;
}

}  // namespace toroid::tests
