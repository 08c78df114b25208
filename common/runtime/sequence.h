#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/runtime/boundary_states.h"
#include "common/runtime/expert_directory.h"
#include "common/runtime/kv_pool.h"
#include "common/runtime/output_text.h"
#include "common/runtime/remote.h"
#include "common/runtime/route_pool.h"
#include "common/runtime/scheduler.h"
#include "common/runtime/session.h"
#include "common/runtime/state_pages.h"
#include "common/runtime/transformer.h"

namespace ccoe::runtime {

// What a step computed for one sequence.
struct StepResult {
  std::optional<GeneratedToken> sampled;
  std::vector<GeneratedToken> scores;
};

// One session's part in an engine: its path through the layers, its KV blocks and its tokens. Owned
// and used by the engine's thread. Rows [0, computed) have run here.
class Sequence {
 public:
  virtual ~Sequence() = default;

  // Rows that could run now.
  virtual int ReadyRows() const = 0;
  virtual bool IsDecode() const = 0;
  // The next `rows` rows, rows <= ReadyRows(); may shorten them.
  virtual RowSpan NextSpan(int rows) const = 0;
  // Looks at the logits of row `row` of the span that runs.
  virtual void TakeLogits(const RowSpan& span, int row, absl::Span<const float> logits) = 0;

  std::shared_ptr<const ExpertEntry> expert;  // null: undecided
  Flow flow;                                  // whose turn it takes
  std::string domain;                         // within the flow; empty: undecided when it came
  KvBlocks blocks;
  int layer_begin = 0;
  int layer_end = 0;
  int max_positions = 0;
  int computed = 0;
  std::vector<int32_t> tokens;  // known tokens, from position 0
  SamplingParams sampling;
  int prompt_tokens = 0;
  StepResult result;  // of the step that runs

 protected:
  RowSpan MakeSpan(int rows) const;
  GeneratedToken SampleNext(absl::Span<const float> logits, int position) const;
};

// A session of this engine's own clients: it owns the embeddings. Its rows either end here or leave
// through `replica`.
class LocalSequence final : public Sequence {
 public:
  enum class State {
    kWaiting,  // for blocks or, when it has begun already, for a replica
    kOpening,  // memory is reserved here, the replica was asked
    kRunning,
  };

  LocalSequence(SessionId session_id, SessionSpec session_spec, SessionListener* session_listener,
                const model::Tokenizer& session_tokenizer, absl::Time now);

  int ReadyRows() const override;
  bool IsDecode() const override { return computed >= prompt_tokens && !replaying(); }
  RowSpan NextSpan(int rows) const override;
  void TakeLogits(const RowSpan& span, int row, absl::Span<const float> logits) override;

  // Whether rows that ran here have to be sent again, to a new replica, before others run.
  bool replaying() const { return replica != nullptr && sent < computed; }
  // The next `rows` rows for the replica, of those that have run here. An output is wanted of those
  // that have not been answered.
  HiddenRows TakeUnsent(int rows);
  // Keeps the states of a span's rows, the first at `position`, where they are kept.
  void TakeStates(int layer, int position, absl::Span<const float> rows);
  bool last_step() const { return step == static_cast<int>(spec.next_steps.size()); }
  // Of the step that runs.
  const StopConditions& stop() const {
    return step == 0 ? spec.stop : spec.next_steps[step - 1].stop;
  }
  // How many of the rows that have run the next step finds.
  int RowsThatStay() const;
  // Begins the next step, from `rows` rows of the states at `depth`; both 0: from the embedding.
  // The caller sets layer_end.
  void BeginStep(int depth, int rows);
  // Counts `rows` rows that have run; true when they may have an output.
  bool Advance(int rows);
  bool started() const { return started_at != absl::InfinitePast(); }
  bool undecided() const { return expert == nullptr; }
  // Whether rows have yet to run on from the stem.
  bool on_stem() const { return !undecided() && computed < stem_rows; }
  bool scoring() const { return spec.score_from.has_value(); }
  int expected_scores() const { return prompt_tokens - spec.score_from.value_or(prompt_tokens); }
  // How many of rows [computed, computed + rows) have a score or a token as their output.
  int OutputRows(int rows) const;

  const SessionId id;
  const SessionSpec spec;
  SessionListener* const listener;
  const model::Tokenizer& tokenizer;
  State state = State::kWaiting;
  bool paused = false;
  bool announced = false;  // OnAdmitted was called
  // The states that are kept, by their depth, from position 0 on: where rows leave, where a further
  // step's expert begins, and the stem's.
  std::map<int, BoundaryStates> states;
  // States that the session needs not, by their depth: for the prefix cache.
  std::map<int, StatePages> spare;
  // An undecided session runs to stem_depth; its rows go on from there once its expert is known.
  // So do the rows that a further step finds, and those that the prefix cache has to that depth.
  int stem_depth = 0;
  int stem_rows = 0;                    // that are there so far
  bool keeps_stem = false;              // a later step needs its states
  BoundaryStates room;                  // undecided: for the rows that may come to leave
  std::optional<RoutePool> route_pool;  // until the gate has been told
  // Undecided: those served elsewhere that it was opened with.
  std::vector<std::shared_ptr<const ExpertEntry>> candidates;
  int step = 0;  // 0: of spec itself; n: of spec.next_steps[n - 1]
  std::vector<std::shared_ptr<const ExpertEntry>> next_experts;  // of spec.next_steps
  int end_positions = 0;  // of the step, prompt_tokens included
  int cached_tokens = 0;  // of the step
  RemoteExpert* replica = nullptr;
  std::vector<RemoteExpert*> left;  // replicas that the session was at, never to return
  absl::Status lost;                // why it left the last of them
  uint32_t epoch = 0;
  int sent = 0;  // rows that the replica has had in this epoch
  OutputText text;
  std::vector<GeneratedToken> scores;
  int completion_tokens = 0;  // of the step
  absl::Time opened_at;
  absl::Time begun_at;  // the step; opened_at of the first
  absl::Time queue_deadline;
  absl::Time started_at = absl::InfinitePast();
  absl::Time first_token_at = absl::InfinitePast();
  absl::Time retry_at = absl::InfinitePast();  // after a replica's refusal
};

// A session whose lower layers run elsewhere: rows come from a link and results go back to it.
class GuestSequence final : public Sequence {
 public:
  GuestSequence(SessionId link_id, const RemoteSpec& spec, RemoteListener* link_listener);

  int ReadyRows() const override { return queued_rows; }
  bool IsDecode() const override { return queued_rows == 1; }
  RowSpan NextSpan(int rows) const override;
  void TakeLogits(const RowSpan& span, int row, absl::Span<const float> logits) override;

  // Queues rows. INVALID_ARGUMENT if they do not go on where the queue ends, or exceed the blocks.
  absl::Status Enqueue(HiddenRows rows, const model::ModelConfig& config);
  // Drops `rows` rows, which have run, from the queue.
  void Consume(int rows);

  const SessionId id;  // the link's
  RemoteListener* const listener;
  uint32_t epoch = 0;
  std::deque<HiddenRows> queue;
  int front_offset = 0;  // rows of queue.front() that have run
  int queued_rows = 0;
};

}  // namespace ccoe::runtime
