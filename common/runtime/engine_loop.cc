#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/runtime/engine_impl.h"
#include "common/runtime/engine_prefix.h"

// The engine's thread: its loop, and how sessions begin and end.
namespace ccoe::runtime {
namespace {

constexpr std::chrono::milliseconds kIdleWait{1000};
// While sessions wait for blocks or for a replica, deadlines have to be looked at.
constexpr std::chrono::milliseconds kWaitingPoll{5};

}  // namespace

void EngineImpl::Loop() {
  bool busy = false;
  while (!closed_) {
    const auto wait =
        busy ? std::chrono::milliseconds(0) : (waiting_.empty() ? kIdleWait : kWaitingPoll);
    for (Command& command : busy ? inbox_.TakeAll() : inbox_.WaitAndTakeAll(wait)) command();
    ForgetReplicas();
    AdmitWaiting();
    busy = Step();
    PublishUsage();
  }
  for (Command& command : inbox_.TakeAll()) command();
  while (!local_.empty()) {
    Fail(local_.begin()->first,
         base::MakeError(base::Reason::kDraining, "the server is stopping; try another"));
  }
  while (!guests_.empty()) {
    const GuestKey key = guests_.begin()->first;
    CloseGuest(key);
    key.first->OnFailed(key.second,
                        base::MakeError(base::Reason::kDraining, "the expert is stopping"));
  }
}

void EngineImpl::ForgetReplicas() {
  const auto in_use = [this](RemoteExpert* replica) {
    return std::any_of(local_.begin(), local_.end(),
                       [&](const auto& session) { return session.second->replica == replica; });
  };
  for (RemoteExpert* replica : directory_.TakeForgotten(in_use)) replica->Forget();
}

// Reserves memory here first, then asks a replica. RESOURCE_EXHAUSTED: later.
absl::Status EngineImpl::Admit(LocalSequence& sequence) {
  if (sequence.undecided()) {
    CCOE_RETURN_IF_ERROR(Reserve(sequence));
    StartSession(sequence);
    return absl::OkStatus();
  }
  const ExpertEntry& expert = *sequence.expert;
  RemoteExpert* replica = expert.local ? nullptr : directory_.PickReplica(expert, sequence.left);
  if (!expert.local && replica == nullptr) {
    if (!sequence.lost.ok()) return sequence.lost;
    return base::MakeError(
        base::Reason::kExpertUnavailable,
        absl::StrCat("expert ", expert.info.key.name, " has no replica that is connected"));
  }
  if (!sequence.started()) CCOE_RETURN_IF_ERROR(Reserve(sequence));
  sequence.replica = replica;
  sequence.state = LocalSequence::State::kOpening;
  if (replica == nullptr) {
    StartSession(sequence);
    return absl::OkStatus();
  }
  RemoteSpec spec;
  spec.request_id = sequence.spec.request_id;
  spec.traceparent = sequence.spec.traceparent;
  spec.expert = expert.info.key;
  spec.package_digest = expert.info.package_digest;
  spec.attach_depth = expert.info.attach_depth;
  spec.max_positions = sequence.end_positions;
  spec.prompt_tokens = sequence.prompt_tokens;
  spec.sampling = sequence.sampling;
  replica->OpenSession(sequence.id, spec);
  return absl::OkStatus();
}

// KV blocks and room for the states that are kept. Nothing is held on refusal.
absl::Status EngineImpl::Reserve(LocalSequence& sequence) {
  const auto end = [this](const std::shared_ptr<const ExpertEntry>& expert) {
    return expert == nullptr || expert->local ? options_.layer_end : expert->info.attach_depth;
  };
  sequence.layer_begin = options_.layer_begin;
  sequence.layer_end = end(sequence.expert);
  int last_layer = sequence.layer_end;  // of any step
  for (const auto& expert : sequence.next_experts) last_layer = std::max(last_layer, end(expert));
  std::map<int, BoundaryStates> states;
  const std::map<int, int> kept = KeptRows(sequence);
  for (const auto& [depth, rows] : kept) {
    CCOE_ASSIGN_OR_RETURN(states[depth], boundary_->Reserve(rows));
  }
  Prefix prefix = FindPrefix(sequence, kept);
  if (prefix.stem_rows() > prefix.whole_rows() && !kept.contains(prefix.stem_depth)) {
    auto stem = boundary_->Reserve(prefix.stem_rows());
    if (stem.ok()) {
      states[prefix.stem_depth] = *std::move(stem);
    } else {
      prefix.DropStem();
    }
  }
  CCOE_ASSIGN_OR_RETURN(KvBlocks blocks, pool_->Reserve(last_layer - sequence.layer_begin,
                                                        sequence.max_positions, prefix.columns));
  if (const auto room = states.extract(0); !room.empty()) sequence.room = std::move(room.mapped());
  sequence.states = std::move(states);
  sequence.blocks = std::move(blocks);
  sequence.spare = SparePages(sequence);
  sequence.keeps_stem = !sequence.undecided() && kept.contains(prefix.stem_depth);
  BeginAfter(prefix, sequence);
  return absl::OkStatus();
}

// An expert that was there when the session was opened, or has come since.
absl::StatusOr<std::shared_ptr<const ExpertEntry>> EngineImpl::FindFor(
    const LocalSequence& sequence, const ExpertKey& key) const {
  auto found = directory_.Find(key);
  if (found.ok()) return found;
  for (const std::shared_ptr<const ExpertEntry>& candidate : sequence.candidates) {
    if (candidate->info.key == key) return candidate;
  }
  return found;
}

// An undecided session gets its expert. The error is the session's end.
absl::Status EngineImpl::TakeDecision(LocalSequence& sequence, const ExpertKey& key) {
  if (!sequence.undecided()) return absl::InvalidArgumentError("the expert is decided already");
  CCOE_ASSIGN_OR_RETURN(const std::shared_ptr<const ExpertEntry> expert, FindFor(sequence, key));
  CCOE_RETURN_IF_ERROR(CheckUsable(sequence.spec, expert.get()));
  sequence.expert = expert;
  sequence.candidates.clear();
  sequence.route_pool.reset();
  if (!sequence.started()) {  // as if it had been decided from the beginning
    sequence.stem_depth = 0;
    return absl::OkStatus();
  }
  if (expert->depth() < sequence.stem_depth) {
    // An expert that has come since, or attaches below the gate: it begins anew, for it must not
    // write pages that others share.
    sequence.started_at = absl::InfinitePast();
    RestartQueueTime(sequence);
    Requeue(sequence);
    return absl::OkStatus();
  }
  sequence.layer_end = expert->local ? options_.layer_end : expert->info.attach_depth;
  sequence.blocks.Truncate(sequence.layer_end - sequence.layer_begin);
  if (expert->local) {
    sequence.room.Release();
  } else if (sequence.room.empty()) {  // there was no such expert when the session began
    CCOE_ASSIGN_OR_RETURN(sequence.room, boundary_->Reserve(sequence.max_positions));
  }
  LeaveStem(sequence);
  if (expert->local) {
    StartSession(sequence);
  } else {
    RestartQueueTime(sequence);
    Requeue(sequence);  // for a replica
  }
  return absl::OkStatus();
}

// What a session has waited and run before does not count against its wait for a replica.
void EngineImpl::RestartQueueTime(LocalSequence& sequence) {
  sequence.queue_deadline = absl::Now() + (sequence.spec.queue_deadline - sequence.opened_at);
}

// What an undecided session has computed serves its expert from where that attaches. Rows that will
// leave are kept in `room`.
void EngineImpl::LeaveStem(LocalSequence& sequence) {
  const ExpertEntry& expert = *sequence.expert;
  const int depth = expert.depth();
  BoundaryStates leaving = std::move(sequence.room);
  if (depth == sequence.stem_depth && !expert.local) {  // the stem's states are those that leave
    const BoundaryStates stem =
        std::move(sequence.states.extract(std::exchange(sequence.stem_depth, 0)).mapped());
    sequence.computed = std::exchange(sequence.stem_rows, 0);
    if (sequence.computed > 0) leaving.Append(stem.Rows(0, sequence.computed));
  } else {
    SkipKnown(sequence, leaving);
  }
  if (!expert.local) sequence.states[depth] = std::move(leaving);
}

// The next step goes on from the deepest states that are the base model's own under both experts,
// and shares the KV of the layers below; with the same expert here, all of it.
void EngineImpl::BeginNextStep(LocalSequence& sequence) {
  const std::shared_ptr<const ExpertEntry> last = sequence.expert;
  const ExpertEntry& next = *sequence.next_experts[sequence.step];
  const int rows = sequence.RowsThatStay();
  if (sequence.replica != nullptr) sequence.replica->CloseSession(sequence.id);
  if (&next == last.get() && next.local) {
    sequence.BeginStep(next.depth(), rows);
    sequence.computed = std::exchange(sequence.stem_rows, 0);
  } else {
    const int shared = std::min(last->depth(), next.depth());
    sequence.BeginStep(shared, shared > 0 ? rows : 0);
    if (!next.local && shared == next.depth()) {  // they are the rows that leave
      sequence.computed = std::exchange(sequence.stem_rows, 0);
    }
  }
  // What no step needs any more goes.
  const std::map<int, int> kept = KeptRows(sequence);
  sequence.keeps_stem = kept.contains(sequence.stem_depth);
  std::erase_if(sequence.states, [&](const auto& entry) {
    return entry.first != sequence.stem_depth && !kept.contains(entry.first);
  });
  sequence.layer_end = next.local ? options_.layer_end : next.info.attach_depth;
  sequence.begun_at = sequence.started_at = absl::Now();
  sequence.first_token_at = absl::InfinitePast();
  if (next.local) return;
  RestartQueueTime(sequence);
  Requeue(sequence);  // for a replica
}

// Before all that wait. A session that has begun keeps its memory, for it cannot begin again. One
// that has not gives it back: no hold and wait.
void EngineImpl::Requeue(LocalSequence& sequence) {
  if (!sequence.started()) {
    sequence.blocks.Release();
    sequence.states.clear();
    sequence.room.Release();
    sequence.spare.clear();
    sequence.computed = sequence.stem_depth = sequence.stem_rows = sequence.cached_tokens = 0;
  }
  sequence.replica = nullptr;
  sequence.state = LocalSequence::State::kWaiting;
  waiting_.insert(waiting_.begin(), sequence.id);
  waiting_room_.Return(sequence.flow);
}

// If `why` is UNAVAILABLE, lets a session go on at another replica, from its boundary states. Each
// replica is left once at most, so that this ends; `why` becomes the session's error when none
// remains, or none has room for as long as a session may wait.
void EngineImpl::MoveOrFail(LocalSequence& sequence, const absl::Status& why) {
  if (!absl::IsUnavailable(why)) return Fail(sequence.id, why);
  sequence.replica->CloseSession(sequence.id);
  sequence.left.push_back(sequence.replica);
  sequence.lost = why;
  if (sequence.started()) RestartQueueTime(sequence);
  sequence.sent = 0;
  ++sequence.epoch;
  Requeue(sequence);
}

void EngineImpl::StartSession(LocalSequence& sequence) {
  sequence.state = LocalSequence::State::kRunning;
  // A further step at a replica begins once that has room.
  const bool no_token = sequence.first_token_at == absl::InfinitePast();
  if (!sequence.started() || (sequence.step > 0 && no_token)) {
    sequence.started_at = absl::Now();
  }
  if (sequence.undecided() || sequence.announced) return;
  sequence.announced = true;
  sequence.listener->OnAdmitted();
  if (!sequence.scoring() && sequence.spec.stop.max_tokens == 0) {
    Finish(sequence, FinishReason::kLength);
  }
}

LocalSequence* EngineImpl::FindLocal(SessionId session) {
  const auto it = local_.find(session);
  return it == local_.end() ? nullptr : it->second.get();
}

LocalSequence* EngineImpl::FindRemoteOf(RemoteExpert* replica, SessionId session) {
  LocalSequence* sequence = FindLocal(session);
  return sequence != nullptr && sequence->replica == replica ? sequence : nullptr;
}

// Forgets a session, here and at its replica, with the memory it holds.
void EngineImpl::Release(LocalSequence& sequence) {
  if (sequence.state == LocalSequence::State::kWaiting) {
    std::erase(waiting_, sequence.id);
    waiting_room_.Leave(sequence.flow);
  }
  fair_.Leave(sequence.flow, sequence.domain);
  if (sequence.replica != nullptr) sequence.replica->CloseSession(sequence.id);
  KeepPrefix(sequence);
  local_.erase(sequence.id);
  PublishUsage();
  open_sessions_.fetch_sub(1);
}

void EngineImpl::Fail(SessionId session, const absl::Status& why) {
  LocalSequence* sequence = FindLocal(session);
  if (sequence == nullptr) return;
  SessionListener* listener = sequence->listener;
  Release(*sequence);
  listener->OnFailed(why);
}

void EngineImpl::OpenGuest(SessionId session, const RemoteSpec& spec, RemoteListener* listener) {
  const auto refuse = [&](const absl::Status& why) { listener->OnOpened(session, why); };
  if (draining_) return refuse(base::MakeError(base::Reason::kDraining, "the expert is draining"));
  if (guests_.contains({listener, session})) {
    return refuse(absl::AlreadyExistsError("the session is open already"));
  }
  const absl::StatusOr<std::shared_ptr<const ExpertEntry>> expert = directory_.Find(spec.expert);
  if (!expert.ok()) return refuse(expert.status());
  const ExpertInfo& info = (*expert)->info;
  if (!(*expert)->local || info.package_digest != spec.package_digest ||
      spec.attach_depth < options_.layer_begin || spec.attach_depth > info.attach_depth ||
      spec.max_positions < 1 || spec.max_positions > options_.max_context) {
    return refuse(base::MakeError(
        base::Reason::kModelMismatch,
        absl::StrCat("expert ", info.key.name, " here has package ", info.package_digest,
                     " and layers from ", options_.layer_begin, "; asked for ", spec.package_digest,
                     " at layer ", spec.attach_depth, " with ", spec.max_positions,
                     " positions of at most ", options_.max_context)));
  }
  auto guest = std::make_unique<GuestSequence>(session, spec, listener);
  auto blocks = pool_->Reserve(options_.layer_end - spec.attach_depth, spec.max_positions);
  if (!blocks.ok()) return refuse(blocks.status());
  guest->expert = *expert;
  guest->domain = info.domain;
  fair_.Join(guest->flow, guest->domain);
  guest->blocks = *std::move(blocks);
  guest->layer_begin = spec.attach_depth;
  guest->layer_end = options_.layer_end;
  guests_.emplace(GuestKey(listener, session), std::move(guest));
  open_sessions_.fetch_add(1);
  listener->OnOpened(session, absl::OkStatus());
}

void EngineImpl::FeedGuest(RemoteListener* listener, HiddenRows rows) {
  const int count = static_cast<int>(rows.tokens.size());
  const auto it = guests_.find({listener, rows.session});
  if (it == guests_.end()) {  // closed meanwhile
    listener->OnConsumed(count);
    return;
  }
  const SessionId session = rows.session;
  GuestSequence& guest = *it->second;
  const int queued = guest.queued_rows;
  const absl::Status status = guest.Enqueue(std::move(rows), options_.model->config());
  if (!status.ok()) {
    listener->OnConsumed(count);
    CloseGuest({listener, session});
    listener->OnFailed(session, status);
  } else if (guest.queued_rows != queued + count) {  // stale rows, or a replay that replaced some
    listener->OnConsumed(queued + count - guest.queued_rows);
  }
}

// Forgets a guest and gives its blocks and the credit of its queued rows back.
void EngineImpl::CloseGuest(const GuestKey& key) {
  const auto it = guests_.find(key);
  if (it == guests_.end()) return;
  const int queued = it->second->queued_rows;
  fair_.Leave(it->second->flow, it->second->domain);
  guests_.erase(it);
  PublishUsage();
  open_sessions_.fetch_sub(1);
  if (queued > 0) key.first->OnConsumed(queued);
}

void EngineImpl::PublishUsage() {
  kv_pages_used_ = pool_->used();
  kv_pages_cached_ = pool_->cached();
  boundary_bytes_used_ = boundary_->used_bytes();
}

}  // namespace ccoe::runtime
