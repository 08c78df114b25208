#include "common/runtime/engine.h"

#include <algorithm>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/check.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/model/digest.h"
#include "common/runtime/engine_impl.h"

namespace ccoe::runtime {
namespace {

// Commands that may be under way at a time. Senders are bounded by admission and credits far below
// it, so that a push cannot fail.
constexpr size_t kInboxCapacity = size_t{1} << 20;
// How long a session waits before it asks again a replica that had no blocks.
constexpr absl::Duration kRetryInterval = absl::Milliseconds(10);

absl::Status CheckRange(const EngineOptions& options) {
  const model::ModelConfig& config = options.model->config();
  if (options.layer_begin < 0 || options.layer_begin >= options.layer_end ||
      options.layer_end > config.layers) {
    return absl::InvalidArgumentError(absl::StrCat("layers [", options.layer_begin, ", ",
                                                   options.layer_end, ") of a model with ",
                                                   config.layers, " layers"));
  }
  return absl::OkStatus();
}

size_t BoundaryBudget(const EngineOptions& options, const KvPool& pool) {
  if (options.boundary_budget_bytes != 0) return options.boundary_budget_bytes;
  const size_t pages_of_a_layer = pool.total() / (options.layer_end - options.layer_begin);
  const size_t positions = pages_of_a_layer * compute::kKvPageTokens;
  // Twice: an undecided session may keep those of its stem beside those that leave.
  return 2 * positions * options.model->config().hidden * sizeof(float);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(EngineOptions options) {
  const model::ModelConfig& config = options.model->config();
  if (options.layer_end == 0) options.layer_end = config.layers;
  if (options.max_context <= 0) options.max_context = config.context;
  options.max_context = std::min(options.max_context, config.context);
  CCOE_RETURN_IF_ERROR(CheckRange(options));
  auto engine = std::make_unique<EngineImpl>(std::move(options));
  CCOE_RETURN_IF_ERROR(engine->Start());
  return engine;
}

EngineImpl::EngineImpl(EngineOptions options)
    : options_(std::move(options)), inbox_(kInboxCapacity), waiting_room_(options_.max_waiting) {}

absl::Status EngineImpl::Start() {
  const model::ModelConfig& config = options_.model->config();
  const bool to_last_layer = options_.layer_end == config.layers;
  CCOE_ASSIGN_OR_RETURN(pool_, KvPool::Create(*options_.device, {config.kv_heads, config.head_dim},
                                              options_.kv_budget_bytes));
  const size_t boundary_budget = BoundaryBudget(options_, *pool_);
  if (options_.prefix_cache && options_.layer_begin == 0) {
    cache_ = std::make_unique<PrefixCache>(*pool_, 2 * boundary_budget);
  }
  boundary_ = std::make_unique<BoundaryStore>(config.hidden, boundary_budget);
  CCOE_ASSIGN_OR_RETURN(transformer_,
                        Transformer::Create({&config, options_.device.get(), pool_.get(),
                                             options_.max_step_rows, options_.max_context}));
  if (!to_last_layer || options_.serve_general) {
    CCOE_ASSIGN_OR_RETURN(base_, LoadBase(*options_.model, options_.layer_begin, options_.layer_end,
                                          *options_.device));
  }
  base_bytes_ = BytesOf(base_);
  if (to_last_layer && options_.serve_general) {
    ExpertEntry general;
    general.info.key = {kGeneralExpert, "base"};
    general.info.domain = kGeneralExpert;
    general.info.description = absl::StrCat("the base model, ", config.name);
    general.info.attach_depth = options_.layer_begin;
    CCOE_RETURN_IF_ERROR(directory_.AddLocal(std::move(general)));
  }
  thread_ = std::thread([this] { Loop(); });
  return absl::OkStatus();
}

EngineImpl::~EngineImpl() {
  stopping_ = true;
  inbox_.Close();
  closed_ = true;
  if (thread_.joinable()) thread_.join();
}

absl::Status EngineImpl::LoadBaseFor(const ExpertInfo& info, const model::ExpertPackage& package) {
  const int layers = options_.model->config().layers;
  if (info.attach_depth < options_.layer_begin || options_.layer_end != layers) {
    return absl::InvalidArgumentError(
        absl::StrCat("expert ", info.key.name, " owns layers [", info.attach_depth, ", ", layers,
                     "), this engine has [", options_.layer_begin, ", ", options_.layer_end, ")"));
  }
  if (package.manifest().kind == model::ExpertKind::kFull || !base_.layers.empty()) {
    return absl::OkStatus();
  }
  CCOE_ASSIGN_OR_RETURN(
      base_, LoadBase(*options_.model, options_.layer_begin, options_.layer_end, *options_.device));
  base_bytes_ = BytesOf(base_);
  return absl::OkStatus();
}

ExpertInfo EngineImpl::Describe(const model::ExpertPackage& package) const {
  const model::ExpertManifest& manifest = package.manifest();
  ExpertInfo info;
  info.key = {manifest.name, manifest.version};
  info.domain = manifest.domain;
  info.description = manifest.description;
  info.package_digest = package.digest();
  info.attach_depth = manifest.attach_depth;
  if (options_.quantize_experts && manifest.kind == model::ExpertKind::kFull) {
    info.package_digest =
        absl::StrCat("sha256:", model::Sha256Hex(absl::StrCat("quantized ", package.digest(),
                                                              " as ", options_.model->digest())));
  }
  return info;
}

absl::Status EngineImpl::AddExpert(std::shared_ptr<const model::ExpertPackage> package) {
  base::MutexLock lock(&packing_mutex_);
  ExpertEntry entry;
  entry.info = Describe(*package);
  CCOE_RETURN_IF_ERROR(directory_.CheckNew(entry.info.key));  // before the packing
  // The device computes for the engine's thread alone: packing runs there, between two steps.
  std::promise<absl::Status> added;
  Post([&] {
    absl::Status status = LoadBaseFor(entry.info, *package);
    if (status.ok()) {
      auto weights = LoadExpert({*options_.model, *package, base_, options_.quantize_experts},
                                *options_.device);
      status = weights.status();
      if (weights.ok()) {
        entry.weights = *std::move(weights);
      }
    }
    added.set_value(status);
  });
  CCOE_RETURN_IF_ERROR(added.get_future().get());  // the destructor runs after all calls
  package->ReleasePages();                         // they are packed
  entry.package = std::move(package);
  return directory_.AddLocal(std::move(entry));
}

absl::Status EngineImpl::RemoveExpert(const ExpertKey& expert) {
  const auto entry = directory_.Find(expert);
  CCOE_RETURN_IF_ERROR(directory_.RemoveLocal(expert));
  Post([this, digest = (*entry)->info.package_digest] {
    if (cache_ != nullptr) cache_->DropTails(digest);
  });
  return absl::OkStatus();
}

absl::Status EngineImpl::AddReplica(const ExpertInfo& expert, RemoteExpert* replica) {
  if (options_.layer_begin != 0 || expert.attach_depth < 1 ||
      expert.attach_depth > options_.layer_end) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expert ", expert.key.name, " attaches at layer ", expert.attach_depth,
        ", outside this engine's [", options_.layer_begin, ", ", options_.layer_end, ")"));
  }
  return directory_.AddReplica(expert, replica);
}

