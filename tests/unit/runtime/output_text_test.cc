#include "common/runtime/output_text.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "common/model/model.h"

namespace ccoe::runtime {
namespace {

class OutputTextTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto model = model::Model::Load(std::string(CCOE_TEST_SOURCE_DIR) + "/goldens/tiny/llama");
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
  }

  // Pushes the tokens of `text` until a stop sequence matches; returns all that came out.
  std::string Stream(const std::string& text, OutputText& output) {
    std::string result;
    for (int32_t id : model_->tokenizer().Encode(text)) {
      result += output.Push(id);
      if (output.stopped()) return result;
    }
    return result + output.Finish();
  }

  std::shared_ptr<const model::Model> model_;
};

TEST_F(OutputTextTest, GivesTheWholeTextBack) {
  OutputText output(model_->tokenizer(), {});
  EXPECT_EQ(Stream("naïve text, 12 €", output), "naïve text, 12 €");
}

TEST_F(OutputTextTest, HoldsBackWhatMayBecomeAStopSequence) {
  OutputText output(model_->tokenizer(), {"END"});
  std::string given;
  for (int32_t id : model_->tokenizer().Encode("ab E")) given += output.Push(id);
  EXPECT_EQ(given, "ab ");
  EXPECT_EQ(output.Finish(), "E");
}

TEST_F(OutputTextTest, EndsBeforeTheStopSequence) {
  OutputText output(model_->tokenizer(), {"zzz", "END"});
  EXPECT_EQ(Stream("ab ENEND cd", output), "ab EN");
  EXPECT_TRUE(output.stopped());
  EXPECT_EQ(output.matched_stop(), "END");
  EXPECT_EQ(output.Finish(), "");
}

TEST_F(OutputTextTest, TheEarliestStopSequenceWins) {
  OutputText output(model_->tokenizer(), {"cd", "bc"});
  EXPECT_EQ(Stream("abcd", output), "a");
  EXPECT_EQ(output.matched_stop(), "bc");
}

TEST_F(OutputTextTest, NeverGivesOutPartOfACharacter) {
  // The stop sequence begins with the last byte of nothing: a held start must not cut a character.
  OutputText output(model_->tokenizer(), {"€€"});
  std::string given;
  for (int32_t id : model_->tokenizer().Encode("1€2")) given += output.Push(id);
  EXPECT_EQ(given + output.Finish(), "1€2");
}

}  // namespace
}  // namespace ccoe::runtime
