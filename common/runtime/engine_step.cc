#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "absl/time/clock.h"
#include "common/runtime/engine_impl.h"

// One step of the engine: which rows run, running them, and what becomes of the results.
namespace ccoe::runtime {

bool EngineImpl::Step() {
  auto plan = Plan();
  if (plan.empty()) return false;
  Replay(plan);
  if (plan.empty()) {
    SendRemote();
    return true;
  }
  const absl::Time start = absl::Now();
  StepReport report;
  int decoding = 0;
  for (const auto& [sequence, rows] : plan) {
    fair_.Charge(sequence->flow, sequence->domain, rows);
    report.rows += rows;
    decoding += sequence->IsDecode() ? 1 : 0;
  }
  report.sessions = static_cast<int>(plan.size());
  report.phase = decoding == 0                 ? Phase::kPrefill
                 : decoding == report.sessions ? Phase::kDecode
                                               : Phase::kMixed;
  RunStep(plan);
  report.duration = absl::Now() - start;
  if (options_.observer != nullptr) options_.observer->OnStep(report);
  return true;
}

// The sequences that run in this step, each with its rows.
std::vector<std::pair<Sequence*, int>> EngineImpl::Plan() {
  std::vector<Sequence*> ready;
  std::vector<Runnable> runnables;
  std::vector<FairQueue::Rank> ranks;
  std::vector<RemoteExpert*> links;
  std::vector<int> credit;
  const auto link_of = [&](RemoteExpert* replica) {
    if (replica == nullptr) return -1;
    const auto it = std::find(links.begin(), links.end(), replica);
    if (it != links.end()) return static_cast<int>(it - links.begin());
    links.push_back(replica);
    credit.push_back(replica->CreditRows());
    return static_cast<int>(links.size()) - 1;
  };
  const auto add = [&](Sequence& sequence, RemoteExpert* replica) {
    const int rows = sequence.ReadyRows();
    if (rows == 0) return;
    const int link = link_of(replica);
    if (link >= 0 && credit[link] <= 0) return;
    ready.push_back(&sequence);
    ranks.push_back(fair_.RankOf(sequence.flow, sequence.domain));
    runnables.push_back(
        {.rows = rows, .decode = sequence.IsDecode(), .link = link, .served = ranks.back().first});
  };
  for (const auto& [id, sequence] : local_) add(*sequence, sequence->replica);
  for (const auto& [key, guest] : guests_) add(*guest, nullptr);
  ObserveStalls(links, credit);
  if (ready.empty()) return {};

  std::vector<size_t> order = FairOrder(ranks);
  LeaveOutOthers(ready, order);
  bool all = waiting_.empty() && order.size() == ready.size();
  std::vector<Runnable> in_turn;
  in_turn.reserve(order.size());
  for (size_t i : order) in_turn.push_back(runnables[i]);
  SchedulerLimits limits;
  limits.max_step_rows = options_.max_step_rows;
  const std::vector<int> rows = Schedule(in_turn, std::move(credit), limits);
  std::vector<std::pair<Sequence*, int>> plan;
  for (size_t i = 0; i < order.size(); ++i) {
    if (rows[i] > 0) plan.emplace_back(ready[order[i]], rows[i]);
    all = all && rows[i] == in_turn[i].rows;
  }
  if (all) {  // nobody waits, so nobody who has had less is owed anything
    for (size_t i : order) fair_.Turn(ready[i]->flow, ready[i]->domain);
  }
  return plan;
}

// The order of turns: the least served flow first, by turns within a flow.
std::vector<size_t> EngineImpl::FairOrder(absl::Span<const FairQueue::Rank> ranks) {
  std::vector<size_t> order(ranks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::rotate(order.begin(), order.begin() + rotation_++ % order.size(), order.end());
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return ranks[a] < ranks[b]; });
  return order;
}

