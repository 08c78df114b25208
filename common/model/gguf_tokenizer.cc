#include "common/model/gguf_tokenizer.h"

#include <algorithm>
#include <string>

#include "common/base/status_macros.h"
#include "common/model/end_tokens.h"
#include "common/model/errors.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

absl::StatusOr<TokenKind> KindOf(int64_t type) {
  switch (type) {
    case 1:
      return TokenKind::kNormal;
    case 2:  // unknown
    case 3:
      return TokenKind::kControl;
    case 4:
      return TokenKind::kAdded;
    case 5:
      return TokenKind::kUnused;
    default:
      return absl::UnimplementedError(
          Cat("token type ", type, "; supported: 1 to 5 of byte-level BPE"));
  }
}

absl::Status ReadTokens(const GgufFile& file, std::string_view where, TokenizerSpec* spec) {
  CCOE_ASSIGN_OR_RETURN(const auto texts, file.Strings("tokenizer.ggml.tokens"));
  CCOE_ASSIGN_OR_RETURN(const auto types, file.Integers("tokenizer.ggml.token_type"));
  if (texts.size() != types.size()) {
    return Damaged(where, texts.size(), " tokens, but ", types.size(), " token types");
  }
  spec->tokens.reserve(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const absl::StatusOr<TokenKind> kind = KindOf(types[i]);
    if (!kind.ok()) return At(where, kind.status());
    spec->tokens.push_back({std::string(texts[i]), *kind});
  }
  return absl::OkStatus();
}

absl::Status ReadMerges(const GgufFile& file, std::string_view where, TokenizerSpec* spec) {
  CCOE_ASSIGN_OR_RETURN(const auto merges, file.Strings("tokenizer.ggml.merges"));
  StringMap<std::string_view, int32_t> ids;
  ids.reserve(spec->tokens.size());
  for (size_t i = 0; i < spec->tokens.size(); ++i) {
    if (spec->tokens[i].kind == TokenKind::kNormal) {
      ids.emplace(spec->tokens[i].text, static_cast<int32_t>(i));
    }
  }
  spec->merges.reserve(merges.size());
  for (const std::string_view merge : merges) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) {
      return Damaged(where, "merge ", spec->merges.size(), " is not two tokens and a space");
    }
    const auto left = ids.find(merge.substr(0, space));
    const auto right = ids.find(merge.substr(space + 1));
    if (left == ids.end() || right == ids.end()) {
      return Damaged(where, "merge ", spec->merges.size(),
                     " joins a token that is not in the vocabulary");
    }
    spec->merges.emplace_back(left->second, right->second);
  }
  return absl::OkStatus();
}

absl::Status ReadSpecialIds(const GgufFile& file, std::string_view where, std::string_view pre,
                            TokenizerSpec* spec) {
  const auto read = [&](std::string_view key) -> absl::StatusOr<int64_t> {
    CCOE_ASSIGN_OR_RETURN(const int64_t id, file.IntegerOr(key, -1));
    if (id < -1 || id >= static_cast<int64_t>(spec->tokens.size())) {
      return Damaged(where, "\"", key, "\" is ", id, ", outside the vocabulary");
    }
    return id;
  };
  CCOE_ASSIGN_OR_RETURN(const bool add_bos,
                        file.BoolOr("tokenizer.ggml.add_bos_token", pre == "llama-bpe"));
  CCOE_ASSIGN_OR_RETURN(const int64_t bos, read("tokenizer.ggml.bos_token_id"));
  if (add_bos && bos >= 0) spec->bos_id = static_cast<int32_t>(bos);
  for (const std::string_view key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    CCOE_ASSIGN_OR_RETURN(const int64_t id, read(key));
    if (id >= 0) spec->end_of_generation_ids.push_back(static_cast<int32_t>(id));
  }
  AddKnownEndTokens(spec);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerSpec> TokenizerSpecFromGguf(const GgufFile& file, std::string_view where) {
  CCOE_ASSIGN_OR_RETURN(const std::string_view model, file.String("tokenizer.ggml.model"));
  if (model != "gpt2") {
    return Unsupported(where, "the tokenizer \"", model,
                       "\" is not supported; supported: gpt2 (byte-level BPE)");
  }
  CCOE_ASSIGN_OR_RETURN(const std::string_view pre, file.StringOr("tokenizer.ggml.pre", "gpt-2"));
  TokenizerSpec spec;
  absl::StatusOr<std::vector<SplitStep>> steps = PreTokenizerByName(pre);
  if (!steps.ok()) return At(where, steps.status());
  spec.steps = *std::move(steps);
  spec.ignore_merges = pre == "llama-bpe";
  if (pre == "qwen2") spec.normalization = Normalization::kNfc;
  CCOE_RETURN_IF_ERROR(ReadTokens(file, where, &spec));
  CCOE_RETURN_IF_ERROR(ReadMerges(file, where, &spec));
  CCOE_RETURN_IF_ERROR(ReadSpecialIds(file, where, pre, &spec));
  return spec;
}

}  // namespace ccoe::model
