#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/compute/device.h"
#include "common/model/expert_package.h"
#include "common/model/model.h"

namespace ccoe::runtime {

// The seven projections of a layer, in the order in which they are computed.
enum Projection { kQ, kK, kV, kO, kGate, kUp, kDown, kProjections };

// One transformer layer on a device. Biases and head norms are null where the model has none.
struct LayerWeights {
  std::array<std::unique_ptr<compute::Matrix>, kProjections> projections;
  std::array<std::unique_ptr<compute::Buffer>, 3> biases;  // kQ, kK, kV
  std::unique_ptr<compute::Buffer> input_norm;
  std::unique_ptr<compute::Buffer> post_attention_norm;
  std::unique_ptr<compute::Buffer> q_norm;
  std::unique_ptr<compute::Buffer> k_norm;
};

// The adapter of one projection.
struct LoraFactors {
  std::unique_ptr<compute::Matrix> a;  // [rank, inputs]
  std::unique_ptr<compute::Matrix> b;  // [outputs, rank]
  float scale = 1;
};

// The adapters of one layer.
struct LayerLora {
  std::array<std::optional<LoraFactors>, kProjections> projections;
};

// The final norm and the projection to the vocabulary.
struct HeadWeights {
  std::unique_ptr<compute::Buffer> norm;
  std::shared_ptr<const compute::Matrix> projection;  // [vocab, hidden]; the embedding where tied
};

// Layers [begin, begin + layers.size()) of the base model, with the ends that belong to the range.
struct BaseWeights {
  int begin = 0;
  std::shared_ptr<const compute::Matrix> embedding;  // [vocab, hidden]; ranges from layer 0
  std::vector<LayerWeights> layers;
  std::optional<HeadWeights> head;  // ranges to the last layer

  const LayerWeights& Layer(int layer) const { return layers[layer - begin]; }
};

// What an expert adds: adapters of the base layers, or layers of its own.
struct ExpertWeights {
  int attach_depth = 0;
  std::vector<LayerLora> lora;       // LoRA: [layers - attach_depth]
  std::vector<LayerWeights> layers;  // full: [layers - attach_depth]
  std::optional<HeadWeights> head;   // full packages
  bool shares_projection = false;    // the head's is the base model's
};

// Layers [begin, end) of the base model.
absl::StatusOr<BaseWeights> LoadBase(const model::Model& model, int begin, int end,
                                     compute::Device& device);

struct ExpertSource {
  const model::Model& model;
  const model::ExpertPackage& package;  // has passed CheckAgainst(model)
  const BaseWeights& base;
  bool quantize_full = false;  // the float matrices of full packages, each as the base's own is
};

// A full package gets a head of its own; where it leaves out the norm or the projection, they are
// the base model's, and the projection is shared with `base` where that has it.
absl::StatusOr<std::unique_ptr<ExpertWeights>> LoadExpert(const ExpertSource& source,
                                                          compute::Device& device);

// Device memory of the matrices.
size_t BytesOf(const std::vector<LayerWeights>& layers);
size_t BytesOf(const BaseWeights& weights);
size_t BytesOf(const ExpertWeights& weights);

}  // namespace ccoe::runtime
