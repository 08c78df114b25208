// Compares the tokenizers with what the reference implementation gave (tests/goldens/README.md).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/escaping.h"
#include "common/model/digest.h"
#include "common/model/model.h"

namespace ccoe::model {
namespace {

using Json = nlohmann::json;

struct Golden {
  std::string file;   // in goldens/tokenizer
  std::string model;  // in goldens/tiny; empty: the model that CCOE_MODEL names
};

void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.file; }

class TokenizerGolden : public testing::TestWithParam<Golden> {
 protected:
  void SetUp() override {
    const std::string goldens = std::string(CCOE_TEST_SOURCE_DIR) + "/goldens/";
    std::string path = goldens + "tiny/" + GetParam().model;
    if (GetParam().model.empty()) {
      const char* real = std::getenv("CCOE_MODEL");
      if (real == nullptr) GTEST_SKIP() << "CCOE_MODEL is not set";
      path = real;
    }
    auto model = Model::Load(path);
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *model;
    std::ifstream file(goldens + "tokenizer/" + GetParam().file);
    golden_ = Json::parse(file);
  }

  const Tokenizer& tokenizer() const { return model_->tokenizer(); }

  std::shared_ptr<const Model> model_;
  Json golden_;
};

TEST_P(TokenizerGolden, Encodes) {
  ASSERT_FALSE(golden_["encode"].empty());
  for (const Json& entry : golden_["encode"]) {
    EXPECT_EQ(tokenizer().Encode(entry["text"].get<std::string>()),
              entry["ids"].get<std::vector<int32_t>>())
        << entry["name"];
  }
}

TEST_P(TokenizerGolden, EncodesLongTexts) {
  for (const Json& entry : golden_["encode_repeated"]) {
    std::string text;
    for (int i = 0; i < entry["times"].get<int>(); ++i) text += entry["unit"].get<std::string>();
    const std::vector<int32_t> ids = tokenizer().Encode(text);
    ASSERT_EQ(ids.size(), entry["count"].get<size_t>()) << entry["name"];
    const std::string_view bytes(reinterpret_cast<const char*>(ids.data()),
                                 ids.size() * sizeof(int32_t));
    EXPECT_EQ(Sha256Hex(bytes), entry["sha256"].get<std::string>()) << entry["name"];
  }
}

TEST_P(TokenizerGolden, Decodes) {
  for (const Json& entry : golden_["decode"]) {
    StreamingDetokenizer detokenizer(tokenizer());
    std::string bytes, text;
    for (const int32_t id : entry["ids"].get<std::vector<int32_t>>()) {
      bytes += tokenizer().TokenBytes(id);
      text += detokenizer.Push(id);
    }
    text += detokenizer.Finish();
    EXPECT_EQ(absl::BytesToHexString(bytes), entry["bytes"].get<std::string>()) << entry;
    EXPECT_EQ(text, entry["text"].get<std::string>()) << entry;
  }
}

TEST_P(TokenizerGolden, KnowsControlTokens) {
  for (const Json& entry : golden_["control"]) {
    const int32_t id = entry["id"];
    EXPECT_EQ(tokenizer().SpecialToken(entry["text"].get<std::string>()), id);
    EXPECT_TRUE(tokenizer().IsSpecial(id));
    EXPECT_EQ(tokenizer().TokenBytes(id), "");
  }
}

TEST_P(TokenizerGolden, RendersChats) {
  for (const Json& entry : golden_["chat"]) {
    std::vector<Message> messages;
    for (const Json& message : entry["messages"]) {
      messages.push_back({message["role"], message["content"]});
    }
    const auto chat = model_->chat_template().Render(tokenizer(), messages, GenerationPrompt::kAdd);
    ASSERT_TRUE(chat.ok()) << chat.status();
    EXPECT_EQ(chat->ids, entry["ids"].get<std::vector<int32_t>>()) << entry["messages"];
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerGolden,
                         testing::Values(Golden{"smollm.json", ""},
                                         Golden{"smollm_tiny.json", "llama"},
                                         Golden{"llama3.json", "llama3_rope"},
                                         Golden{"qwen2.json", "qwen2"}));

}  // namespace
}  // namespace ccoe::model
