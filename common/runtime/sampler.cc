#include "common/runtime/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <unordered_map>

namespace ccoe::runtime {
namespace {

uint64_t SplitMix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

float MaxOf(absl::Span<const float> values) {
  // Independent lanes, so that the compiler can use vector registers.
  std::array<float, 16> lanes;
  lanes.fill(-INFINITY);
  size_t i = 0;
  for (; i + lanes.size() <= values.size(); i += lanes.size()) {
    for (size_t lane = 0; lane < lanes.size(); ++lane) {
      lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
    }
  }
  for (; i < values.size(); ++i) lanes[0] = values[i] > lanes[0] ? values[i] : lanes[0];
  return *std::max_element(lanes.begin(), lanes.end());
}

double LogSumExp(absl::Span<const float> logits, float max) {
  double sum = 0;
  for (float logit : logits) sum += std::exp(static_cast<double>(logit) - max);
  return max + std::log(sum);
}

bool HasPenalties(const SamplingParams& params) {
  return params.repetition_penalty != 1 || params.presence_penalty != 0 ||
         params.frequency_penalty != 0;
}

std::vector<float> Penalise(absl::Span<const float> logits, const SamplingParams& params,
                            const SampleContext& context) {
  std::vector<float> result(logits.begin(), logits.end());
  std::unordered_map<int32_t, int> answer_counts;  // of every token in the history
  for (size_t i = 0; i < context.history.size(); ++i) {
    answer_counts[context.history[i]] += i >= static_cast<size_t>(context.prompt_tokens) ? 1 : 0;
  }
  for (const auto& [id, count] : answer_counts) {
    if (id < 0 || static_cast<size_t>(id) >= result.size()) continue;
    float& logit = result[id];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    if (count > 0) {
      logit -= params.presence_penalty + params.frequency_penalty * static_cast<float>(count);
    }
  }
  return result;
}

struct Candidate {
  int32_t id;
  double weight;  // proportional to the probability
};

bool Likelier(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
}

// The candidates that top_k, top_p and min_p leave, likeliest first.
std::vector<Candidate> Truncate(absl::Span<const float> logits, const SamplingParams& params) {
  const float max = MaxOf(logits);
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  double total = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double weight =
        std::exp((static_cast<double>(logits[i]) - max) / static_cast<double>(params.temperature));
    if (weight > 0 && weight >= params.min_p) {
      candidates.push_back({static_cast<int32_t>(i), weight});
    }
    total += weight;
  }
  size_t keep = candidates.size();
  if (params.top_k > 0) keep = std::min(keep, static_cast<size_t>(params.top_k));
  std::partial_sort(candidates.begin(), candidates.begin() + keep, candidates.end(), Likelier);
  candidates.resize(keep);
  if (params.top_k > 0) {
    total = std::accumulate(candidates.begin(), candidates.end(), 0.0,
                            [](double sum, const Candidate& c) { return sum + c.weight; });
  }
  double mass = 0;
  size_t count = 0;
  while (count < candidates.size() && mass < static_cast<double>(params.top_p) * total) {
    mass += candidates[count++].weight;
  }
  if (params.top_p < 1) candidates.resize(std::max<size_t>(count, 1));
  return candidates;
}

int32_t Draw(const std::vector<Candidate>& candidates, double uniform) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  double left = uniform * total;
  for (const Candidate& candidate : candidates) {
    left -= candidate.weight;
    if (left < 0) return candidate.id;
  }
  return candidates.back().id;
}

int32_t Choose(absl::Span<const float> logits, const SamplingParams& params, uint64_t position) {
  if (params.temperature <= 0) return ArgMax(logits);
  const std::vector<Candidate> candidates = Truncate(logits, params);
  if (candidates.empty()) return ArgMax(logits);  // not one finite logit
  return Draw(candidates, UniformAt(params.seed, position));
}

}  // namespace

double UniformAt(uint64_t seed, uint64_t position) {
  return static_cast<double>(SplitMix64(SplitMix64(seed) ^ position) >> 11) * 0x1p-53;
}

int32_t ArgMax(absl::Span<const float> logits) {
  const float max = MaxOf(logits);
  const auto it = std::find(logits.begin(), logits.end(), max);
  return it == logits.end() ? 0 : static_cast<int32_t>(it - logits.begin());
}

float LogProbability(absl::Span<const float> logits, int32_t id) {
  return static_cast<float>(logits[id] - LogSumExp(logits, MaxOf(logits)));
}

std::vector<TokenLogprob> TopLogprobs(absl::Span<const float> logits, int count) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const size_t keep = std::min(ids.size(), static_cast<size_t>(std::max(count, 0)));
  std::partial_sort(ids.begin(), ids.begin() + keep, ids.end(), [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  const double log_sum = LogSumExp(logits, MaxOf(logits));
  std::vector<TokenLogprob> top;
  for (size_t i = 0; i < keep; ++i) {
    top.push_back({ids[i], static_cast<float>(logits[ids[i]] - log_sum)});
  }
  return top;
}

GeneratedToken ScoreToken(absl::Span<const float> logits, int32_t id, int position, int top) {
  GeneratedToken token{id, position, LogProbability(logits, id), {}};
  if (top > 0) token.top = TopLogprobs(logits, top);
  return token;
}

GeneratedToken Sample(absl::Span<const float> logits, const SamplingParams& params,
                      const SampleContext& context) {
  GeneratedToken token;
  token.position = static_cast<int>(context.history.size());
  token.id = HasPenalties(params)
                 ? Choose(Penalise(logits, params, context), params, context.history.size())
                 : Choose(logits, params, context.history.size());
  if (params.top_logprobs >= 0) {
    token.logprob = LogProbability(logits, token.id);
    token.top = TopLogprobs(logits, params.top_logprobs);
  }
  return token;
}

}  // namespace ccoe::runtime
