#include "common/model/end_tokens.h"

#include <algorithm>
#include <array>

namespace ccoe::model {
namespace {

constexpr std::array<std::string_view, 5> kEndTokens = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>",
                                                        "<|eom_id|>", "<|end_of_text|>"};

}  // namespace

void AddKnownEndTokens(TokenizerSpec* spec) {
  std::vector<int32_t>& ids = spec->end_of_generation_ids;
  for (size_t i = 0; i < spec->tokens.size(); ++i) {
    const TokenEntry& token = spec->tokens[i];
    if (token.kind != TokenKind::kControl) continue;
    if (std::find(kEndTokens.begin(), kEndTokens.end(), token.text) != kEndTokens.end()) {
      ids.push_back(static_cast<int32_t>(i));
    }
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

}  // namespace ccoe::model
