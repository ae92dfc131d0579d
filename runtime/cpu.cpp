// CPUID and XGETBV behind feature names.
#include "cpu.h"

#include <cpuid.h>

#include <cstdint>

namespace toroid::runtime {
namespace {

// Which XCR0 bits the operating system must have set for the registers: SSE+AVX, +opmask and ZMM, AMX tiles.
enum : uint64_t { state_none = 0, state_avx = 0x6, state_avx512 = 0xe6, state_amx = 0x60006 };
enum : int { eax, ebx, ecx, edx };

struct Feature {
  std::string_view name;
  uint32_t leaf, subleaf;
  int reg, bit;
  uint64_t state;
};
// Names as GCC spells its -m flags; second spellings are those of /proc/cpuinfo and of the short target lists.
constexpr Feature features[] = {
    {"sse3", 1, 0, ecx, 0, state_none},
    {"pclmul", 1, 0, ecx, 1, state_none},
    {"ssse3", 1, 0, ecx, 9, state_none},
    {"fma", 1, 0, ecx, 12, state_avx},
    {"cx16", 1, 0, ecx, 13, state_none},
    {"sse4.1", 1, 0, ecx, 19, state_none},
    {"sse4_1", 1, 0, ecx, 19, state_none},
    {"sse4.2", 1, 0, ecx, 20, state_none},
    {"sse4_2", 1, 0, ecx, 20, state_none},
    {"movbe", 1, 0, ecx, 22, state_none},
    {"popcnt", 1, 0, ecx, 23, state_none},
    {"aes", 1, 0, ecx, 25, state_none},
    {"avx", 1, 0, ecx, 28, state_avx},
    {"f16c", 1, 0, ecx, 29, state_avx},
    {"sse", 1, 0, edx, 25, state_none},
    {"sse2", 1, 0, edx, 26, state_none},
    {"lahf", 0x80000001, 0, ecx, 0, state_none},
    {"sahf", 0x80000001, 0, ecx, 0, state_none},
    {"lzcnt", 0x80000001, 0, ecx, 5, state_none},
    {"abm", 0x80000001, 0, ecx, 5, state_none},
    {"bmi", 7, 0, ebx, 3, state_none},
    {"bmi1", 7, 0, ebx, 3, state_none},
    {"avx2", 7, 0, ebx, 5, state_avx},
    {"bmi2", 7, 0, ebx, 8, state_none},
    {"avx512f", 7, 0, ebx, 16, state_avx512},
    {"avx512dq", 7, 0, ebx, 17, state_avx512},
    {"avx512ifma", 7, 0, ebx, 21, state_avx512},
    {"avx512cd", 7, 0, ebx, 28, state_avx512},
    {"avx512bw", 7, 0, ebx, 30, state_avx512},
    {"avx512vl", 7, 0, ebx, 31, state_avx512},
    {"avx512vbmi", 7, 0, ecx, 1, state_avx512},
    {"vbmi", 7, 0, ecx, 1, state_avx512},
    {"avx512vbmi2", 7, 0, ecx, 6, state_avx512},
    {"avx512_vbmi2", 7, 0, ecx, 6, state_avx512},
    {"vbmi2", 7, 0, ecx, 6, state_avx512},
    {"gfni", 7, 0, ecx, 8, state_none},
    {"avx512vnni", 7, 0, ecx, 11, state_avx512},
    {"avx512_vnni", 7, 0, ecx, 11, state_avx512},
    {"vnni", 7, 0, ecx, 11, state_avx512},
    {"avx512bitalg", 7, 0, ecx, 12, state_avx512},
    {"avx512vpopcntdq", 7, 0, ecx, 14, state_avx512},
    {"amx-bf16", 7, 0, edx, 22, state_amx},
    {"amx_bf16", 7, 0, edx, 22, state_amx},
    {"avx512fp16", 7, 0, edx, 23, state_avx512},
    {"avx512_fp16", 7, 0, edx, 23, state_avx512},
    {"fp16", 7, 0, edx, 23, state_avx512},
    {"amx-tile", 7, 0, edx, 24, state_amx},
    {"amx_tile", 7, 0, edx, 24, state_amx},
    {"amx-int8", 7, 0, edx, 25, state_amx},
    {"amx_int8", 7, 0, edx, 25, state_amx},
    {"avxvnni", 7, 1, eax, 4, state_avx},
    {"avx_vnni", 7, 1, eax, 4, state_avx},
    {"avx512bf16", 7, 1, eax, 5, state_avx512},
    {"avx512_bf16", 7, 1, eax, 5, state_avx512},
    {"bf16", 7, 1, eax, 5, state_avx512},
};

uint64_t enabled_state() {
  uint32_t r[4];
  if (!__get_cpuid(1, &r[0], &r[1], &r[2], &r[3]) || !(r[ecx] >> 27 & 1)) return 0;
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

}  // namespace

bool cpu_has(std::string_view name) {
  for (const Feature& f : features) {
    if (f.name != name) continue;
    uint32_t r[4];
    if (!__get_cpuid_count(f.leaf, f.subleaf, &r[0], &r[1], &r[2], &r[3])) return false;
    return (r[f.reg] >> f.bit & 1) && (enabled_state() & f.state) == f.state;
  }
  return false;
}

const char* missing_feature(const char* const* names) {
  for (; names && *names; ++names)
    if (!cpu_has(*names)) return *names;
  return nullptr;
}

}  // namespace toroid::runtime
