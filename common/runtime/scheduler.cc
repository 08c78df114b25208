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
  const bool mixed = std::any_of(runnables.begin(), runnables.end(), [&](const Runnable& runnable) {
    return runnable.decode && (runnable.link < 0 || link_credit_rows[runnable.link] > 0);
  });
  int prefill = mixed ? limits.mixed_prefill_rows : limits.max_step_rows;
  bool prompts = false;  // of a key that comes before
  for (size_t begin = 0, end = 0; begin < runnables.size(); begin = end) {
    while (end < runnables.size() && runnables[end].served == runnables[begin].served) ++end;
    for (size_t i = begin; i < end; ++i) {
      if (!runnables[i].decode) continue;
      if (!prompts) {
        take(i, 1);
      } else if (prefill > 0) {
        prefill -= take(i, 1);
      }
    }
    const int before = prefill;
    for (size_t i = begin; i < end; ++i) {
      if (!runnables[i].decode) prefill -= take(i, prefill);
    }
    prompts = prompts || prefill < before;
  }
  return rows;
}

}  // namespace ccoe::runtime