void EngineImpl::RemoveReplica(RemoteExpert* replica, absl::Status why) {
  directory_.RemoveReplica(replica);
  Post([this, replica, why = std::move(why)] {
    std::vector<SessionId> lost;
    for (const auto& [id, sequence] : local_) {
      if (sequence->replica == replica) lost.push_back(id);
    }
    // Each goes to the front of the queue: the one that came first last.
    for (auto id = lost.rbegin(); id != lost.rend(); ++id) MoveOrFail(*FindLocal(*id), why);
  });
}

void EngineImpl::RetireReplica(RemoteExpert* replica) {
  directory_.RetireReplica(replica);
  Post([] {});  // wakes the loop, which may forget it at once
}

EngineStats EngineImpl::Stats() const {
  EngineStats stats;
  stats.sessions_waiting = waiting_room_.sessions();
  stats.sessions_running = std::max(0, open_sessions_ - stats.sessions_waiting);
  stats.kv_pages_total = pool_->total();
  stats.kv_pages_used = kv_pages_used_;
  stats.kv_pages_cached = kv_pages_cached_;
  stats.kv_page_bytes = pool_->pages().page_bytes();
  stats.boundary_bytes_used = boundary_bytes_used_;
  stats.weights_bytes = base_bytes_ + directory_.WeightBytes();
  return stats;
}

