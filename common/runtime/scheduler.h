#pragma once

#include <vector>

#include "absl/types/span.h"

namespace ccoe::runtime {

// A session as the scheduler sees it.
struct Runnable {
  int rows = 0;         // rows that it could run now
  bool decode = false;  // its only row is the answer's next
  int link = -1;        // index of the link that its rows leave through; -1: none
  double served = 0;    // what its key has had
};

struct SchedulerLimits {
  int max_step_rows = 256;
  // Prefill rows of a step that decodes too: bounds how long an answer in progress waits.
  int mixed_prefill_rows = 64;
};

// How many rows each runnable runs in the next step (0: none). Pure. They are given in the order of
// their turns, keys by what they have had. Of a key decode goes before prefill, and prefill before
// all of the keys that have had more: those get what it leaves of mixed_prefill_rows, so that a
// first token does not wait for the answers of busier keys. `link_credit_rows[link]` is never
// exceeded.
std::vector<int> Schedule(absl::Span<const Runnable> runnables, std::vector<int> link_credit_rows,
                          const SchedulerLimits& limits);

}  // namespace ccoe::runtime
