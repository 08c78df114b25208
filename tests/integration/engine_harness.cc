#include "tests/integration/engine_harness.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/check.h"

namespace ccoe::testing {
namespace {

// Long enough for a slow, busy machine: a wait that ends too early fails for nothing.
constexpr std::chrono::seconds kPatience{300};

std::string TinyPath(const std::string& name) {
  return absl::StrCat(CCOE_TEST_SOURCE_DIR, "/goldens/tiny/", name);
}

}  // namespace

std::shared_ptr<const model::Model> TinyModel(const std::string& name) {
  auto model = model::Model::Load(TinyPath(name));
  if (!model.ok()) ABSL_RAW_LOG(FATAL, "%s", model.status().ToString().c_str());
  return *std::move(model);
}

std::shared_ptr<const model::ExpertPackage> TinyPackage(const std::string& name) {
  auto package = model::ExpertPackage::Load(TinyPath(name));
  if (!package.ok()) ABSL_RAW_LOG(FATAL, "%s", package.status().ToString().c_str());
  return *std::move(package);
}

std::shared_ptr<const model::ExpertPackage> TinyPackage(
    const std::string& name, const std::vector<std::pair<std::string, std::string>>& replaced) {
  const std::filesystem::path from = TinyPath(name);
  const std::filesystem::path to = std::filesystem::temp_directory_path() /
                                   absl::StrCat("ccoe_tiny_package_", getpid(), "_", name);
  std::filesystem::remove_all(to);
  std::filesystem::copy(from, to);
  std::stringstream manifest;
  manifest << std::ifstream(from / "expert.json").rdbuf();
  std::ofstream(to / "expert.json") << absl::StrReplaceAll(manifest.str(), replaced);
  auto package = model::ExpertPackage::Load(to.string());
  std::filesystem::remove_all(to);
  if (!package.ok()) ABSL_RAW_LOG(FATAL, "%s", package.status().ToString().c_str());
  return *std::move(package);
}

std::shared_ptr<const model::Model> RealModel() {
  const char* path = std::getenv("CCOE_MODEL");
  if (path == nullptr || *path == '\0') return nullptr;
  auto model = model::Model::Load(path);
  if (!model.ok()) ABSL_RAW_LOG(FATAL, "%s", model.status().ToString().c_str());
  return *std::move(model);
}

std::unique_ptr<runtime::Engine> MakeEngine(std::shared_ptr<const model::Model> model,
                                            const EngineSetup& setup) {
  auto device = compute::NewCpuDevice(setup.cpu);
  if (!device.ok()) ABSL_RAW_LOG(FATAL, "%s", device.status().ToString().c_str());
  runtime::EngineOptions options;
  options.model = std::move(model);
  options.device = *std::move(device);
  options.layer_begin = setup.layer_begin;
  options.layer_end = setup.layer_end;
  options.serve_general = setup.serve_general;
  options.max_step_rows = setup.max_step_rows;
  options.max_sessions = setup.max_sessions;
  options.max_waiting = setup.max_waiting;
  options.kv_budget_bytes = setup.kv_budget_bytes;
  options.boundary_budget_bytes = setup.boundary_budget_bytes;
  options.prefix_cache = setup.prefix_cache;
  options.quantize_experts = setup.quantize_experts;
  options.observer = setup.observer;
  auto engine = runtime::Engine::Create(std::move(options));
  if (!engine.ok()) ABSL_RAW_LOG(FATAL, "%s", engine.status().ToString().c_str());
  return *std::move(engine);
}

void Collector::OnRouteState(absl::Span<const float> state) {
  pooled.assign(state.begin(), state.end());
  if (on_route_state) on_route_state(state);
}

void Collector::OnDelta(const runtime::Delta& delta) {
  base::MutexLock lock(&mutex_);
  text += delta.text;
  tokens.insert(tokens.end(), delta.tokens.begin(), delta.tokens.end());
  token_count_ = tokens.size();
  changed_.SignalAll();
  while (held_ && token_count_ >= hold_after_) changed_.Wait(&mutex_);
}

void Collector::OnStepFinished(const runtime::Finished& event) {
  base::MutexLock lock(&mutex_);
  steps.push_back(event);
  text += event.text;
}

void Collector::OnFinished(const runtime::Finished& event) {
  base::MutexLock lock(&mutex_);
  finished = event;
  text += event.text;
  ended_ = true;
  changed_.SignalAll();
}

void Collector::OnFailed(const absl::Status& why) {
  base::MutexLock lock(&mutex_);
  // A copy that shares nothing with the engine's: Debian's Abseil counts references where the
  // thread sanitizer does not see it.
  status = absl::Status(why.code(), why.message());
  why.ForEachPayload([this](absl::string_view type, const absl::Cord& payload) {
    status.SetPayload(type, absl::Cord(std::string(payload)));
  });
  ended_ = true;
  changed_.SignalAll();
}

bool Collector::Wait() {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  base::MutexLock lock(&mutex_);
  while (!ended_ && std::chrono::steady_clock::now() < deadline) {
    changed_.WaitFor(&mutex_, std::chrono::seconds(1));
  }
  return ended_;
}

void Collector::WaitForTokens(size_t count) {
  base::MutexLock lock(&mutex_);
  while (!ended_ && token_count_ < count) changed_.Wait(&mutex_);
}

void Collector::HoldAfter(size_t count) {
  base::MutexLock lock(&mutex_);
  held_ = true;
  hold_after_ = count;
  changed_.SignalAll();
}

void Collector::Release() {
  base::MutexLock lock(&mutex_);
  held_ = false;
  changed_.SignalAll();
}

std::vector<int32_t> Collector::Ids() const {
  std::vector<int32_t> ids;
  for (const runtime::GeneratedToken& token : tokens) ids.push_back(token.id);
  return ids;
}

absl::Status LoopbackLink::Connect(runtime::Engine* backbone, runtime::Engine* expert_engine,
                                   const runtime::ExpertInfo& expert) {
  backbone_ = backbone;
  expert_ = expert_engine;
  return backbone->AddReplica(expert, this);
}

void LoopbackLink::Cut() {
  if (cut_.exchange(true)) return;
  backbone_->RemoveReplica(this, absl::UnavailableError("the expert is gone"));
  expert_->DetachListener(this);
}

int LoopbackLink::CreditRows() const { return credit_rows_ - in_flight_; }

void LoopbackLink::OpenSession(runtime::SessionId session, const runtime::RemoteSpec& spec) {
  if (!cut_) expert_->OpenRemote(session, spec, this);
}

void LoopbackLink::Send(std::vector<runtime::HiddenRows> rows) {
  int count = 0;
  for (const runtime::HiddenRows& item : rows) count += static_cast<int>(item.tokens.size());
  max_in_flight_ = std::max<int>(max_in_flight_, in_flight_ += count);
  if (!cut_) expert_->FeedRows(this, std::move(rows));
}

void LoopbackLink::CloseSession(runtime::SessionId session) {
  if (!cut_) expert_->CloseRemote(this, session);
}

void LoopbackLink::OnOpened(runtime::SessionId session, const absl::Status& status) {
  if (!cut_) backbone_->RemoteOpened(this, session, status);
}

void LoopbackLink::OnResults(std::vector<runtime::RemoteResult> results) {
  if (!cut_) backbone_->RemoteResults(this, std::move(results));
}

void LoopbackLink::OnFailed(runtime::SessionId session, const absl::Status& status) {
  if (!cut_) backbone_->RemoteFailed(this, session, status);
}

void LoopbackLink::OnConsumed(int rows) {
  in_flight_ -= rows;
  if (!cut_) backbone_->LinkReady(this);
}

}  // namespace ccoe::testing
