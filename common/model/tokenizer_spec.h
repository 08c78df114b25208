#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace ccoe::model {

enum class TokenKind {
  kNormal,   // text in the byte-level alphabet; takes part in merges
  kAdded,    // literal text that the model may emit; never the result of a merge
  kControl,  // never shows in text
  kUnused,   // a hole in the vocabulary
};

struct TokenEntry {
  std::string text;  // as the file has it: byte-level alphabet for kNormal, literal otherwise
  TokenKind kind = TokenKind::kUnused;
};

// One step of pre-tokenization: splits every piece of the step before by a regular expression,
// which sees that piece alone.
struct SplitStep {
  enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Invert { kNo, kYes };

  std::string regex;  // PCRE2 syntax, \s in the sense of Unicode's White_Space
  Behavior behavior = Behavior::kIsolated;
  Invert invert = Invert::kNo;  // kYes: the expression matches the separators' complement
};

enum class Normalization { kNone, kNfc };

// What a file says about its tokenizer, before it is checked.
struct TokenizerSpec {
  std::vector<TokenEntry> tokens;                   // by id
  std::vector<std::pair<int32_t, int32_t>> merges;  // by rank; each pair's concatenation is a token
  std::vector<SplitStep> steps;
  Normalization normalization = Normalization::kNone;
  bool ignore_merges = false;  // a piece that is a token as a whole is not merged (Llama 3)
  std::optional<int32_t>
      unknown_id;  // stands for bytes without a token; otherwise they are dropped
  std::optional<int32_t> bos_id;
  std::vector<int32_t> end_of_generation_ids;
};

// The steps of a pre-tokenizer by the name that GGUF files use (tokenizer.ggml.pre): smollm, gpt-2,
// llama-bpe, qwen2 and their aliases. INVALID_ARGUMENT lists the names.
absl::StatusOr<std::vector<SplitStep>> PreTokenizerByName(std::string_view name);

}  // namespace ccoe::model
