#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/error.h"
#include "services/gateway/handlers.h"
#include "services/gateway/http_error.h"

namespace ccoe::gateway {
namespace {

absl::StatusOr<Target> FindVersion(const v1::ListExpertsResponse& experts, const ModelName& model) {
  for (const v1::Expert& expert : experts.experts()) {
    if (expert.domain() != model.domain || expert.version() != model.version) continue;
    Target target;
    target.expert.set_name(expert.name());
    target.expert.set_version(expert.version());
    return target;
  }
  return base::MakeError(
      base::Reason::kUnknownExpert,
      absl::StrCat("no expert of the domain ", model.domain, " has the version ", model.version),
      {.metadata = {{"param", "model"}}, .retry_after = std::nullopt});
}

// A stream from the router to a client.
class StreamOperation : public std::enable_shared_from_this<StreamOperation> {
 public:
  StreamOperation(std::shared_ptr<Exchange> exchange, ChunkWriter::Options options)
      : exchange_(std::move(exchange)), writer_(std::move(options)) {}

  void Start(RouterClient& router, v1::GenerateRequest request) {
    call_ = router.GenerateStream(
        exchange_->request(), std::move(request),
        [self = shared_from_this()](const v1::GenerateStreamResponse& event) {
          return self->OnEvent(event);
        },
        [self = shared_from_this()](const absl::Status& status) { self->OnEnd(status); });
    exchange_->OnRoom([call = call_] { call->Resume(); });
    exchange_->OnClosed([call = call_] { call->Cancel(); });
  }

 private:
  RouterClient::Next OnEvent(const v1::GenerateStreamResponse& event) {
    if (event.has_started()) {
      started_ = true;
      exchange_->StartStream();
    }
    exchange_->Write(writer_.Take(event));
    finished_ = event.has_finished();
    return exchange_->Full() ? RouterClient::Next::kPause : RouterClient::Next::kRead;
  }

  void OnEnd(absl::Status status) {
    if (status.ok() && !finished_) {
      status = base::MakeError(base::Reason::kInternal, "the answer broke off");
    }
    if (!status.ok() && !started_) return exchange_->Respond(ErrorResponse(status));
    if (!status.ok()) exchange_->Write(ServerSentEvent(ErrorJson(status)));
    exchange_->EndStream();
  }

  const std::shared_ptr<Exchange> exchange_;
  ChunkWriter writer_;
  std::shared_ptr<Call> call_;
  bool started_ = false;
  bool finished_ = false;
};

}  // namespace

void ResolveModel(HandlerContext& context, const std::shared_ptr<Exchange>& exchange,
                  const ModelName& model, std::function<void(absl::StatusOr<Target>)> done) {
  if (model.version.empty()) return done(Target{model.domain, {}});
  const auto call = context.router.ListExperts(
      exchange->request(),
      [model, done = std::move(done)](const absl::StatusOr<v1::ListExpertsResponse>& experts) {
        if (!experts.ok()) return done(experts.status());
        done(FindVersion(*experts, model));
      });
  exchange->OnClosed([call] { call->Cancel(); });
}

void StreamAnswer(HandlerContext& context, const std::shared_ptr<Exchange>& exchange,
                  v1::GenerateRequest request, ChunkWriter::Options options) {
  std::make_shared<StreamOperation>(exchange, std::move(options))
      ->Start(context.router, std::move(request));
}

AnswerIdentity IdentityOf(const HttpRequest& request, const char* prefix, const char* object) {
  return {absl::StrCat(prefix, request.request_id), object, absl::ToUnixSeconds(absl::Now())};
}

void RespondJson(Exchange& exchange, const nlohmann::ordered_json& json) {
  HttpResponse response;
  response.body = Dump(json);
  exchange.Respond(std::move(response));
}

}  // namespace ccoe::gateway
