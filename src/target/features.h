// The table of x86-64 features: name, where CPUID shows it, what it stands on, what compilers call it.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace toroid {

enum class CpuidWord : uint8_t { l1_ecx, l1_edx, l7_ebx, l7_ecx, l7_edx, l7s1_eax, ext1_ecx };
// What the operating system must have switched on (XCR0) before the registers may be used.
enum class CpuState : uint8_t { none, avx, avx512, amx };

struct FeatureRow {
  std::string_view name;  // in target texts, packages and messages
  uint8_t level;          // 1..4: part of x86-64-v<level> and up; 0: beyond every base
  bool native;            // named in `native`: generated code uses it
  CpuidWord word;
  uint8_t bit;
  CpuState state;
  std::string_view needs;  // space-separated names of earlier rows
  std::string_view flag;   // -m<flag> for g++ and clang++
};

// Order matters: it is the order in texts, and a row stands on earlier ones only.
inline constexpr auto feature_table = std::to_array<FeatureRow>({
    {"sse2", 1, false, CpuidWord::l1_edx, 26, CpuState::none, "", "sse2"},
    {"cx16", 2, false, CpuidWord::l1_ecx, 13, CpuState::none, "", "cx16"},
    {"lahf", 2, false, CpuidWord::ext1_ecx, 0, CpuState::none, "", "sahf"},
    {"popcnt", 2, false, CpuidWord::l1_ecx, 23, CpuState::none, "", "popcnt"},
    {"sse3", 2, false, CpuidWord::l1_ecx, 0, CpuState::none, "", "sse3"},
    {"ssse3", 2, false, CpuidWord::l1_ecx, 9, CpuState::none, "sse3", "ssse3"},
    {"sse4.1", 2, false, CpuidWord::l1_ecx, 19, CpuState::none, "ssse3", "sse4.1"},
    {"sse4.2", 2, false, CpuidWord::l1_ecx, 20, CpuState::none, "sse4.1", "sse4.2"},
    {"avx", 3, false, CpuidWord::l1_ecx, 28, CpuState::avx, "sse4.2", "avx"},
    {"avx2", 3, true, CpuidWord::l7_ebx, 5, CpuState::avx, "avx", "avx2"},
    {"bmi1", 3, false, CpuidWord::l7_ebx, 3, CpuState::none, "", "bmi"},
    {"bmi2", 3, false, CpuidWord::l7_ebx, 8, CpuState::none, "", "bmi2"},
    {"f16c", 3, true, CpuidWord::l1_ecx, 29, CpuState::avx, "avx", "f16c"},
    {"fma", 3, true, CpuidWord::l1_ecx, 12, CpuState::avx, "avx", "fma"},
    {"lzcnt", 3, false, CpuidWord::ext1_ecx, 5, CpuState::none, "", "lzcnt"},
    {"movbe", 3, false, CpuidWord::l1_ecx, 22, CpuState::none, "", "movbe"},
    {"avx512f", 4, true, CpuidWord::l7_ebx, 16, CpuState::avx512, "avx2 fma f16c", "avx512f"},
    {"avx512bw", 4, true, CpuidWord::l7_ebx, 30, CpuState::avx512, "avx512f", "avx512bw"},
    {"avx512cd", 4, false, CpuidWord::l7_ebx, 28, CpuState::avx512, "avx512f", "avx512cd"},
    {"avx512dq", 4, true, CpuidWord::l7_ebx, 17, CpuState::avx512, "avx512f", "avx512dq"},
    {"avx512vl", 4, true, CpuidWord::l7_ebx, 31, CpuState::avx512, "avx512f", "avx512vl"},
    {"vnni", 0, true, CpuidWord::l7_ecx, 11, CpuState::avx512, "avx512f", "avx512vnni"},
    {"bf16", 0, true, CpuidWord::l7s1_eax, 5, CpuState::avx512, "avx512bw", "avx512bf16"},
    {"fp16", 0, true, CpuidWord::l7_edx, 23, CpuState::avx512, "avx512bw avx512dq avx512vl", "avx512fp16"},
    {"vbmi", 0, false, CpuidWord::l7_ecx, 1, CpuState::avx512, "avx512bw", "avx512vbmi"},
    {"vbmi2", 0, false, CpuidWord::l7_ecx, 6, CpuState::avx512, "avx512bw", "avx512vbmi2"},
    {"ifma", 0, false, CpuidWord::l7_ebx, 21, CpuState::avx512, "avx512f", "avx512ifma"},
    {"bitalg", 0, false, CpuidWord::l7_ecx, 12, CpuState::avx512, "avx512bw", "avx512bitalg"},
    {"vpopcntdq", 0, false, CpuidWord::l7_ecx, 14, CpuState::avx512, "avx512f", "avx512vpopcntdq"},
    {"gfni", 0, false, CpuidWord::l7_ecx, 8, CpuState::none, "", "gfni"},
    {"avxvnni", 0, true, CpuidWord::l7s1_eax, 4, CpuState::avx, "avx2", "avxvnni"},
    {"amx-tile", 0, true, CpuidWord::l7_edx, 24, CpuState::amx, "", "amx-tile"},
    {"amx-int8", 0, true, CpuidWord::l7_edx, 25, CpuState::amx, "amx-tile", "amx-int8"},
    {"amx-bf16", 0, true, CpuidWord::l7_edx, 22, CpuState::amx, "amx-tile", "amx-bf16"},
});
static_assert(feature_table.size() <= 64);

// What this machine is, read by CPUID, XGETBV and sysfs.
struct HostCpu {
  uint64_t features = 0;
  std::string_view microarchitecture = "generic";
  int64_t l1d = 0, l2 = 0, l3 = 0;  // bytes; 0 where unknown
};
HostCpu read_host_cpu();

}  // namespace toroid
