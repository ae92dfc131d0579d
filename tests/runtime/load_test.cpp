// Packages written, loaded and run through the C interface: the whole way around a tiny model.
#include <dirent.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/file.h"
#include "package/package.h"
#include "runtime/tiny_model.h"
#include "toroid/runtime.h"

namespace toroid::tests {
namespace {

struct Unload {
  void operator()(toroid_model* model) const { toroid_unload(model); }
};
using Handle = std::unique_ptr<toroid_model, Unload>;

package::MemoryPackage pack(const TinyModel& tiny) {
  const std::string code = tiny.code();
  auto package = package::write_package_to_memory(tiny.contents(code));
  EXPECT_TRUE(package) << package.error().to_string();
  return std::move(*package);
}

Handle load(std::span<const std::byte> bytes, uint32_t flags = 0) {
  toroid_load_options options = {};
  options.size = sizeof options;
  options.flags = flags;
  toroid_model* model = nullptr;
  EXPECT_EQ(toroid_load_memory(bytes.data(), bytes.size(), &options, &model), 0) << toroid_last_error();
  return Handle(model);
}

toroid_tensor tensor(const float* data, const int64_t* sizes, const int64_t* strides = nullptr, int32_t rank = 2) {
  return {sizeof(toroid_tensor), const_cast<float*>(data), sizes, strides, rank, TOROID_F32, 0, 0, nullptr};
}

std::vector<float> run(toroid_model* model, const std::vector<float>& x, const toroid_run_options* options = nullptr) {
  std::vector<float> y(x.size() * 2, -1);
  const int64_t in_sizes[] = {static_cast<int64_t>(x.size() / 4), 4}, out_sizes[] = {in_sizes[0], 8};
  const toroid_tensor in = tensor(x.data(), in_sizes), out = tensor(y.data(), out_sizes);
  EXPECT_EQ(toroid_run_with(model, &in, 1, &out, 1, options), 0) << toroid_last_error();
  return y;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

int open_descriptors() {
  int count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder)) ++count;
  ::closedir(folder);
  return count;
}

TEST(Load, runs_from_memory) {
  const TinyModel tiny;
  const auto package = pack(tiny);
  for (uint32_t flags : {0u, 1u, 2u, 4u}) {
    const Handle model = load(package.bytes(), flags);
    ASSERT_TRUE(model);
    EXPECT_STREQ(toroid_model_name(model.get()), "model");
    EXPECT_STREQ(toroid_model_target(model.get()), "x86-64");
    EXPECT_STREQ(toroid_metadata(model.get(), "AOTI_DEVICE_KEY"), "cpu");
    EXPECT_EQ(toroid_metadata(model.get(), "nothing"), nullptr);
    EXPECT_NE(std::string(toroid_manifest(model.get())).find("\"fc.weight\""), std::string::npos);
    EXPECT_STREQ(toroid_report(model.get()), "{\"kernels\": []}");
    for (size_t rows : {1, 5, 4096}) {
      const std::vector<float> x = pattern(rows * 4);
      EXPECT_EQ(run(model.get(), x), tiny.expect(x));
    }
  }
}

TEST(Load, describes_inputs_and_outputs) {
  const auto package = pack({});
  const Handle model = load(package.bytes());
  ASSERT_EQ(toroid_input_count(model.get()), 1);
  ASSERT_EQ(toroid_output_count(model.get()), 1);
  toroid_slot slot = {};
  slot.size = sizeof slot;
  ASSERT_EQ(toroid_input(model.get(), 0, &slot), 0);
  EXPECT_STREQ(slot.name, "x");
  EXPECT_STREQ(slot.sizes, "s0, 4");
  EXPECT_EQ(slot.dtype, TOROID_F32);
  EXPECT_EQ(slot.rank, 2);
  EXPECT_EQ(toroid_input(model.get(), 1, &slot), TOROID_BAD_OPTION);
  const int64_t sizes[] = {7, 4};
  const std::vector<float> x = pattern(28);
  const toroid_tensor in = tensor(x.data(), sizes);
  int64_t shapes[4] = {};
  ASSERT_EQ(toroid_output_shapes(model.get(), &in, 1, shapes, 4), 0) << toroid_last_error();
  EXPECT_EQ(std::vector<int64_t>(shapes, shapes + 4), (std::vector<int64_t>{7, 8, 8, 1}));
  EXPECT_EQ(toroid_output_shapes(model.get(), &in, 1, shapes, 3), TOROID_BAD_OPTION);
}

TEST(Load, messages_name_input_and_expectation) {
  const auto package = pack({});
  const Handle model = load(package.bytes());
  const std::vector<float> x(5000 * 4), y(5000 * 8);
  auto attempt = [&](toroid_tensor in, toroid_tensor out, size_t count = 1) {
    const toroid_tensor both[] = {in, in};
    return toroid_run(model.get(), both, count, &out, 1);
  };
  const int64_t rows4097[] = {4097, 4}, cols5[] = {3, 5}, good[] = {3, 4}, out3[] = {3, 8}, out4[] = {4, 8};
  const toroid_tensor out = tensor(y.data(), out3);
  EXPECT_EQ(attempt(tensor(x.data(), rows4097), out), TOROID_BAD_INPUT);
  EXPECT_STREQ(toroid_last_error(), "input 0 (`x`): size 0 is 4097, must be in 1..4096");
  EXPECT_EQ(attempt(tensor(x.data(), cols5), out), TOROID_BAD_INPUT);
  EXPECT_STREQ(toroid_last_error(), "input 0 (`x`): size 1 is 5, must be 4");
  toroid_tensor bad = tensor(x.data(), good);
  bad.dtype = TOROID_F64;
  EXPECT_EQ(attempt(bad, out), TOROID_BAD_INPUT);
  EXPECT_STREQ(toroid_last_error(), "input 0 (`x`): dtype is f64, must be f32");
  EXPECT_EQ(attempt(tensor(x.data(), good, nullptr, 1), out), TOROID_BAD_INPUT);
  EXPECT_STREQ(toroid_last_error(), "input 0 (`x`): rank is 1, must be 2");
  bad = tensor(x.data(), good);
  bad.device_type = 1;
  EXPECT_EQ(attempt(bad, out), TOROID_BAD_INPUT);
  EXPECT_STREQ(toroid_last_error(), "input 0 (`x`): is on device 1, must be on the CPU");
  EXPECT_EQ(attempt(tensor(nullptr, good), out), TOROID_BAD_INPUT);
  EXPECT_STREQ(toroid_last_error(), "input 0 (`x`): its data is a null pointer");
  EXPECT_EQ(attempt(tensor(x.data(), good), out, 2), TOROID_BAD_INPUT);
  EXPECT_STREQ(toroid_last_error(), "expected 1 input, got 2");
  EXPECT_EQ(attempt(tensor(x.data(), good), tensor(y.data(), out4)), TOROID_BAD_INPUT);
  EXPECT_STREQ(toroid_last_error(), "output 0 (`y`): size 0 is 4, must be 3");
  const int64_t unlucky[] = {13, 4}, unlucky_out[] = {13, 8};
  EXPECT_EQ(attempt(tensor(x.data(), unlucky), tensor(y.data(), unlucky_out)), TOROID_ASSERTION);
  EXPECT_STREQ(toroid_last_error(), "assertion failed: 13 is unlucky");
  EXPECT_EQ(attempt(tensor(x.data(), good), out), TOROID_OK);
  EXPECT_STREQ(toroid_last_error(), "");
}

TEST(Load, strided_buffers_on_both_sides) {
  const TinyModel tiny;
  const auto package = pack(tiny);
  const Handle model = load(package.bytes());
  // x transposed in memory, y as every second column of a wider matrix.
  const std::vector<float> x = pattern(12);
  std::vector<float> turned(12), wide(3 * 20, 99);
  for (size_t i = 0; i < 3; ++i)
    for (size_t k = 0; k < 4; ++k) turned[k * 3 + i] = x[i * 4 + k];
  const int64_t in_sizes[] = {3, 4}, in_strides[] = {1, 3}, out_sizes[] = {3, 8}, out_strides[] = {20, 2};
  const toroid_tensor in = tensor(turned.data(), in_sizes, in_strides),
                      out = tensor(wide.data(), out_sizes, out_strides);
  ASSERT_EQ(toroid_run(model.get(), &in, 1, &out, 1), 0) << toroid_last_error();
  const std::vector<float> y = tiny.expect(x);
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < 20; ++j) EXPECT_EQ(wide[i * 20 + j], j % 2 == 0 && j < 16 ? y[i * 8 + j / 2] : 99);
}

