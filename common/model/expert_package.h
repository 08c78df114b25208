#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/tensor_view.h"
#include "common/model/expert_manifest.h"
#include "common/model/model.h"
#include "common/model/tensor_table.h"

namespace ccoe::model {

// One projection's adapter: y += scale * B (A x).
struct LoraPair {
  base::TensorView a;  // [rank, inputs]
  base::TensorView b;  // [outputs, rank]
  float scale = 1;
};

// What is told while a package loads; either may be null.
struct ExpertLoadOptions {
  // Once, when expert.json is read and before the weights are.
  std::function<void(const ExpertManifest&)> on_manifest;
  // Again and again, after on_manifest: the part of the weights that is hashed, in [0, 1].
  std::function<void(double)> progress;
};

// A domain's own upper layers: an expert.json and its weights. Immutable, thread-safe; views are
// valid as long as it lives.
class ExpertPackage {
 public:
  // NOT_FOUND: no expert.json there. INVALID_ARGUMENT: it or the weights are wrong; the message
  // names the file and what to change.
  static absl::StatusOr<std::shared_ptr<const ExpertPackage>> Load(
      const std::string& folder, const ExpertLoadOptions& options = {});
  ~ExpertPackage();
  ExpertPackage(const ExpertPackage&) = delete;
  ExpertPackage& operator=(const ExpertPackage&) = delete;

  // OK when this expert may be attached to `model`: the base's digest is the pinned one, the depth
  // and every tensor fit. FAILED_PRECONDITION says why not.
  absl::Status CheckAgainst(const Model& model) const;

  const ExpertManifest& manifest() const;
  const std::string& folder() const;
  // Lets the system take back the memory of the weights' pages, which come again when they are
  // read.
  void ReleasePages() const;
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
  // Every tensor of the weights file by its name there.
  const TensorTable& tensors() const;
  // What a LoRA package's adapter_config.json scales all its pairs by; nullopt for full packages.
  std::optional<float> lora_scale() const;

 private:
  struct State;
  explicit ExpertPackage(std::unique_ptr<const State> state);
  std::unique_ptr<const State> state_;
};

// The names of the files that a package consists of, expert.json first.
std::vector<std::string> PackageFiles(const ExpertManifest& manifest);

// OK for a folder that may hold packages, even none. NOT_FOUND: no such folder. INVALID_ARGUMENT:
// it is a package itself; the message names the folder to give instead.
absl::Status CheckExpertFolder(const std::string& folder);

// Every package in the folders directly under `folder` that hold an expert.json, by name and
// version. Errors as of CheckExpertFolder; fails on the first package that fails, and when two have
// the same name and version.
absl::StatusOr<std::vector<std::shared_ptr<const ExpertPackage>>> LoadExpertFolder(
    const std::string& folder);

}  // namespace ccoe::model
