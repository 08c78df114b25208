#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/runtime/session.h"

namespace ccoe::runtime {

// What sampling sees of a session besides the logits.
struct SampleContext {
  absl::Span<const int32_t> history;  // all tokens so far, the prompt's first
  int prompt_tokens = 0;              // how many of them are the prompt's
};

// Chooses the token that follows `context.history` from `logits` [vocab]. Pure: the same arguments
// give the same token, so that a session resumed elsewhere goes on as it would have. In this order:
// repetition penalty (Keskar et al. 2019, over the whole history), presence and frequency penalties
// (over the answer), temperature, top_k, top_p (Holtzman et al. 2020), min_p, then inverse
// transform sampling with a number drawn from (seed, position). The position of the result is
// history.size(). Log probabilities are those of `logits` as given.
GeneratedToken Sample(absl::Span<const float> logits, const SamplingParams& params,
                      const SampleContext& context);

// The token `id` at `position` with its log probability and those of the `top` likeliest tokens.
GeneratedToken ScoreToken(absl::Span<const float> logits, int32_t id, int position, int top);

// The lowest id among the largest logits.
int32_t ArgMax(absl::Span<const float> logits);

// log softmax(logits)[id] in double precision.
float LogProbability(absl::Span<const float> logits, int32_t id);

// The `count` likeliest tokens, likeliest first, ties to the lower id.
std::vector<TokenLogprob> TopLogprobs(absl::Span<const float> logits, int count);

// Uniform in [0, 1), a function of its arguments alone (SplitMix64 of both).
double UniformAt(uint64_t seed, uint64_t position);

}  // namespace ccoe::runtime
