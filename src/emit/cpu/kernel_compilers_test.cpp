// Every kind of kernel gives the same bits whether g++ or clang compiled it.
#include <gtest/gtest.h>

#include <set>

#include "emit/cpu/attention.h"
#include "emit/cpu/conv.h"
#include "emit/cpu/depthwise.h"
#include "emit/cpu/kernel_testing.h"
#include "emit/cpu/matmul.h"

namespace toroid::emit {
namespace {
using namespace testing;

constexpr const char* preamble = "f32* const out = (f32*)p[3]; (void)out;\n";
std::string store(const std::string& acc, const std::string& at, const std::string& count) {
  return format("store_f32(out + {}, {}{});\n", at, acc, count.empty() ? "" : ", " + count);
}

KernelText product(const Isa& isa, DType dtype, BLayout layout, int64_t m, const std::string& name, int64_t k = 61) {
  MatmulSpec spec;
  spec.isa = isa;
  spec.dtype = dtype;
  spec.m = Size::of(m);
  spec.n = Size::of(75);
  spec.k = Size::of(k);
  spec.a = "p[0]";
  spec.b = "p[1]";
  spec.a_stride = Size::of(k);
  spec.b_stride = Size::of(layout == BLayout::transposed ? std::max<int64_t>(80, k) : 80);
  spec.b_layout = layout;
  spec.preamble = preamble;
  spec.epilogue = [](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
    return store(acc, format("{} * 75 + {}", i[1], i[2]), count);
  };
  return emit_matmul(spec, name);
}

KernelText convolution(const Isa& isa, const std::string& name, int64_t channels = 12) {
  ConvSpec spec;
  spec.isa = isa;
  spec.batch = Size::of(1);
  spec.height = spec.width = spec.out_height = spec.out_width = Size::of(7);
  spec.in_channels = channels;
  spec.out_channels = 30;
  spec.kernel_h = spec.kernel_w = 3;
  spec.pad_top = spec.pad_left = 1;
  spec.input = "p[0]";
  spec.weight = "p[1]";
  spec.batch_stride = Size::of(0);
  spec.row_stride = Size::of(7 * channels);
  spec.pixel_stride = Size::of(channels);
  spec.preamble = preamble;
  spec.epilogue = [](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
    return store(acc, format("({} * 7 + {}) * 30 + {}", i[1], i[2], i[3]), count);
  };
  return emit_conv(spec, name);
}

KernelText depthwise(const Isa& isa, const std::string& name) {
  DepthwiseSpec spec;
  spec.isa = isa;
  spec.batch = Size::of(1);
  spec.height = spec.width = spec.out_height = spec.out_width = Size::of(9);
  spec.channels = 20;
  spec.kernel_h = spec.kernel_w = 3;
  spec.pad_top = spec.pad_left = 1;
  spec.input = "p[0]";
  spec.weight = "p[1]";
  spec.batch_stride = Size::of(0);
  spec.row_stride = Size::of(180);
  spec.pixel_stride = Size::of(20);
  spec.preamble = preamble;
  spec.epilogue = [](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
    return store(acc, format("({} * 9 + {}) * 20 + {}", i[1], i[2], i[3]), count);
  };
  return emit_depthwise(spec, name);
}

KernelText attention(const Isa& isa, int64_t rows, const std::string& name) {
  AttentionSpec spec;
  spec.isa = isa;
  spec.batch = Size::of(1);
  spec.rows = Size::of(rows);
  spec.keys = Size::of(90);
  spec.dim = spec.value_dim = 40;
  spec.q = "p[0]";
  spec.k = "p[1]";
  spec.v = "p[2]";
  spec.q_row = spec.k_row = spec.v_row = Size::of(40);
  spec.q_batch = spec.q_head = spec.k_batch = spec.k_head = spec.v_batch = spec.v_head = Size::of(0);
  spec.scale = 0.7;
  spec.causal = rows > 1;
  spec.preamble = preamble;
  spec.epilogue = [](const std::string& acc, const std::vector<std::string>& i, const std::string& count) {
    return store(acc, format("{} * 40 + {}", i[2], i[3]), count);
  };
  return emit_attention(spec, name);
}

TEST(Kernels, SameBitsFromBothCompilers) {
  const char* clang = "clang++-19";
  if (std::system("clang++-19 --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no " << clang;
  for (const TestTarget& target : host_targets()) {
    if (target.isa.lanes == 4) continue;
    SCOPED_TRACE(target.label);
    std::string source;
    std::set<std::string> names;
    auto add = [&](const std::string& name, const KernelText& kernel) {
      names.insert(name);
      source += with_units(kernel, name);
    };
    add("packed", product(target.isa, DType::f32, BLayout::packed, 13, "packed"));
    add("seven", product(target.isa, DType::f32, BLayout::packed, 7, "seven"));
    add("rows", product(target.isa, DType::f32, BLayout::row_major, 13, "rows"));
    add("columns", product(target.isa, DType::f32, BLayout::transposed, 13, "columns"));
    add("dots", product(target.isa, DType::f32, BLayout::transposed, 3, "dots"));
    add("halves", product(target.isa, DType::bf16, BLayout::packed, 13, "halves"));
    add("halves_rows", product(target.isa, DType::bf16, BLayout::row_major, 5, "halves_rows"));
    add("halves_dots", product(target.isa, DType::bf16, BLayout::transposed, 2, "halves_dots"));
    add("conv", convolution(target.isa, "conv"));
    // Sums of more than one block.
    add("long_packed", product(target.isa, DType::f32, BLayout::packed, 13, "long_packed", 700));
    add("long_seven", product(target.isa, DType::f32, BLayout::packed, 7, "long_seven", 700));
    add("long_columns", product(target.isa, DType::f32, BLayout::transposed, 13, "long_columns", 700));
    add("long_halves", product(target.isa, DType::bf16, BLayout::packed, 13, "long_halves", 1101));
    add("long_conv", convolution(target.isa, "long_conv", 150));
    add("depthwise", depthwise(target.isa, "depthwise"));
    add("attention", attention(target.isa, 20, "attention"));
    add("decode", attention(target.isa, 1, "decode"));
    const KernelLibrary first(source, target), second(source, target, clang);
    Values values(5);
    // Small magnitudes that are ordinary numbers as f32 and as pairs of bf16.
    Operand a = values.operand(400000, DType::bf16), b = values.operand(400000, DType::bf16),
            c = values.operand(400000, DType::bf16);
    for (const std::string& name : names) {
      std::vector<float> one(8192, 0), two(8192, 0);
      for (auto* run : {&one, &two}) {
        const KernelLibrary& library = run == &one ? first : second;
        char* p[] = {a.data(), b.data(), c.data(), reinterpret_cast<char*>(run->data())};
        library.kernel(name)(p, nullptr, 0, library.units(name, nullptr));
      }
      EXPECT_EQ(std::memcmp(one.data(), two.data(), one.size() * sizeof(float)), 0) << name;
      EXPECT_TRUE(std::any_of(one.begin(), one.end(), [](float x) { return x != 0; })) << name;
    }
  }
}

}  // namespace
}  // namespace toroid::emit
