#include "common/runtime/prompt.h"

#include "absl/strings/str_cat.h"

namespace ccoe::runtime {
namespace {

absl::Status CheckIds(const model::Model& model, const std::vector<int32_t>& ids) {
  const int vocab = model.config().vocab;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab) {
      return absl::InvalidArgumentError(absl::StrCat(
          "token id ", ids[i], " at index ", i, " is outside the vocabulary [0, ", vocab, ")"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> EncodePrompt(const model::Model& model,
                                                  const PromptInput& input) {
  if (const auto* messages = std::get_if<std::vector<model::Message>>(&input)) {
    return model.chat_template().Render(model.tokenizer(), *messages,
                                        model::GenerationPrompt::kAdd);
  }
  std::vector<int32_t> ids;
  if (const auto* text = std::get_if<std::string>(&input)) {
    if (model.tokenizer().bos().has_value()) ids.push_back(*model.tokenizer().bos());
    const std::vector<int32_t> encoded = model.tokenizer().Encode(*text);
    if (encoded.empty()) return absl::InvalidArgumentError("the prompt is empty");
    ids.insert(ids.end(), encoded.begin(), encoded.end());
  } else {
    ids = std::get<std::vector<int32_t>>(input);
    if (absl::Status status = CheckIds(model, ids); !status.ok()) return status;
  }
  if (ids.empty()) return absl::InvalidArgumentError("the prompt is empty");
  return ids;
}

}  // namespace ccoe::runtime
