#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "common/model/tokenizer_spec.h"

namespace ccoe::model {

// The tokenizer of a Hugging Face tokenizer.json. UNIMPLEMENTED unless it is byte-level BPE with
// pre-tokenizers Split, Digits and ByteLevel and no normalizer but NFC; INVALID_ARGUMENT when it is
// damaged. `where` begins every message.
absl::StatusOr<TokenizerSpec> ParseTokenizerJson(std::string_view text, std::string_view where);

}  // namespace ccoe::model