// Where more sessions run than there are places each key has its share of them, and what is left
// goes by turns; the others pause for this step.
void EngineImpl::LeaveOutOthers(absl::Span<Sequence* const> ready,
                                std::vector<size_t>& order) const {
  if (local_.size() <= static_cast<size_t>(options_.max_sessions)) return;
  const Places places = CountPlaces();
  if (places.running <= options_.max_sessions) return;
  int kept = 0;
  std::map<std::string, int> kept_of_key;
  std::vector<size_t> beyond;
  for (size_t i : order) {
    // A guest has its place at another engine.
    if (dynamic_cast<const LocalSequence*>(ready[i]) == nullptr) continue;
    int& of_key = kept_of_key[ready[i]->flow.key];
    if (IsBelowShare(places, ready[i]->flow, of_key)) {
      ++of_key;
      ++kept;
    } else {
      beyond.push_back(i);
    }
  }
  std::vector<bool> paused(ready.size());
  for (size_t i : beyond) paused[i] = ++kept > options_.max_sessions;
  std::erase_if(order, [&](size_t i) { return paused[i]; });
}

void EngineImpl::ObserveStalls(absl::Span<RemoteExpert* const> links,
                               absl::Span<const int> credit) {
  const absl::Duration ended = stalls_.Observe(links, credit, absl::Now());
  if (ended > absl::ZeroDuration() && options_.observer != nullptr) {
    options_.observer->OnStall(ended);
  }
}

// Takes out of the plan what needs no computing: rows that a session's new replica has yet to have.
// They leave with what the step computes.
void EngineImpl::Replay(std::vector<std::pair<Sequence*, int>>& plan) {
  std::erase_if(plan, [this](const auto& planned) {
    auto* sequence = dynamic_cast<LocalSequence*>(planned.first);
    if (sequence == nullptr || !sequence->replaying()) return false;
    outgoing_rows_[sequence->replica].push_back(sequence->TakeUnsent(planned.second));
    return true;
  });
}

void EngineImpl::RunStep(absl::Span<const std::pair<Sequence*, int>> plan) {
  std::vector<RowSpan> spans;
  for (const auto& [sequence, rows] : plan) {
    sequence->result = {};
    spans.push_back(sequence->NextSpan(rows));
  }
  StepSink sink;
  sink.on_states = [&](int i, int layer, absl::Span<const float> states) {
    auto& sequence = static_cast<LocalSequence&>(*plan[i].first);
    sequence.TakeStates(layer, spans[i].position, states);
    if (sequence.route_pool.has_value() && layer == sequence.spec.routing_layer) {
      PoolRoute(sequence, spans[i].position, states);
    }
  };
  sink.on_logits = [&](int i, int row, absl::Span<const float> logits) {
    plan[i].first->TakeLogits(spans[i], row, logits);
  };
  transformer_->Run(base_, spans, sink);

  for (size_t i = 0; i < plan.size(); ++i) {
    const int rows = spans[i].rows;
    if (auto* guest = dynamic_cast<GuestSequence*>(plan[i].first)) {
      RemoteResult result{guest->id, guest->epoch, {}};
      if (guest->result.sampled.has_value()) result.tokens.push_back(*guest->result.sampled);
      for (GeneratedToken& score : guest->result.scores) result.tokens.push_back(std::move(score));
      if (!result.tokens.empty()) {
        outgoing_results_[guest->listener].push_back(std::move(result));
      }
      consumed_rows_[guest->listener] += rows;
      guest->computed += rows;
      guest->Consume(rows);
    } else {
      DeliverLocal(static_cast<LocalSequence&>(*plan[i].first), rows);
    }
  }
  SendRemote();
}

// The gate decides while the step goes on.
void EngineImpl::PoolRoute(LocalSequence& sequence, int position, absl::Span<const float> states) {
  if (!sequence.route_pool->Add(position, states)) return;
  const std::vector<float> pooled = sequence.route_pool->Mean();
  sequence.route_pool.reset();
  sequence.listener->OnRouteState(pooled);
}

