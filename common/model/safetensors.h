#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/byte_sink.h"
#include "common/model/tensor_table.h"

namespace ccoe::model {

// The tensors of a safetensors file as views of its bytes, which the caller keeps alive; a vector
// has one row. INVALID_ARGUMENT: damaged. UNIMPLEMENTED: a tensor that is no vector or matrix of
// F32, F16 or BF16. `where` begins every message.
absl::StatusOr<TensorTable> ParseSafetensors(absl::Span<const std::byte> bytes,
                                             std::string_view where);

// Writes a safetensors file of these tensors, which have to be F32, F16 or BF16; one of a single
// row becomes a vector. Errors of `sink`.
absl::Status WriteSafetensors(const TensorTable& tensors, const ByteSink& sink);

}  // namespace ccoe::model
