#include <algorithm>
#include <utility>
#include <vector>

#include "services/gateway/handlers.h"
#include "services/gateway/http_error.h"

namespace ccoe::gateway {
namespace {

constexpr char kIdPrefix[] = "cmpl-";
constexpr char kObject[] = "text_completion";

template <typename Request>
void SetPrompt(const Prompt& prompt, Request* request) {
  if (prompt.text.empty()) {
    auto& ids = *request->mutable_token_ids()->mutable_ids();
    ids.Add(prompt.token_ids.begin(), prompt.token_ids.end());
  } else {
    request->mutable_text()->set_text(prompt.text);
  }
}

// Answers every prompt of a request at once. Where the prompt is echoed, its log probabilities are
// those that the expert gives it which answered.
class CompletionOperation : public std::enable_shared_from_this<CompletionOperation> {
 public:
  CompletionOperation(HandlerContext& context, std::shared_ptr<Exchange> exchange,
                      CompletionRequest request, Target target)
      : context_(context),
        exchange_(std::move(exchange)),
        request_(std::move(request)),
        target_(std::move(target)),
        choices_(request_.prompts.size()),
        open_(request_.prompts.size()) {}

  void Start() {
    for (size_t i = 0; i < request_.prompts.size(); ++i) Generate(i);
    exchange_->OnClosed([self = shared_from_this()] { self->CancelAll(); });
  }

 private:
  const HttpRequest& http() const { return exchange_->request(); }
  bool WantsLogprobs() const { return request_.generate.output().has_top_logprobs(); }

  void Generate(size_t i) {
    v1::GenerateRequest generate = request_.generate;
    SetPrompt(request_.prompts[i], &generate);
    SetTarget(target_, &generate);
    calls_.push_back(context_.router.Generate(
        http(), std::move(generate),
        [self = shared_from_this(), i](absl::StatusOr<v1::GenerateResponse> answer) {
          if (!answer.ok()) return self->Fail(answer.status());
          self->OnGenerated(i, *std::move(answer));
        }));
  }

  void OnGenerated(size_t i, v1::GenerateResponse answer) {
    if (failed_) return;
    CompletionChoice& choice = choices_[i];
    choice.text = std::move(*answer.mutable_text());
    choice.logprobs.assign(answer.logprobs().begin(), answer.logprobs().end());
    choice.started = std::move(*answer.mutable_started());
    choice.finished = std::move(*answer.mutable_finished());
    request_.echo ? Tokenize(i) : OnChoice();
  }

  void Tokenize(size_t i) {
    v1::TokenizeRequest tokenize;
    SetPrompt(request_.prompts[i], &tokenize);
    calls_.push_back(context_.router.Tokenize(
        http(), std::move(tokenize),
        [self = shared_from_this(), i](const absl::StatusOr<v1::TokenizeResponse>& response) {
          if (!response.ok()) return self->Fail(response.status());
          self->Echo(i, *response);
        }));
  }

  void Echo(size_t i, const v1::TokenizeResponse& prompt) {
    if (failed_) return;
    CompletionChoice& choice = choices_[i];
    std::string text = request_.prompts[i].text;
    if (text.empty()) {
      for (const v1::Token& token : prompt.tokens()) text += token.token();
    }
    choice.text.insert(0, text);
    if (!WantsLogprobs()) return OnChoice();
    v1::TokenLogprob first;
    first.set_id(prompt.tokens(0).id());
    first.set_token(prompt.tokens(0).token());
    choice.first_has_none = true;
    choice.logprobs.insert(choice.logprobs.begin(), std::move(first));
    prompt.tokens_size() > 1 ? Score(i, prompt) : OnChoice();
  }

  void Score(size_t i, const v1::TokenizeResponse& prompt) {
    v1::ScoreRequest score;
    score.set_top_logprobs(request_.generate.output().top_logprobs());
    score.mutable_token_ids()->add_ids(prompt.tokens(0).id());
    for (int token = 1; token < prompt.tokens_size(); ++token) {
      score.mutable_continuation_ids()->add_ids(prompt.tokens(token).id());
    }
    const v1::RouteDecision& route = choices_[i].started.route();
    score.mutable_expert()->set_name(route.expert());
    score.mutable_expert()->set_version(route.version());
    calls_.push_back(context_.router.Score(
        http(), std::move(score),
        [self = shared_from_this(), i](const absl::StatusOr<v1::ScoreResponse>& response) {
          if (!response.ok()) return self->Fail(response.status());
          std::vector<v1::TokenLogprob>& logprobs = self->choices_[i].logprobs;
          logprobs.insert(logprobs.begin() + 1, response->tokens().begin(),
                          response->tokens().end());
          self->OnChoice();
        }));
  }

  void OnChoice() {
    if (--open_ > 0 || failed_) return;
    RespondJson(*exchange_, CompletionAnswer(IdentityOf(http(), kIdPrefix, kObject), choices_,
                                             WantsLogprobs()));
  }

  void Fail(const absl::Status& status) {
    if (failed_) return;
    failed_ = true;
    exchange_->Respond(ErrorResponse(status));
    CancelAll();
  }

  void CancelAll() {
    failed_ = true;
    for (const auto& call : calls_) call->Cancel();
  }

  HandlerContext& context_;
  const std::shared_ptr<Exchange> exchange_;
  const CompletionRequest request_;
  const Target target_;
  std::vector<CompletionChoice> choices_;
  std::vector<std::shared_ptr<Call>> calls_;
  size_t open_;  // choices that are not complete
  bool failed_ = false;
};

}  // namespace

void HandleCompletion(HandlerContext& context, std::shared_ptr<Exchange> exchange,
                      const std::string&) {
  absl::StatusOr<CompletionRequest> completion =
      ParseCompletionRequest(exchange->request().body, context.max_body_bytes);
  if (!completion.ok()) return exchange->Respond(ErrorResponse(completion.status()));
  const ModelName model = completion->model;
  ResolveModel(
      context, exchange, model,
      [&context, exchange, completion = *std::move(completion)](absl::StatusOr<Target> target) {
        if (!target.ok()) return exchange->Respond(ErrorResponse(target.status()));
        if (!completion.streaming.stream) {
          std::make_shared<CompletionOperation>(context, exchange, completion, *std::move(target))
              ->Start();
          return;
        }
        v1::GenerateRequest request = completion.generate;
        SetPrompt(completion.prompts.front(), &request);
        SetTarget(*target, &request);
        ChunkWriter::Options options;
        options.kind = ChunkWriter::Kind::kCompletion;
        options.identity = IdentityOf(exchange->request(), kIdPrefix, kObject);
        options.include_usage = completion.streaming.include_usage;
        options.logprobs = request.output().has_top_logprobs();
        StreamAnswer(context, exchange, std::move(request), std::move(options));
      });
}

}  // namespace ccoe::gateway
