#include <memory>
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

Json NodeJson(const v1::Node& node) {
  Json json = {{"role", rpc::RoleName(node.role())}, {"address", node.address()},
               {"healthy", node.healthy()},          {"message", node.message()},
               {"experts", Json::array()},           {"load", nullptr}};
  for (const v1::ServedExpert& expert : node.experts()) {
    json["experts"].push_back({{"name", expert.name()},
                               {"version", expert.version()},
                               {"domain", expert.domain()},
                               {"active_requests", expert.active_requests()}});
  }
  if (node.has_load()) {
    json["load"] = {{"sessions_running", node.load().sessions_running()},
                    {"sessions_waiting", node.load().sessions_waiting()},
                    {"kv_blocks_total", node.load().kv_blocks_total()},
                    {"kv_blocks_used", node.load().kv_blocks_used()}};
  }
  return json;
}

Json StatusJson(const v1::GetStatusResponse& status) {
  Json json = {{"started_at_s", status.started_at().seconds()},
               {"active_requests", status.active_requests()},
               {"prompt_tokens", status.prompt_tokens()},
               {"cached_tokens", status.cached_tokens()},
               {"generated_tokens", status.generated_tokens()},
               {"nodes", Json::array()}};
  for (const v1::Node& node : status.nodes()) json["nodes"].push_back(NodeJson(node));
  return json;
}

// The lookups behind GET /v1/ccoe/status, one after the other. What a router cannot tell while its
// backbone is away is null.
class StatusLookup : public std::enable_shared_from_this<StatusLookup> {
 public:
  StatusLookup(RouterClient& router, std::shared_ptr<Exchange> exchange)
      : router_(router), exchange_(std::move(exchange)) {}

  void Start() {
    Watch(router_.GetStatus(exchange_->request(), [self = shared_from_this()](const auto& status) {
      if (!status.ok()) return self->exchange_->Respond(ErrorResponse(status.status()));
      self->json_ = StatusJson(*status);
      self->AddExperts();
    }));
  }

 private:
  // Ends the lookup where the client leaves.
  void Watch(const std::shared_ptr<Call>& call) {
    exchange_->OnClosed([self = shared_from_this(), call] {
      self->left_ = true;
      call->Cancel();
    });
  }
  void AddExperts() {
    if (left_) return;
    Watch(router_.ListExperts(exchange_->request(), [self = shared_from_this()](const auto& list) {
      Json& experts = self->json_["experts"];
      if (list.ok()) {
        experts = Json::array();
        for (const v1::Expert& expert : list->experts()) experts.push_back(rpc::ExpertJson(expert));
      }
      self->AddModel();
    }));
  }
  void AddModel() {
    if (left_) return;
    Watch(router_.GetModel(exchange_->request(), [self = shared_from_this()](const auto& model) {
      self->json_["model"] = model.ok() ? ModelInfoJson(model->model()) : Json();
      self->AddServer();
    }));
  }
  void AddServer() {
    if (left_) return;
    Watch(router_.GetServerInfo(exchange_->request(),
                                [self = shared_from_this()](const auto& server) {
                                  if (!server.ok())
                                    return self->exchange_->Respond(ErrorResponse(server.status()));
                                  self->json_["server"] = ServerInfoJson(*server);
                                  RespondJson(*self->exchange_, self->json_);
                                }));
  }

  RouterClient& router_;
  const std::shared_ptr<Exchange> exchange_;
  Json json_;
  bool left_ = false;
};

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
  const auto call = context.router.ListExperts(
      exchange->request(),
      OrError<v1::ListExpertsResponse>(exchange, [exchange](const auto& experts) {
        Json data = Json::array();
        for (const std::string& name : ModelNames(experts)) data.push_back(ModelJson(name));
        RespondJson(*exchange, {{"object", "list"}, {"data", std::move(data)}});
      }));
  exchange->OnClosed([call] { call->Cancel(); });
}

void HandleGetModel(HandlerContext& context, std::shared_ptr<Exchange> exchange,
                    const std::string& id) {
  const auto call = context.router.ListExperts(
      exchange->request(),
      OrError<v1::ListExpertsResponse>(exchange, [exchange, id](const auto& experts) {
        if (ModelNames(experts).contains(id)) return RespondJson(*exchange, ModelJson(id));
        exchange->Respond(ErrorResponse(
            base::MakeError(base::Reason::kUnknownDomain, absl::StrCat("there is no model ", id),
                            {.metadata = {{"param", "model"}}, .retry_after = std::nullopt})));
      }));
  exchange->OnClosed([call] { call->Cancel(); });
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
  std::make_shared<StatusLookup>(context.router, std::move(exchange))->Start();
}

void HandleHealth(HandlerContext& context, std::shared_ptr<Exchange> exchange, const std::string&) {
  const auto call =
      context.router.CheckHealth(exchange->request(), [exchange](const absl::Status& status) {
        if (!status.ok()) return exchange->Respond(ErrorResponse(status));
        RespondJson(*exchange, {{"status", "ok"}});
      });
  exchange->OnClosed([call] { call->Cancel(); });
}

}  // namespace ccoe::gateway
