#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/error.h"
#include "common/rpc/answer_json.h"
#include "common/rpc/proto_time.h"
#include "services/gateway/handlers.h"
#include "services/gateway/http_error.h"

namespace ccoe::gateway {
namespace {

using Json = nlohmann::ordered_json;

// Everything that a request's `model` may be: auto, every domain, every version of it.
std::set<std::string> ModelNames(const v1::ListExpertsResponse& experts) {
  std::set<std::string> names = {"auto"};
  for (const v1::Expert& expert : experts.experts()) {
    if (expert.state() != v1::EXPERT_STATE_READY && expert.state() != v1::EXPERT_STATE_UNAVAILABLE)
      continue;
    names.insert(expert.domain());
    names.insert(absl::StrCat(expert.domain(), "@", expert.version()));
  }
  return names;
}

Json ModelJson(const std::string& name) {
  return {{"id", name}, {"object", "model"}, {"created", 0}, {"owned_by", "ccoe"}};
}

Json ModelInfoJson(const v1::ModelInfo& model) {
  return {{"name", model.name()},
          {"digest", model.digest()},
          {"family", model.family()},
          {"layers", model.layers()},
          {"hidden_size", model.hidden_size()},
          {"vocab_size", model.vocab_size()},
          {"context_tokens", model.context_tokens()},
          {"arithmetic", model.arithmetic()},
          {"chat_template", model.chat_template()}};
}

Json ServerInfoJson(const v1::GetServerInfoResponse& server) {
  return {{"version", server.version()},
          {"started_at_s", server.started_at().seconds()},
          {"max_message_bytes", server.max_message_bytes()},
          {"max_prompt_tokens", server.max_prompt_tokens()},
          {"max_output_tokens", server.max_output_tokens()},
          {"max_queue_time_ms", rpc::Milliseconds(server.max_queue_time())},
          {"max_request_time_ms", rpc::Milliseconds(server.max_request_time())}};
}

// Calls `answer` with the result of a lookup, or responds with its error.
template <typename Response, typename Answer>
RouterClient::Done<Response> OrError(std::shared_ptr<Exchange> exchange, Answer answer) {
  return [exchange = std::move(exchange),
          answer = std::move(answer)](const absl::StatusOr<Response>& response) {
    if (!response.ok()) return exchange->Respond(ErrorResponse(response.status()));
    answer(*response);
  };
}

}  // namespace

void HandleListModels(HandlerContext& context, std::shared_ptr<Exchange> exchange,
                      const std::string&) {
  context.router.ListExperts(
      exchange->request(),
      OrError<v1::ListExpertsResponse>(exchange, [exchange](const auto& experts) {
        Json data = Json::array();
        for (const std::string& name : ModelNames(experts)) data.push_back(ModelJson(name));
        RespondJson(*exchange, {{"object", "list"}, {"data", std::move(data)}});
      }));
}

void HandleGetModel(HandlerContext& context, std::shared_ptr<Exchange> exchange,
                    const std::string& id) {
  context.router.ListExperts(
      exchange->request(),
      OrError<v1::ListExpertsResponse>(exchange, [exchange, id](const auto& experts) {
        if (ModelNames(experts).contains(id)) return RespondJson(*exchange, ModelJson(id));
        exchange->Respond(ErrorResponse(
            base::MakeError(base::Reason::kUnknownDomain, absl::StrCat("there is no model ", id),
                            {.metadata = {{"param", "model"}}, .retry_after = std::nullopt})));
      }));
}

void HandleRoute(HandlerContext& context, std::shared_ptr<Exchange> exchange, const std::string&) {
  absl::StatusOr<v1::RouteRequest> request =
      ParseRouteRequest(exchange->request().body, context.max_body_bytes);
  if (!request.ok()) return exchange->Respond(ErrorResponse(request.status()));
  const auto call = context.router.Route(
      exchange->request(), *std::move(request),
      OrError<v1::RouteResponse>(exchange, [exchange](const v1::RouteResponse& response) {
        RespondJson(*exchange, rpc::RouteResponseJson(response));
      }));
  exchange->OnClosed([call] { call->Cancel(); });
}

void HandleStatus(HandlerContext& context, std::shared_ptr<Exchange> exchange, const std::string&) {
  const auto json = std::make_shared<Json>();
  const auto with_server = [exchange, json](const v1::GetServerInfoResponse& server) {
    (*json)["server"] = ServerInfoJson(server);
    RespondJson(*exchange, *json);
  };
  const auto with_model = [&context, exchange, json,
                           with_server](const v1::GetModelResponse& model) {
    (*json)["model"] = ModelInfoJson(model.model());
    context.router.GetServerInfo(exchange->request(),
                                 OrError<v1::GetServerInfoResponse>(exchange, with_server));
  };
  context.router.ListExperts(
      exchange->request(), OrError<v1::ListExpertsResponse>(
                               exchange, [&context, exchange, json, with_model](const auto& list) {
                                 Json& experts = (*json)["experts"] = Json::array();
                                 for (const v1::Expert& expert : list.experts()) {
                                   experts.push_back(rpc::ExpertJson(expert));
                                 }
                                 context.router.GetModel(
                                     exchange->request(),
                                     OrError<v1::GetModelResponse>(exchange, with_model));
                               }));
}

void HandleHealth(HandlerContext& context, std::shared_ptr<Exchange> exchange, const std::string&) {
  context.router.CheckHealth(exchange->request(), [exchange](const absl::Status& status) {
    if (!status.ok()) return exchange->Respond(ErrorResponse(status));
    RespondJson(*exchange, {{"status", "ok"}});
  });
}

}  // namespace ccoe::gateway
