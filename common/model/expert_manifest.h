#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/regex.h"

namespace ccoe::model {

enum class ExpertKind {
  kLora,  // a low-rank adapter over layers [attach_depth, layers) of the base model
  kFull,  // layers [attach_depth, layers) of its own
};

struct GateKeyword {
  std::string text;  // matched as a whole word, without regard to ASCII case
  double weight = 0;
};

struct GatePattern {
  std::string regex;  // PCRE2, with UTF and UCP
  double weight = 0;
  std::shared_ptr<const Regex> compiled;  // never null in a loaded package
};

// A prompt's score is the sum of the weights of the keywords and patterns found in it (each counted
// once); the rules claim the prompt when the score reaches the threshold.
struct GateRules {
  double threshold = 1;
  std::vector<GateKeyword> keywords;
  std::vector<GatePattern> patterns;
};

// This expert's row of the linear gate over the backbone's pooled state: the logistic function of
// weights . state + bias is the probability that a prompt is its domain's.
struct GateRow {
  int routing_layer = 0;       // layers below the state: at least 1, at most attach_depth
  std::vector<float> weights;  // [hidden]
  float bias = 0;
  float threshold = 0;  // the probability from which it claims a prompt, in (0, 1)
};

// A greedy prompt with the tokens it is to give under a named arithmetic.
struct ExpertExample {
  std::string prompt;
  std::string arithmetic;
  int max_tokens = 0;
  std::vector<int32_t> token_ids;
};

struct ExpertSource {
  std::string name;
  std::string licence;
};

struct ExpertBase {
  std::string name;
  std::string digest;         // of the whole base model; may be empty in full packages
  std::string prefix_digest;  // of the base model's layers [0, attach_depth); may be empty
};

// The contents of expert.json (docs/expert-packages.md).
struct ExpertManifest {
  std::string name;
  std::string version;
  std::string domain;
  std::string description;
  ExpertKind kind = ExpertKind::kLora;
  int attach_depth = 0;
  ExpertBase base;
  std::string weights;  // file name inside the package
  GateRules rules;
  std::optional<GateRow> row;
  std::vector<ExpertExample> examples;
  std::string licence;
  std::vector<ExpertSource> sources;
  std::string scores_json;  // an object, as compact JSON
};

// Parses and checks an expert.json. INVALID_ARGUMENT names the member that is wrong; `where` begins
// every message.
absl::StatusOr<ExpertManifest> ParseExpertManifest(std::string_view json, std::string_view where);

}  // namespace ccoe::model
