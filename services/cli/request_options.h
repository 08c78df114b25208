#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ccoe/v1/generation_service.pb.h"

namespace CLI {
class App;
class Validator;
}  // namespace CLI

namespace ccoe::cli {

// What `generate` and `chat` ask for. What is not given stays unset: the server's default applies.
struct RequestOptions {
  std::string domain;
  std::string expert;  // NAME or NAME@VERSION
  std::string system;
  std::optional<int> max_tokens;
  std::optional<float> temperature;
  std::optional<int> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  double timeout_seconds = 600;

  absl::Duration timeout() const { return absl::Seconds(timeout_seconds); }
};

// Refuses an option's value unless `inside` is true of it; `range` is how a message writes it.
CLI::Validator NumberIn(const char* range, bool (*inside)(double));

// --domain, --expert, --system, --max-tokens, --temperature and so on.
void AddRequestOptions(CLI::App* command, RequestOptions* options);

// Target, sampling, stop conditions and output of a request; no input yet.
v1::GenerateRequest RequestFrom(const RequestOptions& options);

// NAME or NAME@VERSION.
v1::ExpertRef ExpertRefFrom(const std::string& text);

// The prompt as it was given, or all of standard input for "-" (one newline at its end is dropped).
// INVALID_ARGUMENT when it is empty or not UTF-8.
absl::StatusOr<std::string> ReadPrompt(const std::string& argument);

bool IsUtf8(absl::string_view text);

}  // namespace ccoe::cli