TEST(Load, outputs_made_by_the_runtime_outlive_the_model) {
  const TinyModel tiny;
  const auto package = pack(tiny);
  Handle model = load(package.bytes());
  const std::vector<float> x = pattern(8);
  const int64_t sizes[] = {2, 4};
  const toroid_tensor in = tensor(x.data(), sizes);
  toroid_tensor out = {};
  out.size = sizeof out;
  ASSERT_EQ(toroid_run_alloc(model.get(), &in, 1, &out, 1, nullptr), 0) << toroid_last_error();
  model.reset();
  EXPECT_EQ(out.rank, 2);
  EXPECT_EQ(out.sizes[0], 2);
  EXPECT_EQ(out.strides[0], 8);
  const float* data = static_cast<const float*>(out.data);
  EXPECT_EQ(std::vector<float>(data, data + 16), tiny.expect(x));
  toroid_free_outputs(&out, 1);
  EXPECT_EQ(out.data, nullptr);
}

TEST(Load, outputs_placed_by_the_caller) {
  const auto package = pack(TinyModel{});
  const Handle model = load(package.bytes());
  const std::vector<float> x = {1, -2, 3, -4, 5, -6, 7, -8};
  const int64_t in_sizes[] = {2, 4};
  const toroid_tensor in = tensor(x.data(), in_sizes);
  struct Places {
    std::vector<float> y;
    std::vector<int64_t> shape;
  } places;
  toroid_run_options options = {};
  options.size = sizeof options;
  options.place_user = &places;
  options.place = [](void* user, int32_t output, const int64_t* sizes, const int64_t* strides) -> void* {
    auto& to = *static_cast<Places*>(user);
    EXPECT_EQ(output, 0);
    to.shape = {sizes[0], sizes[1], strides[0], strides[1]};
    to.y.assign(static_cast<size_t>(sizes[0] * sizes[1]), -1);
    return to.y.data();
  };
  ASSERT_EQ(toroid_run_with(model.get(), &in, 1, nullptr, 0, &options), 0) << toroid_last_error();
  EXPECT_EQ(places.shape, (std::vector<int64_t>{2, 8, 8, 1}));
  EXPECT_EQ(places.y, run(model.get(), x));
  // Both at once are one too many.
  const int64_t out_sizes[] = {2, 8};
  const toroid_tensor out = tensor(places.y.data(), out_sizes);
  EXPECT_EQ(toroid_run_with(model.get(), &in, 1, &out, 1, &options), TOROID_BAD_OPTION);
}

