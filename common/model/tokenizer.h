#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/tokenizer_spec.h"

namespace ccoe::model {

// Byte-level BPE between text and token ids. Immutable and thread-safe.
class Tokenizer {
 public:
  // INVALID_ARGUMENT names what is wrong with the vocabulary, the merges or the pre-tokenizer.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Create(TokenizerSpec spec);
  ~Tokenizer();

  // The tokens of ordinary text. Any bytes are welcome: what is not UTF-8 is encoded byte by byte
  // (a byte that has no token is dropped). Special and added tokens are never recognised in it:
  // "<|im_end|>" becomes ordinary tokens. Adds no beginning-of-text token. Takes time linear in the
  // length, but for a logarithmic factor.
  std::vector<int32_t> Encode(std::string_view text) const;

  // The id of a special or added token by its text.
  std::optional<int32_t> SpecialToken(std::string_view text) const;
  // The raw bytes that a token stands for (they need not be whole characters); empty for special
  // tokens and for ids outside the vocabulary.
  std::string_view TokenBytes(int32_t id) const;
  // As TokenBytes, but special tokens give their text.
  std::string_view TokenText(int32_t id) const;
  // True for control tokens, which never show in text, and for ids outside the vocabulary.
  bool IsSpecial(int32_t id) const;
  // True for tokens that end an answer: the model's end-of-text and end-of-turn tokens.
  bool IsEndOfGeneration(int32_t id) const;
  // Ids are in [0, vocab_size()). The model's embedding may have more rows.
  int vocab_size() const;
  // The token every text begins with, for models that were trained so (Llama 3).
  std::optional<int32_t> bos() const;
  // Hash over everything that decides Encode and TokenBytes: "sha256:<hex>" (docs/models.md).
  const std::string& digest() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<const State> state);
  std::unique_ptr<const State> state_;
};

// Turns a growing sequence of tokens into text. What Push and Finish return is always valid UTF-8:
// an incomplete character is held back until its last byte, and what can never become a character
// is replaced by U+FFFD as Python's errors="replace" does. Special tokens add nothing. Not
// thread-safe; the tokenizer must outlive it.
class StreamingDetokenizer {
 public:
  explicit StreamingDetokenizer(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  // The text that became certain with this token; may be empty.
  std::string Push(int32_t id);
  // What was held back, as replacement characters; the detokenizer is then as new.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  std::string held_;  // an incomplete character, at most 3 bytes
};

}  // namespace ccoe::model
