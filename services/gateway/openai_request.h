#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "ccoe/v1/generation_service.pb.h"
#include "ccoe/v1/types.pb.h"

// OpenAI's requests as those of the public API (docs/http.md). Pure functions. Errors are those of
// InvalidParam and UnsupportedParam; what the router checks (ranges of numbers, the order of roles)
// is left to it.
namespace ccoe::gateway {

// What a request's `model` names.
struct ModelName {
  std::string domain;   // empty: "auto", the gate decides
  std::string version;  // empty: any
};

// "auto", "DOMAIN" or "DOMAIN@VERSION".
absl::StatusOr<ModelName> ParseModelName(std::string_view text);

struct StreamOptions {
  bool stream = false;
  bool include_usage = false;
};

// POST /v1/chat/completions.
struct ChatRequest {
  ModelName model;
  StreamOptions streaming;
  v1::GenerateRequest generate;  // without its target
};
absl::StatusOr<ChatRequest> ParseChatRequest(std::string_view body, size_t max_bytes);

// A prompt of /v1/completions.
struct Prompt {
  std::string text;  // empty: tokens
  std::vector<int32_t> token_ids;
};

// POST /v1/completions.
struct CompletionRequest {
  ModelName model;
  StreamOptions streaming;
  std::vector<Prompt> prompts;  // at least one; one alone where it streams
  bool echo = false;
  v1::GenerateRequest generate;  // without its input and target
};
absl::StatusOr<CompletionRequest> ParseCompletionRequest(std::string_view body, size_t max_bytes);

// POST /v1/ccoe/route.
absl::StatusOr<v1::RouteRequest> ParseRouteRequest(std::string_view body, size_t max_bytes);

}  // namespace ccoe::gateway
