// Bump allocation over mmapped blocks, on 2 MB pages where they are large.
#include "arena.h"

#include <algorithm>

namespace toroid::runtime {
namespace {
constexpr size_t huge_page = 2u << 20, huge_from = 4u << 20;
}

bool Arena::add_block(size_t bytes) {
  const bool huge = bytes >= huge_from;
  const size_t grid = huge ? huge_page : 4096;
  bytes = (bytes + grid - 1) / grid * grid;
  // Large blocks start on a 2 MB boundary: map one page more and give back what is left over on both sides.
  const size_t mapped = huge ? bytes + huge_page : bytes;
  void* raw = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return false;
  char* data = static_cast<char*>(raw);
  if (huge) {
    char* aligned =
        reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(data) + huge_page - 1) / huge_page * huge_page);
    if (aligned > data) ::munmap(data, aligned - data);
    if (const size_t rest = data + mapped - (aligned + bytes)) ::munmap(aligned + bytes, rest);
    data = aligned;
    ::madvise(data, bytes, MADV_HUGEPAGE);
  }
  blocks_.emplace_back(data, bytes);
  used_ = 0;
  return true;
}

void* Arena::alloc(int64_t wanted) {
  if (wanted < 0 || wanted > INT64_C(1) << 46) return nullptr;
  const size_t bytes = (std::max<int64_t>(wanted, 1) + 63) / 64 * 64;
  if (blocks_.empty() || blocks_.back().bytes() - used_ < bytes)
    if (!add_block(std::max(bytes, blocks_.empty() ? 0 : blocks_.back().bytes()))) return nullptr;
  char* at = blocks_.back().data() + used_;
  used_ += bytes;
  total_ += bytes;
  return at;
}

void Arena::reset() {
  if (blocks_.size() > 1) {
    blocks_.clear();
    add_block(total_);
  }
  used_ = total_ = 0;
}

}  // namespace toroid::runtime
