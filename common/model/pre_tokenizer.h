#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/regex.h"
#include "common/model/tokenizer_spec.h"

namespace ccoe::model {

// Cuts text into the pieces that BPE works on, one after another. Immutable, thread-safe.
class PreTokenizer {
 public:
  // INVALID_ARGUMENT for an expression that does not compile.
  static absl::StatusOr<PreTokenizer> Create(absl::Span<const SplitStep> steps);

  // Views of `text`, in order. Requires valid UTF-8.
  std::vector<std::string_view> Split(std::string_view text) const;

 private:
  struct Step {
    std::shared_ptr<const Regex> regex;
    SplitStep::Behavior behavior;
    SplitStep::Invert invert;
  };
  static void SplitPiece(const Step& step, std::string_view piece,
                         std::vector<std::string_view>* out);
  std::vector<Step> steps_;
};

}  // namespace ccoe::model