// Positions that a session may come to use: the most of any of its steps.
int64_t EngineImpl::PositionsOf(const SessionSpec& spec) const {
  const auto prompt = static_cast<int64_t>(spec.prompt.size());
  if (spec.score_from.has_value()) return prompt;
  int64_t end = prompt + spec.stop.max_tokens;
  if (spec.next_steps.empty()) return std::min<int64_t>(end, options_.max_context);
  int64_t most = end;
  for (const NextStep& next : spec.next_steps) {
    const int64_t begin = next.from == NextStep::From::kPrompt ? prompt : end;
    end = begin + static_cast<int64_t>(next.tokens.size()) + next.stop.max_tokens;
    most = std::max(most, end);
  }
  return most;
}

absl::Status EngineImpl::CheckSpec(const SessionSpec& spec) const {
  if (options_.layer_begin != 0) {
    return absl::FailedPreconditionError("this engine has no embeddings: it serves links only");
  }
  const size_t room = spec.score_from.has_value() || spec.stop.max_tokens == 0 ? 0 : 1;
  if (spec.prompt.empty() || spec.stop.max_tokens < 0) {
    return absl::InvalidArgumentError("the prompt is empty or max_tokens is negative");
  }
  if (spec.prompt.size() + room > static_cast<size_t>(options_.max_context)) {
    return base::MakeError(base::Reason::kPromptTooLong,
                           absl::StrCat("the prompt has ", spec.prompt.size(),
                                        " tokens; the limit is ", options_.max_context - room));
  }
  if (spec.score_from.has_value() &&
      (*spec.score_from < 1 || *spec.score_from >= static_cast<int>(spec.prompt.size()))) {
    return absl::InvalidArgumentError("nothing to score: the continuation or its prompt is empty");
  }
  if (spec.next_steps.empty()) return absl::OkStatus();
  bool sound = !spec.score_from.has_value() && !spec.expert.name.empty() && room > 0;
  for (const NextStep& next : spec.next_steps) {
    sound = sound && next.stop.max_tokens > 0 &&
            (next.from == NextStep::From::kPrompt || !next.tokens.empty());
  }
  if (!sound) {
    return absl::InvalidArgumentError(
        "a session of several steps generates, names its experts, and puts tokens between them");
  }
  if (PositionsOf(spec) > options_.max_context) {
    return base::MakeError(
        base::Reason::kPromptTooLong,
        absl::StrCat("the steps may come to ", PositionsOf(spec), " tokens together; the limit is ",
                     options_.max_context, "; lower max_tokens"));
  }
  return absl::OkStatus();
}

absl::Status EngineImpl::CheckUsable(const SessionSpec& spec, const ExpertEntry* expert) const {
  if (expert != nullptr) {
    if (directory_.Healthy(*expert)) return absl::OkStatus();
    return base::MakeError(
        base::Reason::kExpertUnavailable,
        absl::StrCat("expert ", expert->info.key.name, " has no replica that is connected"));
  }
  const int prompt = spec.score_from.value_or(static_cast<int>(spec.prompt.size()));
  int end = 0;
  bool in_order = !spec.route_tokens.empty();
  for (const model::TokenRange& range : spec.route_tokens) {
    in_order = in_order && end <= range.begin && range.begin < range.end;
    end = range.end;
  }
  if (spec.routing_layer < 1 || spec.routing_layer > StemDepth(spec) || !in_order || end > prompt) {
    return absl::InvalidArgumentError(
        absl::StrCat("an undecided session needs route tokens within its prompt and a routing "
                     "layer that is computed here; the layer is ",
                     spec.routing_layer));
  }
  return absl::OkStatus();
}

// As far as all experts share, but to the routing layer in any case: an expert that attaches above
// it begins anew.
int EngineImpl::StemDepth(const SessionSpec& spec) const {
  const int last = std::min(options_.layer_end, options_.model->config().layers - 1);
  return std::min(last, std::max(spec.routing_layer, directory_.SharedDepth(last)));
}

