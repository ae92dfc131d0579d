// A wish to stop, given by one thread and seen by others: a flag, a deadline, and the wish of whoever started us.
#pragma once
#include <atomic>
#include <chrono>
#include <optional>

#include "base/result.h"

namespace toroid {

// Long work asks cancelled() every few milliseconds. Safe from every thread; a parent must outlive its children.
class CancelToken {
 public:
  using Clock = std::chrono::steady_clock;

  CancelToken() = default;
  explicit CancelToken(const CancelToken* parent, std::optional<Clock::time_point> deadline = {})
      : parent_(parent), deadline_(deadline) {}
  CancelToken(const CancelToken&) = delete;
  CancelToken& operator=(const CancelToken&) = delete;

  void cancel() noexcept { flag_.store(true, std::memory_order_release); }
  bool cancelled() const noexcept { return asked() || past_deadline(); }

  // Fine, or Kind::cancelled with which of the two it was.
  Status check() const {
    if (asked()) return fail(Kind::cancelled, "the caller asked to stop");
    if (past_deadline()) return fail(Kind::cancelled, "the deadline passed");
    return {};
  }

 private:
  bool asked() const noexcept {
    return flag_.load(std::memory_order_acquire) || (parent_ != nullptr && parent_->asked());
  }
  bool past_deadline() const noexcept {
    return (deadline_ && Clock::now() >= *deadline_) || (parent_ != nullptr && parent_->past_deadline());
  }

  std::atomic<bool> flag_ = false;
  const CancelToken* parent_ = nullptr;
  std::optional<Clock::time_point> deadline_;
};

}  // namespace toroid
