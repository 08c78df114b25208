#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/base/tensor_view.h"
#include "common/model/chat_template.h"
#include "common/model/config.h"
#include "common/model/tokenizer.h"

namespace ccoe::model {

struct LoadOptions {
  // A name of ChatTemplate::ByName instead of the model's own template; empty: the model's own.
  std::string chat_template;
  // Called now and then from the loading thread with the part that is done, in [0, 1].
  std::function<void(double)> progress;
};

// A base model's files: configuration, tokenizer, chat template and tensors, all checked. Weights
// are views of mapped files and stay in their file's format. Immutable after Load, thread-safe;
// hold it by shared_ptr<const Model>: views are valid as long as it lives. The files must not be
// truncated while they are mapped.
class Model {
 public:
  // `path` is a GGUF file or a Hugging Face folder. NOT_FOUND: there is none. INVALID_ARGUMENT: it
  // is damaged. UNIMPLEMENTED: an architecture, a tensor type or a tokenizer that is not supported
  // (the message lists what is). Messages begin with the file's path.
  static absl::StatusOr<std::shared_ptr<const Model>> Load(const std::string& path,
                                                           const LoadOptions& options = {});
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelConfig& config() const;
  const Tokenizer& tokenizer() const;
  const ChatTemplate& chat_template() const;
  // Where it was loaded from.
  const std::string& path() const;

  // A tensor by its Hugging Face name: model.embed_tokens.weight [vocab, hidden],
  // model.layers.N.self_attn.{q,k,v,o}_proj.weight [outputs, inputs] and .bias,
  // model.layers.N.self_attn.{q,k}_norm.weight [1, head_dim],
  // model.layers.N.mlp.{gate,up,down}_proj .weight,
  // model.layers.N.{input,post_attention}_layernorm.weight [1, hidden], model.norm.weight,
  // lm_head.weight (the embedding where they are tied). Rows are in Hugging Face's order. Shapes
  // and the presence of every tensor the config calls for were checked by Load. NOT_FOUND
  // otherwise.
  absl::StatusOr<base::TensorView> Tensor(std::string_view hf_name) const;
  bool HasTensor(std::string_view hf_name) const;
  // Bytes of all tensors, as stored.
  size_t weight_bytes() const;

  // "sha256:<hex>" over configuration, tokenizer and every tensor (docs/models.md). The first call
  // of either digest reads all weights, on all cores; later calls are immediate.
  const std::string& digest() const;
  // As digest, over configuration, tokenizer, embedding and layers [0, k). Requires 0 <= k <=
  // layers.
  std::string PrefixDigest(int k) const;

  // Once the weights have been packed elsewhere: tells the system that the mapped files will not be
  // read soon, and gives back what loading left free in the heap. Views stay valid.
  void ReleasePages() const;

 private:
  struct State;
  explicit Model(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ccoe::model
