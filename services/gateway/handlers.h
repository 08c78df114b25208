#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/v1/generation_service.pb.h"
#include "services/gateway/exchange.h"
#include "services/gateway/openai_answer.h"
#include "services/gateway/openai_request.h"
#include "services/gateway/router_client.h"

namespace ccoe::gateway {

// What handlers need besides the request. Outlives every exchange.
struct HandlerContext {
  RouterClient& router;
  size_t max_body_bytes = 0;
};

// Answers a request, perhaps after calls to the router; on the loop's thread. `rest` is what the
// path has in the place of its route's variable, decoded.
using Handler = void (*)(HandlerContext& context, std::shared_ptr<Exchange> exchange,
                         const std::string& rest);

void HandleChat(HandlerContext& context, std::shared_ptr<Exchange> exchange, const std::string&);
void HandleCompletion(HandlerContext& context, std::shared_ptr<Exchange> exchange,
                      const std::string&);
void HandleListModels(HandlerContext& context, std::shared_ptr<Exchange> exchange,
                      const std::string&);
void HandleGetModel(HandlerContext& context, std::shared_ptr<Exchange> exchange,
                    const std::string& id);
void HandleRoute(HandlerContext& context, std::shared_ptr<Exchange> exchange, const std::string&);
void HandleStatus(HandlerContext& context, std::shared_ptr<Exchange> exchange, const std::string&);
void HandleHealth(HandlerContext& context, std::shared_ptr<Exchange> exchange, const std::string&);

// Parts of handlers.

// Whom a request's `model` stands for, as a target of the public API.
struct Target {
  std::string domain;    // of those two at most one is set; none: the gate decides
  v1::ExpertRef expert;  // set where it has a name
};
// Calls `done` with NOT_FOUND where no expert of the domain has the version; a domain that nobody
// serves is the router's to refuse.
void ResolveModel(HandlerContext& context, const std::shared_ptr<Exchange>& exchange,
                  const ModelName& model, std::function<void(absl::StatusOr<Target>)> done);
template <typename Request>
void SetTarget(const Target& target, Request* request) {
  if (!target.domain.empty()) request->set_domain(target.domain);
  if (!target.expert.name().empty()) *request->mutable_expert() = target.expert;
}

// Streams an answer as server-sent events. What fails before its first event is a plain error;
// later it is told in the stream, which then ends without [DONE]. A client that reads slowly holds
// the router's stream back, one that leaves cancels it.
void StreamAnswer(HandlerContext& context, const std::shared_ptr<Exchange>& exchange,
                  v1::GenerateRequest request, ChunkWriter::Options options);

// The identity of the answer to a request; `prefix` as "chatcmpl-".
AnswerIdentity IdentityOf(const HttpRequest& request, const char* prefix, const char* object);

void RespondJson(Exchange& exchange, const nlohmann::ordered_json& json);

}  // namespace ccoe::gateway