// How many rows of hidden states the session may come to keep from its step on, by their depth: its
// stem's, those that leave, and those where the experts of two steps part. At depth 0: rows that
// may leave, where the expert is not known.
std::map<int, int> EngineImpl::KeptRows(const LocalSequence& sequence) const {
  std::map<int, int> rows;
  if (sequence.undecided()) {
    rows[sequence.stem_depth] = sequence.prompt_tokens;
    if (directory_.HasRemote()) rows[0] = sequence.max_positions;
    return rows;
  }
  const ExpertEntry* last = nullptr;
  const auto add = [&](const ExpertEntry& expert) {
    if (!expert.local) rows[expert.depth()] = sequence.max_positions;
    const int shared = last == nullptr ? 0 : std::min(last->depth(), expert.depth());
    if (shared > 0 && last != &expert) rows[shared] = sequence.max_positions;
    last = &expert;
  };
  add(*sequence.expert);
  for (size_t i = sequence.step; i < sequence.next_experts.size(); ++i) {
    add(*sequence.next_experts[i]);
  }
  return rows;
}

// Whether the session could ever be admitted.
absl::Status EngineImpl::CheckRoom(const LocalSequence& sequence) const {
  const int pages =
      KvPool::PagesFor(options_.layer_end - options_.layer_begin, sequence.max_positions);
  if (pages > pool_->total()) {
    return base::MakeError(
        base::Reason::kSessionTooLarge,
        absl::StrCat("the request needs ", pages, " KV pages, the server has ", pool_->total(),
                     "; shorten the prompt or lower max_tokens"));
  }
  size_t bytes = 0;
  for (const auto& [depth, rows] : KeptRows(sequence)) bytes += boundary_->BytesFor(rows);
  if (bytes > boundary_->budget_bytes()) {
    return base::MakeError(
        base::Reason::kSessionTooLarge,
        absl::StrCat("the request needs ", bytes, " bytes for boundary states, the server has ",
                     boundary_->budget_bytes(), "; shorten the prompt or lower max_tokens"));
  }
  return absl::OkStatus();
}

absl::StatusOr<SessionId> EngineImpl::Open(SessionSpec spec, SessionListener* listener) {
  if (draining_) {
    return base::MakeError(base::Reason::kDraining, "the server is draining; try another");
  }
  CCOE_RETURN_IF_ERROR(CheckSpec(spec));
  const SessionId id = next_session_.fetch_add(1);
  auto sequence = std::make_unique<LocalSequence>(id, std::move(spec), listener,
                                                  options_.model->tokenizer(), absl::Now());
  CCOE_RETURN_IF_ERROR(FindExperts(*sequence));
  CCOE_RETURN_IF_ERROR(CheckRoom(*sequence));
  if (!waiting_room_.TryEnter(sequence->flow)) {
    return base::MakeError(base::Reason::kQueueFull,
                           absl::StrCat("the queue is full: of ", options_.max_waiting,
                                        " places for requests that "
                                        "wait for KV blocks none is left for this one"),
                           {.metadata = {}, .retry_after = kQueueRetryDelay});
  }
  open_sessions_.fetch_add(1);
  Post([this, id, shared = std::make_shared<std::unique_ptr<LocalSequence>>(std::move(sequence))] {
    fair_.Join((*shared)->flow, (*shared)->domain);
    local_.emplace(id, std::move(*shared));
    waiting_.push_back(id);
  });
  return id;
}

