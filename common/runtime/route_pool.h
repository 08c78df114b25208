#pragma once

#include <vector>

#include "absl/types/span.h"
#include "common/model/chat_template.h"

namespace ccoe::runtime {

// The state by which the gate judges a prompt: the mean over its route tokens of their hidden
// states at the routing layer, each divided by its root mean square. Sums in the order of the
// positions, so that it does not depend on how the prompt was cut into steps.
class RoutePool {
 public:
  // `tokens` in order, not empty; `epsilon` as of the model's RMS norms.
  RoutePool(std::vector<model::TokenRange> tokens, int hidden, float epsilon);

  // Takes the states of rows [position, position + n), [n, hidden), each position once and in
  // order. True when the last route token was among them.
  bool Add(int position, absl::Span<const float> states);
  // [hidden], once Add has returned true.
  std::vector<float> Mean() const;

 private:
  const std::vector<model::TokenRange> tokens_;
  const float epsilon_;
  int count_ = 0;  // tokens in sum_
  std::vector<float> sum_;
};

}  // namespace ccoe::runtime
