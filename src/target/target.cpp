// Target texts, and what follows from a set of features.
#include "target/target.h"

#include <algorithm>

#include "base/text.h"
#include "target/features.h"

namespace toroid {
namespace {

constexpr std::string_view base_names[] = {"x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"};

int find_row(std::string_view name) {
  for (size_t i = 0; i < feature_table.size(); ++i) {
    if (feature_table[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

uint64_t bit(int row) { return uint64_t{1} << row; }

// Rows of x86-64-v<level>.
uint64_t level_features(int level) {
  uint64_t set = 0;
  for (size_t i = 0; i < feature_table.size(); ++i) {
    if (feature_table[i].level != 0 && feature_table[i].level <= level) set |= uint64_t{1} << i;
  }
  return set;
}

// With all that the features stand on. Rows stand on earlier rows, so one pass from the end is enough.
uint64_t closure(uint64_t set) {
  for (size_t i = feature_table.size(); i-- > 0;) {
    if (!((set >> i) & 1)) continue;
    for (const std::string& need : split(feature_table[i].needs, ' ')) {
      if (!need.empty()) set |= bit(find_row(need));
    }
  }
  return set;
}

int base_level(uint64_t set) {
  int level = 1;
  while (level < 4 && (level_features(level + 1) & ~set) == 0) ++level;
  return level;
}

std::string known_features() {
  std::vector<std::string> names;
  for (const FeatureRow& row : feature_table) {
    if (row.level != 1) names.emplace_back(row.name);
  }
  return join(names, " ");
}

}  // namespace

Target::Target() : Target(level_features(1)) {}

Target::Target(uint64_t features) : features_(closure(features | level_features(1))) {
  int level = base_level(features_);
  text_ = base_names[level - 1];
  uint64_t beyond = features_ & ~level_features(level);
  for (size_t i = 0; i < feature_table.size(); ++i) {
    if ((beyond >> i) & 1) append(text_, "+{}", feature_table[i].name);
  }
  if (!has("avx512f")) caches_.l2 = 512 << 10;
}

Result<Target> Target::parse(std::string_view text) {
  if (text == "native") return host();
  std::vector<std::string> parts = split(text, '+');
  int level = 0;
  for (int i = 0; i < 4; ++i) {
    if (parts[0] == base_names[i]) level = i + 1;
  }
  if (level == 0) {
    return fail(Diagnostic{Kind::bad_option,
                           format("unknown target `{}`", text),
                           {"a target is `native`, or BASE[+feature...], such as x86-64-v4+vnni+bf16",
                            "BASE is one of: x86-64 x86-64-v2 x86-64-v3 x86-64-v4"}});
  }
  uint64_t features = level_features(level);
  for (size_t i = 1; i < parts.size(); ++i) {
    int row = find_row(parts[i]);
    if (row < 0) {
      return fail(Diagnostic{Kind::bad_option,
                             format("unknown feature `{}` in target `{}`", parts[i], text),
                             {"known features: " + known_features()}});
    }
    features |= bit(row);
  }
  return Target(features);
}

Target Target::host() {
  HostCpu cpu = read_host_cpu();
  // A base counts only when whole; single features beyond it only when generated code uses them.
  uint64_t features = level_features(base_level(cpu.features));
  for (size_t i = 0; i < feature_table.size(); ++i) {
    uint64_t with = closure(features | bit(static_cast<int>(i)));
    if (feature_table[i].native && (with & ~cpu.features) == 0) features = with;
  }
  Target target(features);
  target.microarchitecture_ = cpu.microarchitecture;
  if (cpu.l1d > 0) target.caches_.l1d = cpu.l1d;
  if (cpu.l2 > 0) target.caches_.l2 = cpu.l2;
  if (cpu.l3 > 0) target.caches_.l3 = cpu.l3;
  return target;
}

bool Target::has(std::string_view feature) const {
  int row = find_row(feature);
  return row >= 0 && ((features_ >> row) & 1);
}

int Target::lanes() const {
  // The prelude's vectors of a length use all of these.
  auto all = [this](std::initializer_list<std::string_view> features) {
    return std::ranges::all_of(features, [this](std::string_view feature) { return has(feature); });
  };
  if (all({"avx512f", "avx512bw", "avx512dq", "avx512vl"})) return 16;
  return all({"avx2", "fma", "f16c"}) ? 8 : 4;
}

std::vector<std::string> Target::compiler_flags(CompilerKind kind) const {
  int level = base_level(features_);
  std::vector<std::string> flags = {format("-march={}", base_names[level - 1])};
  uint64_t beyond = features_ & ~level_features(level);
  for (size_t i = 0; i < feature_table.size(); ++i) {
    if ((beyond >> i) & 1) flags.push_back(format("-m{}", feature_table[i].flag));
  }
  // Both compilers tune a generic AVX-512 target for 256-bit vectors; clang even splits our 16-lane values in two.
  if (lanes() == 16) flags.push_back("-mprefer-vector-width=512");
  // g++ copies blocks of memory in 256-bit pieces unless told.
  if (lanes() == 16 && kind == CompilerKind::gcc) flags.insert(flags.end(), {"-mmove-max=512", "-mstore-max=512"});
  return flags;
}

std::vector<std::string> Target::cpuid_features() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < feature_table.size(); ++i) {
    if ((features_ >> i) & 1) names.emplace_back(feature_table[i].name);
  }
  return names;
}

bool Target::runs_here() const { return (features_ & ~read_host_cpu().features) == 0; }

}  // namespace toroid
