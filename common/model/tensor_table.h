#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/base/tensor_view.h"
#include "common/model/config.h"

namespace ccoe::model {

using TensorTable = std::map<std::string, base::TensorView, std::less<>>;

// A tensor that a model has, by its Hugging Face name. Vectors are one row and in a float format.
struct TensorShape {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 0;
};

// The tensors of one layer, in canonical order.
std::vector<TensorShape> LayerTensors(const ModelConfig& config, int layer);
// All tensors of a model, in canonical order: embedding, layers, final norm, head unless it is
// tied.
std::vector<TensorShape> ModelTensors(const ModelConfig& config);

// INVALID_ARGUMENT names a tensor that is missing or has another shape, or a vector that is
// quantised.
absl::Status CheckTensor(const TensorTable& table, const TensorShape& expected);

// The name of a tensor that is none of `expected`; nullopt when there is no such tensor.
std::optional<std::string> FindUnexpected(const TensorTable& table,
                                          absl::Span<const TensorShape> expected);

// Checks that the tensors are those which the config calls for, no more and no less. Errors as of
// CheckTensor; UNIMPLEMENTED names one too many.
absl::Status CheckModelTensors(const TensorTable& table, const ModelConfig& config);

}  // namespace ccoe::model