// The experts of a new session, and with them what it may need.
absl::Status EngineImpl::FindExperts(LocalSequence& sequence) const {
  const SessionSpec& spec = sequence.spec;
  if (!spec.expert.name.empty()) {
    CCOE_ASSIGN_OR_RETURN(sequence.expert, directory_.Find(spec.expert));
    sequence.domain = sequence.expert->info.domain;
  }
  CCOE_RETURN_IF_ERROR(CheckUsable(spec, sequence.expert.get()));
  for (const NextStep& next : spec.next_steps) {
    CCOE_ASSIGN_OR_RETURN(sequence.next_experts.emplace_back(), directory_.Find(next.expert));
    CCOE_RETURN_IF_ERROR(CheckUsable(spec, sequence.next_experts.back().get()));
  }
  sequence.max_positions = static_cast<int>(PositionsOf(spec));
  sequence.end_positions =
      std::min(sequence.max_positions, sequence.prompt_tokens + spec.stop.max_tokens);
  if (!sequence.undecided()) return absl::OkStatus();
  const model::ModelConfig& config = options_.model->config();
  sequence.candidates = directory_.Remote();
  sequence.stem_depth = StemDepth(spec);
  sequence.route_pool.emplace(spec.route_tokens, config.hidden, config.rms_epsilon);
  return absl::OkStatus();
}

void EngineImpl::Decide(SessionId session, ExpertKey expert) {
  Post([this, session, expert = std::move(expert)] {
    LocalSequence* sequence = FindLocal(session);
    if (sequence == nullptr) return;
    const absl::Status status = TakeDecision(*sequence, expert);
    if (!status.ok()) Fail(session, status);
  });
}

void EngineImpl::Cancel(SessionId session, absl::Status why) {
  Post([this, session, why = std::move(why)] { Fail(session, why); });
}

void EngineImpl::SetPaused(SessionId session, bool paused) {
  Post([this, session, paused] {
    if (LocalSequence* sequence = FindLocal(session)) sequence->paused = paused;
  });
}

void EngineImpl::OpenRemote(SessionId session, RemoteSpec spec, RemoteListener* listener) {
  Post([this, session, spec = std::move(spec), listener] { OpenGuest(session, spec, listener); });
}

void EngineImpl::FeedRows(RemoteListener* listener, std::vector<HiddenRows> rows) {
  auto shared = std::make_shared<std::vector<HiddenRows>>(std::move(rows));
  Post([this, listener, shared] {
    for (HiddenRows& item : *shared) FeedGuest(listener, std::move(item));
  });
}

void EngineImpl::CloseRemote(RemoteListener* listener, SessionId session) {
  Post([this, listener, session] { CloseGuest({listener, session}); });
}

void EngineImpl::DetachListener(RemoteListener* listener) {
  std::promise<void> detached;
  Post([&] {
    std::vector<GuestKey> keys;
    for (const auto& [key, guest] : guests_) {
      if (key.first == listener) keys.push_back(key);
    }
    for (const GuestKey& key : keys) CloseGuest(key);
    detached.set_value();
  });
  detached.get_future().wait();
}

void EngineImpl::RemoteOpened(RemoteExpert* replica, SessionId session, absl::Status status) {
  Post([this, replica, session, status = std::move(status)] {
    LocalSequence* sequence = FindRemoteOf(replica, session);
    if (sequence == nullptr || sequence->state != LocalSequence::State::kOpening) return;
    if (status.ok()) {
      StartSession(*sequence);
    } else if (absl::IsResourceExhausted(status)) {
      sequence->retry_at = absl::Now() + kRetryInterval;
      Requeue(*sequence);
    } else {
      MoveOrFail(*sequence, status);
    }
  });
}

void EngineImpl::RemoteResults(RemoteExpert* replica, std::vector<RemoteResult> results) {
  Post([this, replica, results = std::move(results)] {
    for (const RemoteResult& result : results) AcceptRemote(replica, result);
  });
}

void EngineImpl::RemoteFailed(RemoteExpert* replica, SessionId session, absl::Status status) {
  Post([this, replica, session, status = std::move(status)] {
    LocalSequence* sequence = FindRemoteOf(replica, session);
    if (sequence != nullptr) MoveOrFail(*sequence, status);
  });
}

void EngineImpl::LinkReady(RemoteExpert*) {
  Post([] {});  // wakes the loop, which asks for the credit again
}

bool EngineImpl::Drain(absl::Duration timeout) {
  draining_ = true;
  const absl::Time deadline = absl::Now() + timeout;
  while (open_sessions_ > 0 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(5));
  return open_sessions_ == 0;
}

void EngineImpl::Post(Command command) {
  const bool pushed = inbox_.TryPush(std::move(command));
  CCOE_CHECK(pushed || stopping_);
}

}  // namespace ccoe::runtime
