#include "common/runtime/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace ccoe::runtime {
namespace {

using Turns = std::vector<model::Message>;

class PromptTest : public ::testing::Test {
 protected:
  // What the route tokens of `input` say.
  std::string RouteText(const PromptInput& input) const {
    const absl::StatusOr<EncodedPrompt> prompt = EncodePrompt(*model_, input);
    if (!prompt.ok()) return prompt.status().ToString();
    std::string text;
    for (const model::TokenRange& range : prompt->route_tokens) {
      for (int i = range.begin; i < range.end; ++i) {
        text += model_->tokenizer().TokenBytes(prompt->ids[i]);
      }
    }
    return text;
  }

  const std::shared_ptr<const model::Model> model_ =
      model::Model::Load(absl::StrCat(CCOE_TEST_SOURCE_DIR, "/goldens/tiny/llama")).value();
};

TEST_F(PromptTest, AConversationIsJudgedByWhatTheUserSaidLast) {
  const std::string long_turn = "What is the total revenue of each shop for the year 2020, please?";
  EXPECT_EQ(RouteText(Turns{{"user", long_turn}}), long_turn);
  EXPECT_EQ(RouteText(Turns{
                {"system", "S"}, {"user", "Hello there"}, {"assistant", "A"}, {"user", long_turn}}),
            long_turn);
}

TEST_F(PromptTest, AShortTurnIsJudgedWithThoseBefore) {
  const std::string long_turn = "What is the total revenue of each shop for the year 2020, please?";
  EXPECT_EQ(RouteText(Turns{{"user", "Long before, and a good deal of it, all in all"},
                            {"assistant", "A"},
                            {"user", long_turn},
                            {"assistant", "SELECT 1"},
                            {"user", "and 2021?"}}),
            absl::StrCat(long_turn, "and 2021?"));
}

TEST_F(PromptTest, ATextIsJudgedWithoutItsFirstToken) {
  const EncodedPrompt text = EncodePrompt(*model_, std::string("one two three")).value();
  ASSERT_EQ(text.route_tokens.size(), 1u);
  EXPECT_EQ(text.route_tokens[0].begin, 1);
  EXPECT_EQ(text.route_tokens[0].end, static_cast<int>(text.ids.size()));
  const EncodedPrompt one = EncodePrompt(*model_, std::vector<int32_t>{7}).value();
  EXPECT_THAT(one.route_tokens, ::testing::ElementsAre(model::TokenRange{0, 1}));
  EXPECT_EQ(EncodePrompt(*model_, std::string()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(PromptTest, NobodysTurnIsJudgedAsText) {
  const EncodedPrompt prompt = EncodePrompt(*model_, Turns{{"assistant", "I begin"}}).value();
  ASSERT_EQ(prompt.route_tokens.size(), 1u);
  EXPECT_EQ(prompt.route_tokens[0].begin, 1);
}

}  // namespace
}  // namespace ccoe::runtime
