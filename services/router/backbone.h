#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/model/expert_package.h"
#include "common/runtime/engine.h"
#include "common/runtime/prompt.h"
#include "common/runtime/session.h"

namespace ccoe::router {

// The base model as clients see it.
struct ModelDescription {
  std::string name;
  std::string digest;
  std::string family;
  int layers = 0;
  int backbone_layers = 0;  // that the backbone itself computes; all where it is in this process
  int hidden = 0;
  int vocab = 0;
  int context_tokens = 0;  // of prompt and answer together
  std::string arithmetic;
  std::string chat_template;  // "unknown": none
};

// An expert that a backbone can end a session with, and what the gate must know of it.
struct CatalogEntry {
  runtime::ExpertInfo info;
  // Null for `general`. A remote backbone sends the text of expert.json; it is parsed with
  // model::ParseExpertManifest.
  std::shared_ptr<const model::ExpertManifest> manifest;
  // Of the requests that leave the choice of a version, this one's part is in proportion to the
  // weights of the others (ChooseVersion).
  int weight = 0;
  // Requests that were decided for it and have not ended; null where nobody asks.
  std::shared_ptr<std::atomic<int>> active_requests;
  // Keeps the expert where it is served for as long as a catalog lists it, and so for every request
  // that was resolved by one; null where that is not this process's business.
  std::shared_ptr<const void> lease;
  // The expert processes that serve it and are connected, by address.
  std::vector<std::string> nodes;
};

// An expert process, whatever it serves.
struct ExpertProcess {
  std::string address;
  int layer_begin = 0;                      // the first that it computes
  std::vector<runtime::ExpertKey> experts;  // of one that is away those that it had
};

// What a backbone can do and do with whom; immutable, replaced as a whole when anything changes.
struct Catalog {
  ModelDescription model;
  std::vector<CatalogEntry> experts;  // `general` included
  // Of a backbone elsewhere: what it serves itself, and the expert processes that are connected and
  // those that are not.
  std::vector<runtime::ExpertKey> backbone_experts;
  std::vector<ExpertProcess> processes;
  std::vector<ExpertProcess> absent_processes;
};

struct TokenPiece {
  int32_t id = 0;
  std::string bytes;  // empty for control tokens
};

// One request, once the gate has looked at its text.
struct SessionRequest {
  std::string request_id;
  std::string traceparent;      // W3C trace context to pass on; may be empty
  runtime::SessionInput input;  // with a continuation: score it, and generate nothing
  // Without a name: the gate asks for the prompt's state after `routing_layer` layers; the
  // listener's OnRouteState brings it, and Decide is to follow.
  runtime::ExpertKey expert;
  int routing_layer = 0;
  runtime::Flow flow;
  std::string cache_salt;  // as of runtime::SessionSpec
  runtime::SamplingParams sampling;
  runtime::StopConditions stop;  // max_tokens is cut to what the context leaves
  absl::Time queue_deadline = absl::InfiniteFuture();
};

// The router's view of what computes: an engine in its own process, or a backbone process behind a
// link. Thread-safe; no method blocks on the network.
class Backbone {
 public:
  virtual ~Backbone() = default;

  // Null until the backbone was reached for the first time; then what was last known.
  virtual std::shared_ptr<const Catalog> GetCatalog() const = 0;
  // OK when sessions can be opened; otherwise why not (UNAVAILABLE).
  virtual absl::Status Health() const = 0;
  virtual runtime::EngineStats Stats() const = 0;
  // Whether this process computes: then the memory in Stats is its own.
  virtual bool IsInThisProcess() const = 0;
  // Where the process is that computes; empty for this one.
  virtual std::string Address() const = 0;
  // The bytes of a token; empty for control tokens and where the backbone does not tell.
  virtual std::string TokenBytes(int32_t id) const = 0;

  // Calls `done` once, on any thread, perhaps before it returns. Errors as of EncodePrompt;
  // UNAVAILABLE when the backbone is not reached by `deadline`.
  virtual void Tokenize(runtime::PromptInput input, absl::Time deadline,
                        std::function<void(absl::StatusOr<std::vector<TokenPiece>>)> done) = 0;

  // Opens a session; the id is this backbone object's own. An error is returned here, and then
  // `listener` is not called, or comes later through OnFailed. Listener calls may come on any
  // thread, one at a time, and may begin before Open returns. INVALID_ARGUMENT with PROMPT_TOO_LONG
  // and both counts for a prompt that leaves no room for an answer. `listener` lives until
  // OnFinished or OnFailed returned.
  virtual absl::StatusOr<runtime::SessionId> Open(SessionRequest request,
                                                  runtime::SessionListener* listener) = 0;
  // As of runtime::Engine; nothing for a session that has ended.
  virtual void Decide(runtime::SessionId session, runtime::ExpertKey expert) = 0;
  virtual void Cancel(runtime::SessionId session, absl::Status why) = 0;
  virtual void Pause(runtime::SessionId session) = 0;
  virtual void Resume(runtime::SessionId session) = 0;
};

}  // namespace ccoe::router
