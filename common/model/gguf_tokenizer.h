#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "common/model/gguf.h"
#include "common/model/tokenizer_spec.h"

namespace ccoe::model {

// The tokenizer in a GGUF file's metadata (tokenizer.ggml.*). UNIMPLEMENTED unless it is byte-level
// BPE with a known pre-tokenizer.
absl::StatusOr<TokenizerSpec> TokenizerSpecFromGguf(const GgufFile& file, std::string_view where);

}  // namespace ccoe::model
