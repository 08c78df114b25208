#pragma once

#include <string>
#include <vector>

#include "common/model/tokenizer.h"

namespace ccoe::runtime {

// Turns an answer's tokens into text as they come: holds back incomplete characters and whatever
// may yet become a stop sequence. All that it has given out is always valid UTF-8.
class OutputText {
 public:
  // `tokenizer` outlives it; no stop sequence is empty.
  OutputText(const model::Tokenizer& tokenizer, std::vector<std::string> stop_sequences);

  // Text that is safe to give out after token `id`. When a stop sequence is complete, the text
  // before it; matched_stop() then names it and nothing more may be pushed.
  std::string Push(int32_t id);
  // What was held back, at the end of the answer.
  std::string Finish();

  bool stopped() const { return !matched_stop_.empty(); }
  const std::string& matched_stop() const { return matched_stop_; }

 private:
  std::string Release(bool last);

  model::StreamingDetokenizer detokenizer_;
  std::vector<std::string> stop_sequences_;
  std::string held_;
  std::string matched_stop_;
};

}  // namespace ccoe::runtime
