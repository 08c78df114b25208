#include "common/runtime/scheduler.h"

#include <algorithm>

namespace ccoe::runtime {

std::vector<int> Schedule(absl::Span<const Runnable> runnables, std::vector<int> link_credit_rows,
                          const SchedulerLimits& limits) {
  std::vector<int> rows(runnables.size(), 0);
  int left = limits.max_step_rows;
  const auto take = [&](size_t i, int at_most) {
    const Runnable& runnable = runnables[i];
    int count = std::min({runnable.rows, at_most, left});
    if (runnable.link >= 0) count = std::min(count, link_credit_rows[runnable.link]);
    if (count <= 0) return 0;
    if (runnable.link >= 0) link_credit_rows[runnable.link] -= count;
    left -= count;
    rows[i] = count;
    return count;
  };
  int decoding = 0;
  for (size_t i = 0; i < runnables.size(); ++i) {
    if (runnables[i].decode) decoding += take(i, 1);
  }
  int prefill = decoding > 0 ? limits.mixed_prefill_rows : limits.max_step_rows;
  for (size_t i = 0; i < runnables.size(); ++i) {
    if (!runnables[i].decode) prefill -= take(i, prefill);
  }
  return rows;
}

}  // namespace ccoe::runtime
