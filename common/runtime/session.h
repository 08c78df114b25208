#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/model/chat_template.h"

namespace ccoe::runtime {

// Identifies a session within one engine; never reused.
using SessionId = uint64_t;

// An expert by name and version. `general` is the base model's own upper layers.
struct ExpertKey {
  std::string name;
  std::string version;

  friend bool operator==(const ExpertKey&, const ExpertKey&) = default;
  friend auto operator<=>(const ExpertKey&, const ExpertKey&) = default;
};

inline constexpr char kGeneralExpert[] = "general";

// How the next token is chosen. Sampling is a pure function of logits, token history, seed and
// absolute position; ties go to the lowest id.
struct SamplingParams {
  float temperature = 0;         // >= 0; 0 is greedy
  int top_k = 0;                 // 0: all
  float top_p = 1;               // (0, 1]
  float min_p = 0;               // [0, 1), relative to the most likely token
  float repetition_penalty = 1;  // > 0
  float presence_penalty = 0;    // [-2, 2]
  float frequency_penalty = 0;   // [-2, 2]
  uint64_t seed = 0;
  // -1: no log probabilities; n: those of the n likeliest tokens too (<= 20). In score mode, whose
  // tokens always have theirs, -1 is 0.
  int top_logprobs = -1;

  friend bool operator==(const SamplingParams&, const SamplingParams&) = default;
};

struct StopConditions {
  int max_tokens = 256;                     // >= 0
  std::vector<std::string> stop_sequences;  // none is empty; they do not appear in the text
  bool ignore_end_of_generation = false;
};

// A further step of a session: another expert goes on in the context of those before.
struct NextStep {
  ExpertKey expert;
  // What stays of the context: all of it, or the first step's prompt alone.
  enum class From { kAnswer, kPrompt } from = From::kAnswer;
  // Put after it; not empty with kAnswer. A token that ended the answer by itself is left out.
  std::vector<int32_t> tokens;
  SamplingParams sampling;
  StopConditions stop;  // max_tokens > 0
};

// Whose a session is, where sessions share what is scarce.
struct Flow {
  std::string key;  // the name of the client's key; empty: without one
  int weight = 1;   // its part beside the other keys', at least 1
};

// What a client asks of an engine that owns the embeddings.
struct SessionSpec {
  std::string request_id;
  std::string traceparent;  // W3C trace context, or empty
  // Without a name: not decided yet. The session runs as far as all experts share, tells
  // OnRouteState, and goes on after Engine::Decide.
  ExpertKey expert;
  int routing_layer = 0;        // of an undecided session: the state after so many layers is told
  std::vector<int32_t> prompt;  // not empty; ids in [0, vocab)
  std::vector<model::TokenRange> route_tokens;  // of the prompt: what the gate judges by
  SamplingParams sampling;
  StopConditions stop;
  // Score mode: log probabilities of prompt[score_from..] given what stands before each, and no
  // generation. In [1, prompt.size()).
  std::optional<int> score_from;
  // In order; of a session that generates and whose expert is named. All must fit the context. What
  // a step answers is bit for bit what a session of its own would over the same tokens.
  std::vector<NextStep> next_steps;
  Flow flow;
  // What is computed for it is found again by sessions of the same salt alone.
  std::string cache_salt;
  absl::Time queue_deadline = absl::InfiniteFuture();  // leave the queue by then or fail
};

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;
};

struct GeneratedToken {
  int32_t id = 0;
  int position = 0;               // absolute position in the session
  float logprob = 0;              // under the unmodified distribution; with top_logprobs >= 0
  std::vector<TokenLogprob> top;  // likeliest first
};

// A piece of the answer. The concatenated texts are the answer and always valid UTF-8; a text may
// be empty while a character or a stop sequence is held back.
struct Delta {
  std::string text;
  std::vector<GeneratedToken> tokens;
  int token_offset = 0;  // index of tokens[0] in the answer
};

enum class FinishReason { kStop, kLength, kStopSequence, kScored };

struct Usage {
  int prompt_tokens = 0;  // of a further step: its whole context
  int cached_tokens = 0;  // of these, not computed from the embedding on
  int completion_tokens = 0;
};

struct Timings {
  absl::Duration queue;    // Open to the first prefill step
  absl::Duration prefill;  // first prefill step to the first token
  absl::Duration decode;   // first token to the end
};

struct Finished {
  FinishReason reason = FinishReason::kStop;
  std::string matched_stop;
  std::string text;                    // held back until now; belongs to the answer
  std::vector<GeneratedToken> scores;  // score mode: one per scored token
  Usage usage;
  Timings timings;
};

// Receives a session's events on the engine's thread: must neither block nor call back into the
// engine except through its thread-safe methods. Exactly one of OnFinished and OnFailed comes,
// last; after it the engine does not touch the listener.
class SessionListener {
 public:
  virtual ~SessionListener() = default;
  // Of an undecided session alone, before anything else: its prompt's pooled state (RoutePool),
  // [hidden]. Engine::Decide is to follow.
  virtual void OnRouteState(absl::Span<const float> /*pooled*/) {}
  // Blocks are reserved, the expert is known, and the session is about to run.
  virtual void OnAdmitted() = 0;
  virtual void OnDelta(const Delta& delta) = 0;
  // A step ended that is not the last; the next begins. Of a Delta then, token_offset counts anew.
  virtual void OnStepFinished(const Finished& /*finished*/) {}
  virtual void OnFinished(const Finished& finished) = 0;
  virtual void OnFailed(const absl::Status& status) = 0;
};

}  // namespace ccoe::runtime
