#include <utility>

#include "services/gateway/handlers.h"
#include "services/gateway/http_error.h"

namespace ccoe::gateway {
namespace {

constexpr char kIdPrefix[] = "chatcmpl-";

void AnswerWhole(HandlerContext& context, const std::shared_ptr<Exchange>& exchange,
                 v1::GenerateRequest request) {
  const auto call = context.router.Generate(
      exchange->request(), request,
      [exchange, request](const absl::StatusOr<v1::GenerateResponse>& answer) {
        if (!answer.ok()) return exchange->Respond(ErrorResponse(answer.status()));
        const AnswerIdentity identity =
            IdentityOf(exchange->request(), kIdPrefix, "chat.completion");
        RespondJson(*exchange, ChatAnswer(identity, *answer, request));
      });
  exchange->OnClosed([call] { call->Cancel(); });
}

}  // namespace

void HandleChat(HandlerContext& context, std::shared_ptr<Exchange> exchange, const std::string&) {
  absl::StatusOr<ChatRequest> chat =
      ParseChatRequest(exchange->request().body, context.max_body_bytes);
  if (!chat.ok()) return exchange->Respond(ErrorResponse(chat.status()));
  const ModelName model = chat->model;
  ResolveModel(context, exchange, model,
               [&context, exchange, chat = *std::move(chat)](absl::StatusOr<Target> target) {
                 if (!target.ok()) return exchange->Respond(ErrorResponse(target.status()));
                 v1::GenerateRequest request = chat.generate;
                 SetTarget(*target, &request);
                 if (!chat.streaming.stream) return AnswerWhole(context, exchange, request);
                 ChunkWriter::Options options;
                 options.kind = ChunkWriter::Kind::kChat;
                 options.identity =
                     IdentityOf(exchange->request(), kIdPrefix, "chat.completion.chunk");
                 options.include_usage = chat.streaming.include_usage;
                 options.logprobs = request.output().has_top_logprobs();
                 StreamAnswer(context, exchange, std::move(request), std::move(options));
               });
}

}  // namespace ccoe::gateway
