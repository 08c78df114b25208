#include "common/runtime/sequence.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/runtime/sampler.h"

namespace ccoe::runtime {

RowSpan Sequence::MakeSpan(int rows) const {
  RowSpan span;
  span.position = computed;
  span.rows = rows;
  span.layer_begin = layer_begin;
  span.layer_end = layer_end;
  span.expert = expert == nullptr ? nullptr : expert->weights.get();
  span.blocks = &blocks;
  span.table_begin = layer_begin;
  return span;
}

GeneratedToken Sequence::SampleNext(absl::Span<const float> logits, int position) const {
  const auto history = absl::MakeConstSpan(tokens).first(position);
  return Sample(logits, sampling, {history, prompt_tokens});
}

LocalSequence::LocalSequence(SessionId session_id, SessionSpec session_spec,
                             SessionListener* session_listener,
                             const model::Tokenizer& session_tokenizer, absl::Time now)
    : id(session_id),
      spec(std::move(session_spec)),
      listener(session_listener),
      tokenizer(session_tokenizer),
      text(tokenizer, spec.stop.stop_sequences),
      opened_at(now),
      begun_at(now),
      queue_deadline(spec.queue_deadline) {
  tokens = spec.prompt;
  prompt_tokens = static_cast<int>(tokens.size());
  sampling = spec.sampling;
  flow = spec.flow;
}

int LocalSequence::ReadyRows() const {
  if (state != State::kRunning || paused) return 0;
  if (replaying()) return computed - sent;
  if (on_stem()) return stem_rows - computed;
  // The last token of a scored text predicts nothing that was asked for.
  const int end = static_cast<int>(tokens.size()) - (scoring() ? 1 : 0);
  return end - (undecided() ? stem_rows : computed);
}

int LocalSequence::OutputRows(int rows) const {
  const int end = computed + rows;
  if (scoring()) return std::clamp(end - (*spec.score_from - 1), 0, rows);
  return end == static_cast<int>(tokens.size()) ? 1 : 0;
}

RowSpan LocalSequence::NextSpan(int rows) const {
  RowSpan span = MakeSpan(rows);
  if (undecided()) {
    span.position = stem_rows;
    span.layer_end = stem_depth;
  } else if (replica == nullptr) {
    span.logit_rows = OutputRows(rows);
  }
  if (on_stem()) {
    span.layer_begin = stem_depth;
    span.states = states.at(stem_depth).Rows(computed, rows).data();
  } else {
    span.tokens = tokens.data() + span.position;
  }
  const int own = expert == nullptr ? span.layer_end : std::min(span.layer_end, expert->depth());
  const int routing = route_pool.has_value() ? spec.routing_layer : 0;
  if (routing > 0) span.state_layers.push_back(routing);
  const auto want = [&](int depth) {
    const auto& wanted = span.state_layers;
    if (span.layer_begin < depth && depth <= own &&
        std::find(wanted.begin(), wanted.end(), depth) == wanted.end()) {
      span.state_layers.push_back(depth);
    }
  };
  for (const auto& [depth, kept] : states) want(depth);
  for (const auto& [depth, kept] : spare) want(depth);
  return span;
}

void LocalSequence::TakeStates(int layer, int position, absl::Span<const float> rows) {
  const auto kept = states.find(layer);
  if (kept != states.end()) kept->second.Append(rows);
  const auto pages = spare.find(layer);
  if (pages != spare.end()) pages->second.Take(position, rows);
}

bool LocalSequence::Advance(int rows) {
  (undecided() ? stem_rows : computed) += rows;
  if (undecided()) return false;
  if (computed >= stem_rows && stem_depth > 0 && !keeps_stem) {
    states.erase(std::exchange(stem_depth, 0));
  }
  return true;
}

int LocalSequence::RowsThatStay() const {
  // The last token of a context is always computed anew: what follows it is asked for.
  const int context = spec.next_steps[step].from == NextStep::From::kPrompt
                          ? static_cast<int>(spec.prompt.size())
                          : static_cast<int>(tokens.size());
  return std::min(computed, context - 1);
}

void LocalSequence::BeginStep(int depth, int rows) {
  const NextStep& next = spec.next_steps[step];
  const bool ended = completion_tokens > 0 && !stop().ignore_end_of_generation &&
                     tokenizer.IsEndOfGeneration(tokens.back());
  expert = next_experts[step++];
  if (next.from == NextStep::From::kPrompt) {
    tokens.resize(spec.prompt.size());
  } else if (ended) {
    tokens.pop_back();  // the tokens between end the answer
  }
  tokens.insert(tokens.end(), next.tokens.begin(), next.tokens.end());
  prompt_tokens = static_cast<int>(tokens.size());
  end_positions = prompt_tokens + next.stop.max_tokens;
  sampling = next.sampling;
  text = OutputText(tokenizer, next.stop.stop_sequences);
  completion_tokens = 0;
  for (auto& [kept, kept_states] : states) kept_states.Truncate(kept <= depth ? rows : 0);
  for (auto& [kept, pages] : spare) pages.Truncate(rows);
  stem_depth = depth;
  stem_rows = cached_tokens = rows;
  computed = 0;
  replica = nullptr;
  left.clear();
  lost = absl::OkStatus();
  sent = 0;
  ++epoch;
}

void LocalSequence::TakeLogits(const RowSpan& span, int row, absl::Span<const float> logits) {
  const int next = span.position + row + 1;
  if (scoring()) {
    result.scores.push_back(ScoreToken(logits, tokens[next], next, sampling.top_logprobs));
  } else {
    result.sampled = SampleNext(logits, next);
  }
}

HiddenRows LocalSequence::TakeUnsent(int rows) {
  const int position = std::exchange(sent, sent + rows);
  const absl::Span<const float> rows_states = states.at(layer_end).Rows(position, rows);
  HiddenRows hidden;
  hidden.session = id;
  hidden.epoch = epoch;
  hidden.position = position;
  hidden.states.assign(rows_states.begin(), rows_states.end());
  hidden.tokens.assign(tokens.begin() + position, tokens.begin() + position + rows);
  const int first_score = spec.score_from.value_or(0) + static_cast<int>(scores.size());
  if (scoring() && sent >= first_score) {
    hidden.output = RowOutput::kScore;
    for (int next = position + 1; next <= sent; ++next) {
      hidden.targets.push_back(next >= first_score ? tokens[next] : -1);
    }
  } else if (!scoring() && sent == static_cast<int>(tokens.size())) {
    hidden.output = RowOutput::kSample;
  }
  return hidden;
}

GuestSequence::GuestSequence(SessionId link_id, const RemoteSpec& spec,
                             RemoteListener* link_listener)
    : id(link_id), listener(link_listener) {
  sampling = spec.sampling;
  prompt_tokens = spec.prompt_tokens;
  max_positions = spec.max_positions;
}

RowSpan GuestSequence::NextSpan(int rows) const {
  const HiddenRows& front = queue.front();
  const int left = static_cast<int>(front.tokens.size()) - front_offset;
  RowSpan span = MakeSpan(std::min(rows, left));
  const size_t hidden = front.states.size() / front.tokens.size();
  span.states = front.states.data() + front_offset * hidden;
  if (front.output == RowOutput::kSample && span.rows == left) span.logit_rows = 1;
  if (front.output == RowOutput::kScore) span.logit_rows = span.rows;
  return span;
}

void GuestSequence::TakeLogits(const RowSpan& span, int row, absl::Span<const float> logits) {
  const HiddenRows& front = queue.front();
  if (front.output == RowOutput::kSample) {
    result.sampled = SampleNext(logits, span.position + row + 1);
    return;
  }
  const int32_t target = front.targets[front_offset + row];
  if (target < 0) return;
  const int next = span.position + row + 1;
  result.scores.push_back(ScoreToken(logits, target, next, sampling.top_logprobs));
}

absl::Status GuestSequence::Enqueue(HiddenRows rows, const model::ModelConfig& config) {
  if (rows.epoch < epoch) return absl::OkStatus();  // overtaken by a replay
  if (rows.epoch > epoch && rows.position >= 0 &&
      rows.position <= static_cast<int>(tokens.size())) {
    epoch = rows.epoch;
    queue.clear();
    queued_rows = 0;
    front_offset = 0;
    tokens.resize(rows.position);
    computed = std::min(computed, rows.position);
  }
  const size_t count = rows.tokens.size();
  const bool scores = rows.output == RowOutput::kScore;
  const bool in_order = count > 0 && rows.position == static_cast<int>(tokens.size()) &&
                        count <= static_cast<size_t>(max_positions - rows.position);
  const bool whole =
      rows.states.size() == count * config.hidden && rows.targets.size() == (scores ? count : 0);
  const auto known = [&](int32_t id) { return id >= 0 && id < config.vocab; };
  const auto target = [&](int32_t id) { return id == -1 || known(id); };
  if (!in_order || !whole || !std::all_of(rows.tokens.begin(), rows.tokens.end(), known) ||
      !std::all_of(rows.targets.begin(), rows.targets.end(), target)) {
    return absl::InvalidArgumentError(
        absl::StrCat("malformed rows at position ", rows.position, ": ", count, " tokens, ",
                     rows.states.size(), " values, ", rows.targets.size(),
                     " targets; expected position ", tokens.size(), " of at most ", max_positions,
                     ", ", config.hidden, " values a token and ids below ", config.vocab));
  }
  tokens.insert(tokens.end(), rows.tokens.begin(), rows.tokens.end());
  queued_rows += static_cast<int>(count);
  queue.push_back(std::move(rows));
  return absl::OkStatus();
}

void GuestSequence::Consume(int rows) {
  front_offset += rows;
  queued_rows -= rows;
  if (front_offset == static_cast<int>(queue.front().tokens.size())) {
    queue.pop_front();
    front_offset = 0;
  }
}

}  // namespace ccoe::runtime