// After a step: may end the session and with it `sequence`.
void EngineImpl::DeliverLocal(LocalSequence& sequence, int rows) {
  if (!sequence.Advance(rows)) return;
  StepResult result = std::exchange(sequence.result, {});
  if (sequence.replica != nullptr) {
    outgoing_rows_[sequence.replica].push_back(sequence.TakeUnsent(rows));
  } else if (result.sampled.has_value()) {
    AcceptToken(sequence, *std::move(result.sampled));
  } else if (!result.scores.empty()) {
    AcceptScores(sequence, std::move(result.scores));
  }
}

void EngineImpl::AcceptToken(LocalSequence& sequence, GeneratedToken token) {
  if (sequence.completion_tokens == 0) sequence.first_token_at = absl::Now();
  const int32_t id = token.id;
  const bool end = options_.model->tokenizer().IsEndOfGeneration(id) &&
                   !sequence.stop().ignore_end_of_generation;
  Delta delta;
  delta.token_offset = sequence.completion_tokens++;
  sequence.tokens.push_back(id);
  if (!end) delta.text = sequence.text.Push(id);
  delta.tokens.push_back(std::move(token));
  sequence.listener->OnDelta(delta);

  if (end) {
    Finish(sequence, FinishReason::kStop);
  } else if (sequence.text.stopped()) {
    Finish(sequence, FinishReason::kStopSequence);
  } else if (static_cast<int>(sequence.tokens.size()) >= sequence.end_positions) {
    Finish(sequence, FinishReason::kLength);
  }
}

void EngineImpl::AcceptScores(LocalSequence& sequence, std::vector<GeneratedToken> scores) {
  if (sequence.scores.empty()) sequence.first_token_at = absl::Now();
  std::move(scores.begin(), scores.end(), std::back_inserter(sequence.scores));
  if (static_cast<int>(sequence.scores.size()) >= sequence.expected_scores()) {
    Finish(sequence, FinishReason::kScored);
  }
}

void EngineImpl::Finish(LocalSequence& sequence, FinishReason reason) {
  const absl::Time now = absl::Now();
  const absl::Time first_token = std::max(sequence.first_token_at, sequence.started_at);
  Finished finished;
  finished.reason = reason;
  finished.text = sequence.text.Finish();
  finished.matched_stop = sequence.text.matched_stop();
  finished.scores = std::move(sequence.scores);
  finished.usage.prompt_tokens = sequence.prompt_tokens;
  finished.usage.cached_tokens = sequence.cached_tokens;
  finished.usage.completion_tokens = sequence.completion_tokens;
  finished.timings.queue = sequence.started_at - sequence.begun_at;
  finished.timings.prefill = first_token - sequence.started_at;
  finished.timings.decode = now - first_token;
  SessionListener* listener = sequence.listener;
  if (!sequence.last_step()) {
    BeginNextStep(sequence);
    return listener->OnStepFinished(finished);
  }
  Release(sequence);
  listener->OnFinished(finished);
}

// Gives every link what the step made for it, in one call each.
void EngineImpl::SendRemote() {
  for (auto& [replica, rows] : std::exchange(outgoing_rows_, {})) replica->Send(std::move(rows));
  for (auto& [listener, results] : std::exchange(outgoing_results_, {})) {
    listener->OnResults(std::move(results));
  }
  for (const auto& [listener, rows] : std::exchange(consumed_rows_, {})) {
    listener->OnConsumed(rows);
  }
}

void EngineImpl::AcceptRemote(RemoteExpert* replica, const RemoteResult& result) {
  LocalSequence* sequence = FindRemoteOf(replica, result.session);
  if (sequence == nullptr || result.epoch != sequence->epoch) return;  // overtaken
  if (sequence->scoring()) {
    AcceptScores(*sequence, result.tokens);
    return;
  }
  const int vocab = options_.model->config().vocab;
  for (const GeneratedToken& token : result.tokens) {
    const bool next = sequence->computed == static_cast<int>(sequence->tokens.size()) &&
                      token.position == sequence->computed;
    if (!next || token.id < 0 || token.id >= vocab) {
      Fail(result.session, absl::InternalError("the expert answered with a token out of turn"));
      return;
    }
    AcceptToken(*sequence, token);
    return;
  }
}

}  // namespace ccoe::runtime
