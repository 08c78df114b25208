#include "services/router/generation_service.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "ccoe/v1/generation_service.grpc.pb.h"
#include "common/base/status_macros.h"
#include "services/router/catalog.h"
#include "services/router/stream_call.h"
#include "services/router/unary_call.h"

namespace ccoe::router {
namespace {

uint64_t FreshSeed() {
  thread_local std::mt19937_64 engine{std::random_device{}()};
  return engine();
}

// Ends a call that has no session.
void FinishSimple(grpc::CallbackServerContext* context, grpc::ServerUnaryReactor* reactor,
                  const absl::Status& status) {
  if (!status.ok()) rpc::AddErrorTrailers(status, *context);
  reactor->Finish(rpc::ToGrpcStatus(status));
}

class GenerationService final : public v1::GenerationService::CallbackService {
 public:
  explicit GenerationService(RouterCore* core) : core_(*core) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context,
                                     const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) override {
    return UnaryCall::Start(std::make_shared<GenerateCall>(&core_, context, response),
                            ParseGenerate(*request, core_.limits(), FreshSeed()));
  }

  grpc::ServerWriteReactor<v1::GenerateStreamResponse>* GenerateStream(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override {
    return StreamCall::Start(&core_, context, *request, FreshSeed());
  }

  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context,
                                  const v1::ScoreRequest* request,
                                  v1::ScoreResponse* response) override {
    return UnaryCall::Start(std::make_shared<ScoreCall>(&core_, context, response),
                            ParseScore(*request, core_.limits()));
  }

  grpc::ServerUnaryReactor* Route(grpc::CallbackServerContext* context,
                                  const v1::RouteRequest* request,
                                  v1::RouteResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const CallInfo info = ReadCallInfo("Route", core_.keys(), *context);
    absl::StatusOr<ParsedRequest> parsed = ParseRoute(*request);
    if (!info.caller.ok() || !parsed.ok()) {
      FinishSimple(context, reactor, info.caller.ok() ? parsed.status() : info.caller.status());
      return reactor;
    }
    parsed->routing.draw = DrawOf(info.request_id);
    const auto done = [=](absl::StatusOr<Resolved> resolved) {
      if (resolved.ok()) *response = RouteResponseProto(*resolved);
      FinishSimple(context, reactor, resolved.status());
    };
    core_.Classify(*parsed, *info.caller, SessionOf(info), SimpleDeadline(info), done);
    return reactor;
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override {
    return WithTokens("Tokenize", context, ParseTokenize(*request),
                      [response](const std::vector<TokenPiece>& pieces) {
                        for (const TokenPiece& piece : pieces) {
                          v1::Token& token = *response->add_tokens();
                          token.set_id(piece.id);
                          token.set_token(piece.bytes);
                        }
                      });
  }

  grpc::ServerUnaryReactor* CountTokens(grpc::CallbackServerContext* context,
                                        const v1::CountTokensRequest* request,
                                        v1::CountTokensResponse* response) override {
    return WithTokens("CountTokens", context, ParseCountTokens(*request),
                      [this, response](const std::vector<TokenPiece>& pieces) {
                        response->set_tokens(static_cast<int>(pieces.size()));
                        response->set_max_prompt_tokens(core_.MaxPromptTokens());
                      });
  }

 private:
  absl::Time SimpleDeadline(const CallInfo& info) const {
    return std::min(info.deadline, absl::Now() + core_.limits().max_request_time);
  }

  // Tokenizes an input and lets `fill` write the response.
  template <typename FillFunction>
  grpc::ServerUnaryReactor* WithTokens(const char* method, grpc::CallbackServerContext* context,
                                       absl::StatusOr<ParsedInput> parsed, FillFunction fill) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const CallInfo info = ReadCallInfo(method, core_.keys(), *context);
    if (!info.caller.ok() || !parsed.ok()) {
      FinishSimple(context, reactor, info.caller.ok() ? parsed.status() : info.caller.status());
      return reactor;
    }
    core_.backbone().Tokenize(
        std::move(parsed->prompt), SimpleDeadline(info),
        [context, reactor, fill](absl::StatusOr<std::vector<TokenPiece>> pieces) {
          if (pieces.ok()) fill(*pieces);
          FinishSimple(context, reactor, pieces.status());
        });
    return reactor;
  }

  RouterCore& core_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewGenerationService(RouterCore* core) {
  return std::make_unique<GenerationService>(core);
}

}  // namespace ccoe::router
