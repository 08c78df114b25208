#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/runtime/session.h"

namespace ccoe::runtime {

// Both ends of a link between an engine that owns lower layers (the backbone's) and one that owns
// an expert's upper layers, without the wire between them.

// What the expert's engine must know to run its part of a session.
struct RemoteSpec {
  std::string request_id;
  std::string traceparent;  // W3C trace context, or empty
  ExpertKey expert;
  std::string package_digest;  // pins the expert's package
  int attach_depth = 0;
  int max_positions = 0;  // positions that the session may come to use: blocks to reserve
  int prompt_tokens = 0;  // positions before the answer; presence and frequency count from there
  SamplingParams sampling;
};

enum class RowOutput : uint8_t {
  kNone,    // nothing is wanted of the rows' outputs
  kSample,  // sample the token after the last row
  kScore,   // log probability of each row's next token
};

// Consecutive rows of one session, at its attach depth.
struct HiddenRows {
  SessionId session = 0;  // the sender's id
  uint32_t epoch = 0;     // grows when a session is moved and replayed; stale replies are dropped
  int position = 0;       // absolute position of the first row
  RowOutput output = RowOutput::kNone;
  std::vector<int32_t> tokens;   // the token at each row's position: history for penalties
  std::vector<int32_t> targets;  // kScore: the next token of each row; -1 where none is wanted
  std::vector<float> states;     // [tokens.size(), hidden]
};

// The expert's answer to HiddenRows with an output.
struct RemoteResult {
  SessionId session = 0;
  uint32_t epoch = 0;
  std::vector<GeneratedToken> tokens;  // kSample: one; kScore: one per target that was wanted
};

// The backbone's end of a link to one replica of one expert. Methods are called on the engine's
// thread and never block; what they cause comes back through Engine::RemoteOpened, RemoteResults,
// RemoteFailed and RemoveReplica.
class RemoteExpert {
 public:
  virtual ~RemoteExpert() = default;
  // Rows that may be sent now; the engine schedules no more than that. Engine::LinkReady says that
  // it grew from what was too little.
  virtual int CreditRows() const = 0;
  virtual void OpenSession(SessionId session, const RemoteSpec& spec) = 0;
  // All rows that one step produced for this replica: one frame or a few.
  virtual void Send(std::vector<HiddenRows> rows) = 0;
  virtual void CloseSession(SessionId session) = 0;
  // After Engine::RetireReplica, once: no session comes here any more.
  virtual void Forget() = 0;
};

// The expert's end: receives what its engine produces for sessions opened by OpenRemote, on the
// engine's thread; must not block.
class RemoteListener {
 public:
  virtual ~RemoteListener() = default;
  virtual void OnOpened(SessionId session, const absl::Status& status) = 0;
  // All results of one step.
  virtual void OnResults(std::vector<RemoteResult> results) = 0;
  virtual void OnFailed(SessionId session, const absl::Status& status) = 0;
  // `rows` rows left the engine's input queue: credit to return.
  virtual void OnConsumed(int rows) = 0;
};

}  // namespace ccoe::runtime