TEST(Load, marks_frame_each_kernel) {
  const auto package = pack({});
  const Handle model = load(package.bytes());
  std::vector<int> calls;
  toroid_run_options options = {};
  options.size = sizeof options;
  options.mark_user = &calls;
  options.mark = [](void* user, int32_t kernel, int32_t after) {
    static_cast<std::vector<int>*>(user)->push_back(kernel * 10 + after);
  };
  run(model.get(), pattern(8), &options);
  EXPECT_EQ(calls, (std::vector<int>{0, 1}));
}

TEST(Load, same_bits_for_all_thread_counts_and_from_many_threads) {
  const TinyModel tiny;
  const auto package = pack(tiny);
  const Handle model = load(package.bytes());
  const std::vector<float> x = pattern(4000 * 4), expected = tiny.expect(x);
  EXPECT_EQ(toroid_set_threads(model.get(), 1), 0);
  EXPECT_EQ(toroid_threads(model.get()), 1);
  EXPECT_EQ(run(model.get(), x), expected);
  EXPECT_EQ(toroid_set_threads(model.get(), 0), 0);
  EXPECT_EQ(toroid_threads(model.get()), toroid_pool_threads());
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int c = 0; c < 3; ++c)
    callers.emplace_back([&] {
      for (int i = 0; i < 50; ++i)
        if (run(model.get(), x) != expected) ++wrong;
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Load, mutated_buffers_belong_to_the_handle) {
  TinyModel tiny;
  tiny.mutates = true;
  const auto package = pack(tiny);
  const std::vector<float> x = pattern(4);
  for (uint32_t flags : {0u, 1u}) {
    const Handle a = load(package.bytes(), flags), b = load(package.bytes(), flags);
    const float base = tiny.expect(x)[0];
    EXPECT_EQ(run(a.get(), x)[0], base + 1);
    EXPECT_EQ(run(a.get(), x)[0], base + 2);
    EXPECT_EQ(run(b.get(), x)[0], base + 1);
  }
}

TEST(Load, weights_can_be_replaced) {
  TinyModel tiny;
  const auto package = pack(tiny);
  for (uint32_t flags : {0u, 1u}) {
    const Handle model = load(package.bytes(), flags);
    TinyModel fresh;
    for (float& w : fresh.weight) w = -w + 0.25f;
    const int64_t matrix[] = {8, 4}, vector[] = {8};
    const char* names[] = {"fc.weight"};
    const toroid_tensor weight = tensor(fresh.weight.data(), matrix);
    ASSERT_EQ(toroid_set_weights(model.get(), names, &weight, 1), 0) << toroid_last_error();
    const std::vector<float> x = pattern(12);
    EXPECT_EQ(run(model.get(), x), fresh.expect(x));
    // `scale` alone: the bias it was multiplied with is read back. The bias alone: the scale is lost in the product.
    for (float& s : fresh.scale) s = 3 - s;
    const char* scale_name[] = {"scale"};
    const toroid_tensor scale = tensor(fresh.scale.data(), vector, nullptr, 1);
    ASSERT_EQ(toroid_set_weights(model.get(), scale_name, &scale, 1), 0) << toroid_last_error();
    EXPECT_EQ(run(model.get(), x), fresh.expect(x));
    const char* both[] = {"fc.bias", "scale"};
    for (float& b : fresh.bias) b += 1;
    const toroid_tensor pair[] = {tensor(fresh.bias.data(), vector, nullptr, 1), scale};
    EXPECT_EQ(toroid_set_weights(model.get(), both, pair, 1), TOROID_BAD_INPUT);
    EXPECT_STREQ(toroid_last_error(),
                 "these weights were folded together and can only be replaced together: `fc.bias`, `scale`");
    ASSERT_EQ(toroid_set_weights(model.get(), both, pair, 2), 0) << toroid_last_error();
    EXPECT_EQ(run(model.get(), x), fresh.expect(x));
    const char* unknown[] = {"fc.wait"};
    EXPECT_EQ(toroid_set_weights(model.get(), unknown, &weight, 1), TOROID_BAD_INPUT);
    EXPECT_STREQ(toroid_last_error(), "the model has no weight `fc.wait`");
    EXPECT_EQ(toroid_set_weights(model.get(), names, &scale, 1), TOROID_BAD_INPUT);
    EXPECT_STREQ(toroid_last_error(), "weight `fc.weight`: sizes are [8], must be [8, 4]");
  }
  // The package itself is untouched.
  const std::vector<float> x = pattern(12);
  EXPECT_EQ(run(load(package.bytes()).get(), x), tiny.expect(x));
}

class OnDisk : public ::testing::Test {
 protected:
  OnDisk() : folder_(std::move(*TempFolder::create(::testing::TempDir()))) {}
  std::string write(const TinyModel& tiny, const std::string& name) {
    const std::string code = tiny.code(), path = folder_.path() + "/" + name;
    auto status = package::write_package(tiny.contents(code), path);
    EXPECT_TRUE(status) << status.error().to_string();
    return path;
  }
  Handle load(const std::string& path) {
    toroid_model* model = nullptr;
    EXPECT_EQ(toroid_load(path.c_str(), nullptr, &model), 0) << toroid_last_error();
    return Handle(model);
  }
  TempFolder folder_;
};

TEST_F(OnDisk, two_loaded_one_unloaded_a_third_loaded) {
  TinyModel one, two, three;
  two.bias[0] = 7, three.bias[1] = 9;
  two.name = "two", three.name = "three";
  const std::vector<float> x = pattern(8);
  Handle a = load(write(one, "one.pt2")), b = load(write(two, "two.pt2"));
  a.reset();
  Handle c = load(write(three, "three.pt2"));
  EXPECT_EQ(run(b.get(), x), two.expect(x));
  EXPECT_EQ(run(c.get(), x), three.expect(x));
  // The texts of their code differ in the name: a mix-up of handles would also show here.
  EXPECT_EQ(toroid_verify(b.get()), 0) << toroid_last_error();
}

TEST_F(OnDisk, a_thousand_loads_leave_no_trace) {
  TinyModel tiny;
  const std::string path = write(tiny, "tiny.pt2");
  const std::vector<float> x = pattern(8);
  auto cycle = [&] {
    const Handle model = load(path);
    ASSERT_EQ(run(model.get(), x), tiny.expect(x));
  };
  for (int i = 0; i < 20; ++i) cycle();
  // The heap may grow a little for other reasons; mappings of files must be the same.
  auto mapped_files = [] {
    std::vector<std::string> lines;
    for (const std::string& line : split(read_text("/proc/self/maps"), '\n'))
      if (line.find("[heap]") == std::string::npos && line.find("[stack]") == std::string::npos
#ifdef __SANITIZE_ADDRESS__  // whose own memory comes and goes
          && line.find('/') != std::string::npos
#endif
      )
        lines.push_back(line.substr(line.find(' ') == std::string::npos ? 0 : line.find(' ')));
    return lines;
  };
  const auto before = mapped_files();
  const int descriptors = open_descriptors();
  for (int i = 0; i < 1000; ++i) cycle();
  EXPECT_EQ(mapped_files().size(), before.size());
  EXPECT_EQ(mapped_files(), before);
  EXPECT_EQ(open_descriptors(), descriptors);
}

TEST_F(OnDisk, several_models_are_chosen_by_name) {
  TinyModel one, two;
  two.bias[3] = 5;
  const std::string code = one.code();
  auto contents = one.contents(code);
  auto other = two.contents(code);
  other.models[0].name = "second";
  contents.models.push_back(other.models[0]);
  const std::string path = folder_.path() + "/both.pt2";
  ASSERT_TRUE(package::write_package(contents, path));
  toroid_model* model = nullptr;
  EXPECT_EQ(toroid_load(path.c_str(), nullptr, &model), TOROID_BAD_OPTION);
  EXPECT_NE(std::string(toroid_last_error()).find("several models, name one of `model`, `second`"), std::string::npos);
  toroid_load_options options = {};
  options.size = sizeof options;
  options.model = "second";
  ASSERT_EQ(toroid_load(path.c_str(), &options, &model), 0) << toroid_last_error();
  const std::vector<float> x = pattern(8);
  EXPECT_EQ(run(Handle(model).get(), x), two.expect(x));
  options.model = "third";
  EXPECT_EQ(toroid_load(path.c_str(), &options, &model), TOROID_BAD_OPTION);
}

TEST_F(OnDisk, damage_is_found) {
  TinyModel tiny;
  tiny.bias[1] = 0.73165f;  // found again by its bytes
  const std::string good = read_text(write(tiny, "good.pt2"));
  const std::string path = folder_.path() + "/bad.pt2";
  auto status_of = [&](const std::string& bytes, bool verify) {
    std::ofstream(path) << bytes;
    toroid_load_options options = {};
    options.size = sizeof options;
    options.flags = verify ? TOROID_LOAD_VERIFY : 0;
    toroid_model* model = nullptr;
    const int status = toroid_load(path.c_str(), &options, &model);
    Handle handle(model);
    return status;
  };
  EXPECT_EQ(status_of(good, true), 0) << toroid_last_error();
  std::string code = good;
  code[code.find("\x7f"
                 "ELF") +
       5000] ^= 1;
  EXPECT_EQ(status_of(code, false), TOROID_BAD_FILE);
  EXPECT_NE(std::string(toroid_last_error()).find("code is damaged"), std::string::npos);
  std::string weights = good;
  const float first = tiny.bias[1];
  const std::string bias(reinterpret_cast<const char*>(&first), 4);
  weights[weights.find(bias) + 2] ^= 1;
  EXPECT_EQ(status_of(weights, false), 0) << toroid_last_error();
  EXPECT_EQ(status_of(weights, true), TOROID_BAD_FILE);
  EXPECT_NE(std::string(toroid_last_error()).find("weights are damaged"), std::string::npos);
  std::string manifest = good;
  manifest[manifest.find("\"target\": \"x86-64\"") + 12] = 'X';
  EXPECT_EQ(status_of(manifest, false), TOROID_BAD_FILE);
  EXPECT_NE(std::string(toroid_last_error()).find("manifest.json is damaged"), std::string::npos);
  // Cut anywhere: an error, never a crash.
  for (size_t size = 0; size < good.size(); size += good.size() / 97)
    EXPECT_NE(status_of(good.substr(0, size), true), 0);
}

TEST_F(OnDisk, a_cpu_without_the_features_is_told) {
  TinyModel tiny;
  const std::string code = tiny.code(), path = folder_.path() + "/far.pt2";
  auto contents = tiny.contents(code);
  contents.models[0].target = "x86-64-v9+quantum";
  contents.models[0].features = {"sse2", "quantum"};
  ASSERT_TRUE(package::write_package(contents, path));
  toroid_model* model = nullptr;
  EXPECT_EQ(toroid_load(path.c_str(), nullptr, &model), TOROID_UNSUPPORTED);
  EXPECT_STREQ(toroid_last_error(), "the package is compiled for x86-64-v9+quantum; this CPU has no `quantum`");
  // What it holds can be read all the same; what needs its code is refused.
  toroid_load_options options{};
  options.size = sizeof options;
  options.flags = TOROID_LOAD_DESCRIBE;
  ASSERT_EQ(toroid_load(path.c_str(), &options, &model), TOROID_OK) << toroid_last_error();
  EXPECT_STREQ(toroid_model_target(model), "x86-64-v9+quantum");
  EXPECT_NE(std::string(toroid_manifest(model)).find("\"recipes\""), std::string::npos);
  EXPECT_EQ(toroid_input_count(model), 0);
  EXPECT_EQ(toroid_report(model), nullptr);
  EXPECT_EQ(toroid_run(model, nullptr, 0, nullptr, 0), TOROID_BAD_OPTION);
  EXPECT_STREQ(toroid_last_error(), "the model was loaded with TOROID_LOAD_DESCRIBE, without its code");
  toroid_unload(model);
}

TEST_F(OnDisk, equal_contents_give_equal_bytes) {
  TinyModel tiny;
  tiny.weight[0] = 0.73165f;
  EXPECT_EQ(read_text(write(tiny, "a.pt2")), read_text(write(tiny, "b.pt2")));
  const auto memory = pack(tiny);
  EXPECT_EQ(read_text(folder_.path() + "/a.pt2"),
            std::string(reinterpret_cast<const char*>(memory.bytes().data()), memory.bytes().size()));
  const std::string bytes = read_text(folder_.path() + "/a.pt2");
  // The packed weight's first row stands on a page boundary plus its offset.
  const float w00 = tiny.weight[0], w10 = tiny.weight[4];
  std::string head(reinterpret_cast<const char*>(&w00), 4);
  head.append(reinterpret_cast<const char*>(&w10), 4);
  EXPECT_EQ(bytes.find(head) % 4096, 0u);
}

TEST_F(OnDisk, a_failed_write_leaves_nothing) {
  TinyModel tiny;
  const std::string code = tiny.code(), path = folder_.path() + "/never.pt2";
  auto contents = tiny.contents(code);
  contents.models[0].write_weights = [](uint64_t, std::span<std::byte>) -> Status {
    return fail(Kind::cancelled, "stop");
  };
  auto status = package::write_package(contents, path);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, Kind::cancelled);
  // A file larger than the limit: as on a full disk, the failure comes before anything is mapped.
  rlimit before;
  ::getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = 4096;
  ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  status = package::write_package(tiny.contents(code), path);
  ::setrlimit(RLIMIT_FSIZE, &before);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, Kind::io);
  DIR* folder = ::opendir(folder_.path().c_str());
  int entries = 0;
  while (dirent* entry = ::readdir(folder)) entries += entry->d_name[0] != '.' || std::strlen(entry->d_name) > 2;
  ::closedir(folder);
  EXPECT_EQ(entries, 0);
}

// For tests/runtime/pytorch_test.py: writes the tiny packages where TOROID_TINY_FOLDER says.
TEST(TinyPackages, write) {
  const char* folder = ::getenv("TOROID_TINY_FOLDER");
  if (!folder) GTEST_SKIP() << "only on request";
  for (const bool mutates : {false, true}) {
    TinyModel tiny;
    tiny.mutates = tiny.keeps_scale = mutates;
    const std::string code = tiny.code();
    auto status =
        package::write_package(tiny.contents(code), format("{}/{}.pt2", folder, mutates ? "counting" : "tiny"));
    ASSERT_TRUE(status) << status.error().to_string();
  }
}

}  // namespace
}  // namespace toroid::tests
