#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/tensor_view.h"
#include "common/model/model.h"
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

// This expert's row of the linear gate over the backbone's pooled state.
struct GateRow {
  int routing_layer = 0;  // at most attach_depth
  std::vector<float> weights;
  float bias = 0;
  float threshold = 0;
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
  std::string digest;         // of the whole base model; empty when only the prefix is pinned
  std::string prefix_digest;  // full packages: of the base model's layers [0, attach_depth)
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
  std::string scores_json;  // an object, verbatim
};

// Parses and checks an expert.json; `where` begins every message.
absl::StatusOr<ExpertManifest> ParseExpertManifest(std::string_view json, std::string_view where);

// One projection's adapter: y += scale * B (A x).
struct LoraPair {
  base::TensorView a;  // [rank, inputs]
  base::TensorView b;  // [outputs, rank]
  float scale = 1;
};

// A domain's own upper layers: an expert.json and its weights. Immutable, thread-safe; views are
// valid as long as it lives.
class ExpertPackage {
 public:
  // NOT_FOUND: no expert.json there. INVALID_ARGUMENT: it or the weights are wrong; the message
  // names the file and what to change.
  static absl::StatusOr<std::shared_ptr<const ExpertPackage>> Load(const std::string& folder);
  ~ExpertPackage();
  ExpertPackage(const ExpertPackage&) = delete;
  ExpertPackage& operator=(const ExpertPackage&) = delete;

  // OK when this expert may be attached to `model`: the base's digest is the pinned one, the depth
  // and every tensor fit. FAILED_PRECONDITION says why not.
  absl::Status CheckAgainst(const Model& model) const;

  const ExpertManifest& manifest() const;
  const std::string& folder() const;
  // "sha256:<hex>" over the manifest's bytes and the weights (docs/expert-packages.md).
  const std::string& digest() const;
  size_t weight_bytes() const;

  // The adapter of `module` (q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj) of
  // `layer`; nullopt where it has none, and for full packages.
  std::optional<LoraPair> Lora(int layer, std::string_view module) const;
  // A tensor of a full package by its Hugging Face name; nullopt where it has none
  // (model.norm.weight and lm_head.weight are optional: the base model's then apply), and for LoRA
  // packages.
  std::optional<base::TensorView> Tensor(std::string_view hf_name) const;

 private:
  struct State;
  explicit ExpertPackage(std::unique_ptr<const State> state);
  std::unique_ptr<const State> state_;
};

// Every package in the folders directly under `folder` that hold an expert.json, by name and
// version. Fails on the first package that fails, and when two have the same name and version.
absl::StatusOr<std::vector<std::shared_ptr<const ExpertPackage>>> LoadExpertFolder(
    const std::string& folder);

}  // namespace ccoe::model
