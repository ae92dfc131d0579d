// CPUID and XGETBV by hand: which rows of the feature table this machine has, what it is called, how large its caches
// are.
#include <cpuid.h>

#include <string>

#include "base/file.h"
#include "base/text.h"
#include "target/features.h"

namespace toroid {
namespace {

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Registers r;
  // 0 where the leaf does not exist, and then all features of it are absent.
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

uint64_t xgetbv0() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

struct Model {
  uint32_t family, first_model, last_model;
  std::string_view name;
};

// Model ranges as the vendors number them; a model that is not here is "generic", which costs tuning and nothing else.
constexpr Model amd_models[] = {
    {0x17, 0x00, 0x2f, "zen1"}, {0x17, 0x30, 0xff, "zen2"}, {0x19, 0x00, 0x0f, "zen3"}, {0x19, 0x10, 0x1f, "zen4"},
    {0x19, 0x20, 0x5f, "zen3"}, {0x19, 0x60, 0x7f, "zen4"}, {0x19, 0xa0, 0xaf, "zen4"}, {0x1a, 0x00, 0xff, "zen5"},
};
constexpr Model intel_models[] = {
    {6, 0x3c, 0x3c, "haswell"},        {6, 0x3f, 0x3f, "haswell"},       {6, 0x45, 0x46, "haswell"},
    {6, 0x3d, 0x3d, "broadwell"},      {6, 0x47, 0x47, "broadwell"},     {6, 0x4f, 0x4f, "broadwell"},
    {6, 0x56, 0x56, "broadwell"},      {6, 0x4e, 0x4e, "skylake"},       {6, 0x5e, 0x5e, "skylake"},
    {6, 0x8e, 0x8e, "skylake"},        {6, 0x9e, 0x9e, "skylake"},       {6, 0xa5, 0xa6, "skylake"},
    {6, 0x55, 0x55, "skylake-avx512"}, {6, 0x6a, 0x6a, "icelake"},       {6, 0x6c, 0x6c, "icelake"},
    {6, 0x7d, 0x7e, "icelake"},        {6, 0x8c, 0x8d, "tigerlake"},     {6, 0xa7, 0xa7, "rocketlake"},
    {6, 0x97, 0x97, "alderlake"},      {6, 0x9a, 0x9a, "alderlake"},     {6, 0xb7, 0xb7, "raptorlake"},
    {6, 0xba, 0xba, "raptorlake"},     {6, 0xbf, 0xbf, "raptorlake"},    {6, 0x8f, 0x8f, "sapphirerapids"},
    {6, 0xcf, 0xcf, "emeraldrapids"},  {6, 0xad, 0xae, "graniterapids"}, {6, 0xaf, 0xaf, "sierraforest"},
    {6, 0xaa, 0xaa, "meteorlake"},     {6, 0xc5, 0xc6, "arrowlake"},     {6, 0xbd, 0xbd, "lunarlake"},
};

std::string_view model_name(uint32_t family, uint32_t model, bool amd) {
  auto find = [&](const auto& rows) -> std::string_view {
    for (const Model& row : rows) {
      if (row.family == family && model >= row.first_model && model <= row.last_model) return row.name;
    }
    return "generic";
  };
  return amd ? find(amd_models) : find(intel_models);
}

// "48K", "2M" as sysfs has them.
int64_t parse_size(std::string_view text) {
  int64_t value = 0;
  for (char c : trim(text)) {
    if (c >= '0' && c <= '9' && value < (int64_t{1} << 40)) value = value * 10 + (c - '0');
    if (c == 'K') value <<= 10;
    if (c == 'M') value <<= 20;
  }
  return value;
}

// sysfs knows what a virtual machine was given; CPUID there often tells of the whole chip.
void read_caches(HostCpu& cpu, bool amd) {
  for (int i = 0; i < 8; ++i) {
    std::string folder = format("/sys/devices/system/cpu/cpu0/cache/index{}/", i);
    auto level = read_file(folder + "level"), type = read_file(folder + "type"), size = read_file(folder + "size");
    if (!level || !type || !size) break;
    if (type->starts_with("Instruction")) continue;
    if (level->starts_with("1")) cpu.l1d = parse_size(*size);
    if (level->starts_with("2")) cpu.l2 = parse_size(*size);
    if (level->starts_with("3")) cpu.l3 = parse_size(*size);
  }
  for (uint32_t i = 0; i < 8; ++i) {
    Registers r = cpuid(amd ? 0x8000001d : 4, i);
    uint32_t type = r.eax & 31, level = (r.eax >> 5) & 7;
    if (type == 0) break;
    int64_t ways = (r.ebx >> 22) + 1, partitions = ((r.ebx >> 12) & 0x3ff) + 1, line = (r.ebx & 0xfff) + 1;
    int64_t bytes = ways * partitions * line * (static_cast<int64_t>(r.ecx) + 1);
    if (level == 1 && type == 1 && cpu.l1d == 0) cpu.l1d = bytes;
    if (level == 2 && cpu.l2 == 0) cpu.l2 = bytes;
    if (level == 3 && cpu.l3 == 0) cpu.l3 = bytes;
  }
}

}  // namespace

HostCpu read_host_cpu() {
  HostCpu cpu;
  Registers vendor = cpuid(0), l1 = cpuid(1), l7 = cpuid(7), l7s1, ext1 = cpuid(0x80000001);
  if (l7.eax >= 1) l7s1 = cpuid(7, 1);
  // OSXSAVE: without it XGETBV itself is an illegal instruction.
  uint64_t xcr0 = (l1.ecx >> 27) & 1 ? xgetbv0() : 0;
  bool avx = (xcr0 & 0x6) == 0x6, avx512 = (xcr0 & 0xe6) == 0xe6, amx = (xcr0 & 0x60000) == 0x60000;
  for (size_t i = 0; i < feature_table.size(); ++i) {
    const FeatureRow& row = feature_table[i];
    uint32_t word = 0;
    switch (row.word) {
      case CpuidWord::l1_ecx: word = l1.ecx; break;
      case CpuidWord::l1_edx: word = l1.edx; break;
      case CpuidWord::l7_ebx: word = l7.ebx; break;
      case CpuidWord::l7_ecx: word = l7.ecx; break;
      case CpuidWord::l7_edx: word = l7.edx; break;
      case CpuidWord::l7s1_eax: word = l7s1.eax; break;
      case CpuidWord::ext1_ecx: word = ext1.ecx; break;
    }
    bool state = row.state == CpuState::none || (row.state == CpuState::avx && avx) ||
                 (row.state == CpuState::avx512 && avx512) || (row.state == CpuState::amx && amx);
    if (state && ((word >> row.bit) & 1)) cpu.features |= uint64_t{1} << i;
  }
  bool amd = vendor.ecx == 0x444d4163;  // "cAMD", the end of AuthenticAMD
  uint32_t family = (l1.eax >> 8) & 15, model = (l1.eax >> 4) & 15;
  if (family == 15 || family == 6) model |= ((l1.eax >> 16) & 15) << 4;
  if (family == 15) family += (l1.eax >> 20) & 0xff;
  cpu.microarchitecture = model_name(family, model, amd);
  read_caches(cpu, amd);
  return cpu;
}

}  // namespace toroid
