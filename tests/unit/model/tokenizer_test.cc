#include "common/model/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/model/byte_alphabet.h"
#include "common/model/pre_tokenizer.h"
#include "common/model/regex.h"
#include "common/model/tokenizer_json.h"
#include "common/model/utf8.h"
#include "tests/unit/model/test_files.h"

namespace ccoe::model {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// All bytes but 0x07, then "ab", "abc", " a"; then one added and two control tokens.
TokenizerSpec SmallSpec() {
  TokenizerSpec spec;
  const auto add = [&](std::string_view bytes) {
    spec.tokens.push_back({ByteLevelTextOf(bytes), TokenKind::kNormal});
  };
  for (int byte = 0; byte < 256; ++byte) {
    if (byte == 7) {
      spec.tokens.push_back({"", TokenKind::kUnused});
    } else {
      add(std::string(1, static_cast<char>(byte)));
    }
  }
  add("ab");   // 256
  add("abc");  // 257
  add(" a");   // 258
  spec.merges = {{'a', 'b'}, {256, 'c'}, {' ', 'a'}};
  spec.tokens.push_back({"<tool>", TokenKind::kAdded});     // 259
  spec.tokens.push_back({"<|end|>", TokenKind::kControl});  // 260
  spec.tokens.push_back({"<|pad|>", TokenKind::kControl});  // 261
  spec.end_of_generation_ids = {260};
  spec.steps = *PreTokenizerByName("gpt-2");
  return spec;
}

std::unique_ptr<const Tokenizer> Small() {
  auto tokenizer = Tokenizer::Create(SmallSpec());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TEST(Tokenizer, MergesByRankThenFromTheLeft) {
  const auto tokenizer = Small();
  EXPECT_THAT(tokenizer->Encode("abc"), ElementsAre(257));
  EXPECT_THAT(tokenizer->Encode("aab"), ElementsAre('a', 256));
  // "ab" comes before " a".
  EXPECT_THAT(tokenizer->Encode(" ab"), ElementsAre(' ', 256));
  EXPECT_THAT(tokenizer->Encode(" aa"), ElementsAre(258, 'a'));
  EXPECT_THAT(tokenizer->Encode(""), ElementsAre());
}

TEST(Tokenizer, NeverReadsSpecialTokensInText) {
  const auto tokenizer = Small();
  for (const std::string_view text : {"<|end|>", "<tool>", "x<|pad|>y"}) {
    for (const int32_t id : tokenizer->Encode(text)) EXPECT_LT(id, 259) << text;
  }
}

TEST(Tokenizer, EncodesWhatIsNotUtf8ByteByByte) {
  const auto tokenizer = Small();
  EXPECT_THAT(tokenizer->Encode("ab\xFF\xE2\x82 a"), ElementsAre(256, 0xFF, 0xE2, 0x82, 258));
  EXPECT_THAT(tokenizer->Encode("\xED\xA0\x80"), ElementsAre(0xED, 0xA0, 0x80));
}

TEST(Tokenizer, DropsBytesWithoutAToken) {
  const auto tokenizer = Small();
  EXPECT_THAT(tokenizer->Encode("\x07"), ElementsAre());
  EXPECT_THAT(tokenizer->Encode("x\x07y"), ElementsAre('x', 'y'));
}

TEST(Tokenizer, TellsTokensApart) {
  const auto tokenizer = Small();
  EXPECT_EQ(tokenizer->vocab_size(), 262);
  EXPECT_EQ(tokenizer->TokenBytes(257), "abc");
  EXPECT_EQ(tokenizer->TokenBytes(259), "<tool>");
  EXPECT_EQ(tokenizer->TokenBytes(260), "");
  EXPECT_EQ(tokenizer->TokenText(260), "<|end|>");
  EXPECT_EQ(tokenizer->SpecialToken("<|end|>"), 260);
  EXPECT_EQ(tokenizer->SpecialToken("<tool>"), 259);
  EXPECT_EQ(tokenizer->SpecialToken("ab"), std::nullopt);
  EXPECT_TRUE(tokenizer->IsSpecial(261));
  EXPECT_FALSE(tokenizer->IsSpecial(259));
  EXPECT_TRUE(tokenizer->IsEndOfGeneration(260));
  EXPECT_FALSE(tokenizer->IsEndOfGeneration(261));
  for (const int32_t id : {-1, 262, 1 << 30}) {
    EXPECT_EQ(tokenizer->TokenBytes(id), "");
    EXPECT_TRUE(tokenizer->IsSpecial(id));
    EXPECT_FALSE(tokenizer->IsEndOfGeneration(id));
  }
}

TEST(Tokenizer, TakesWholePiecesFirstWhereMergesAreIgnored) {
  TokenizerSpec spec = SmallSpec();
  spec.tokens[7] = {"bca", TokenKind::kNormal};
  EXPECT_THAT((*Tokenizer::Create(spec))->Encode("bca"), ElementsAre('b', 'c', 'a'));
  spec.ignore_merges = true;
  EXPECT_THAT((*Tokenizer::Create(spec))->Encode("bca"), ElementsAre(7));
}

TEST(Tokenizer, ComposesCharactersWhereTheSpecAsks) {
  TokenizerSpec spec = SmallSpec();
  EXPECT_THAT((*Tokenizer::Create(spec))->Encode("e\u0301"), ElementsAre('e', 0xCC, 0x81));
  spec.normalization = Normalization::kNfc;
  EXPECT_THAT((*Tokenizer::Create(spec))->Encode("e\u0301"), ElementsAre(0xC3, 0xA9));
}

TEST(Tokenizer, DigestFollowsWhatDecidesTheTokens) {
  const std::string digest = (*Tokenizer::Create(SmallSpec()))->digest();
  EXPECT_EQ((*Tokenizer::Create(SmallSpec()))->digest(), digest);
  TokenizerSpec merges = SmallSpec();
  merges.merges.pop_back();
  EXPECT_NE((*Tokenizer::Create(merges))->digest(), digest);
  TokenizerSpec kinds = SmallSpec();
  kinds.tokens[259].kind = TokenKind::kControl;
  EXPECT_NE((*Tokenizer::Create(kinds))->digest(), digest);
  TokenizerSpec steps = SmallSpec();
  steps.steps = *PreTokenizerByName("qwen2");
  EXPECT_NE((*Tokenizer::Create(steps))->digest(), digest);
}

TEST(Tokenizer, RefusesBrokenSpecs) {
  const auto refused = [](auto change) {
    TokenizerSpec spec = SmallSpec();
    change(&spec);
    return Tokenizer::Create(std::move(spec)).status().code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](TokenizerSpec* s) { s->tokens.clear(); }));
  EXPECT_TRUE(refused([](TokenizerSpec* s) { s->merges.push_back({'a', 4000}); }));
  EXPECT_TRUE(refused([](TokenizerSpec* s) { s->merges.push_back({-1, 'a'}); }));
  EXPECT_TRUE(refused([](TokenizerSpec* s) { s->merges.push_back({'a', 260}); }));
  EXPECT_TRUE(refused([](TokenizerSpec* s) { s->merges.push_back({'x', 'y'}); }));
  EXPECT_TRUE(refused([](TokenizerSpec* s) { s->merges.push_back({'a', 'b'}); }));
  EXPECT_TRUE(refused([](TokenizerSpec* s) { s->tokens.push_back({"a", TokenKind::kNormal}); }));
  EXPECT_TRUE(refused([](TokenizerSpec* s) { s->tokens.push_back({"", TokenKind::kControl}); }));
  EXPECT_TRUE(refused([](TokenizerSpec* s) { s->bos_id = 262; }));
  EXPECT_TRUE(refused([](TokenizerSpec* s) { s->end_of_generation_ids = {-1}; }));
  EXPECT_TRUE(refused([](TokenizerSpec* s) { s->steps.push_back({"("}); }));
}

TEST(PreTokenizer, SplitsAsTheNamedFamiliesDo) {
  const auto split = [](std::string_view name, std::string_view text) {
    return PreTokenizer::Create(*PreTokenizerByName(name))->Split(text);
  };
  EXPECT_THAT(split("gpt-2", "a  12"), ElementsAre("a", " ", " 12"));
  EXPECT_THAT(split("smollm", "a  12"), ElementsAre("a", "  ", "1", "2"));
  EXPECT_THAT(split("llama-bpe", "a 12345"), ElementsAre("a", " ", "123", "45"));
  EXPECT_THAT(split("qwen2", "a 12"), ElementsAre("a", " ", "1", "2"));
  // U+180E is no whitespace for Unicode, though PCRE2's \s has it.
  EXPECT_THAT(split("gpt-2", "a\u180E"), ElementsAre("a", "\u180E"));
  EXPECT_THAT(std::string(PreTokenizerByName("falcon").status().message()), HasSubstr("smollm"));
}

TEST(PreTokenizer, KnowsEveryBehavior) {
  using Behavior = SplitStep::Behavior;
  const auto split = [](Behavior behavior, SplitStep::Invert invert = SplitStep::Invert::kNo) {
    return PreTokenizer::Create({{"-", behavior, invert}})->Split("the-final--countdown");
  };
  EXPECT_THAT(split(Behavior::kIsolated), ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(split(Behavior::kRemoved), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(split(Behavior::kMergedWithPrevious),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(split(Behavior::kMergedWithNext), ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(split(Behavior::kContiguous), ElementsAre("the", "-", "final", "--", "countdown"));
  EXPECT_THAT(split(Behavior::kRemoved, SplitStep::Invert::kYes), ElementsAre("-", "-", "-"));
}

TEST(PreTokenizer, EmptyMatchesDoNotStopIt) {
  const auto splitter = PreTokenizer::Create({{"x*"}});
  EXPECT_THAT(splitter->Split("aéxxb"), ElementsAre("aé", "xx", "b"));
}

TEST(Regex, BoundsItsWork) {
  const auto regex = Regex::Compile("(a+)+b");
  ASSERT_TRUE(regex.ok());
  EXPECT_FALSE((*regex)->Contains(std::string(5000, 'a') + "c"));
  EXPECT_TRUE((*regex)->Contains("\xFF\xFE aab"));
  EXPECT_FALSE((*Regex::Compile("a.b"))
                   ->Contains("a\xFF"
                              "b"));
  EXPECT_EQ(Regex::Compile("(").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(Regex::Compile(std::string(5000, 'a')).ok());
  EXPECT_FALSE(Regex::Compile("\\C").ok());
}

TEST(ByteAlphabet, IsABijection) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    EXPECT_EQ(BytesOfByteLevelText(ByteLevelTextOf(bytes)), bytes);
  }
  EXPECT_EQ(ByteLevelTextOf(" the\n"), "ĠtheĊ");
  EXPECT_EQ(BytesOfByteLevelText("漢"), std::nullopt);
  EXPECT_EQ(BytesOfByteLevelText("\xFF"), std::nullopt);
}

TEST(StreamingDetokenizer, HoldsBackAndReplacesAsPythonDoes) {
  struct Case {
    std::string bytes;
    std::string text;
  };
  const std::string r(kReplacementCharacter);
  const Case cases[] = {
      {"plain", "plain"},
      {"\xE2\x82\xAC", "€"},
      {"\xE2\x82", r},
      {"\xE2\x82x", r + "x"},
      {"\xF0\x9F\x98", r},
      {"\xFF\xFE", r + r},
      {"\xC0\x80", r + r},
      {"\xED\xA0\x80", r + r + r},
      {"\xF0\x80\x80\x80", r + r + r + r},
      {"\xF4\x90\x80\x80", r + r + r + r},
      {"\xE2\xE2\x82\xAC", r + "€"},
      {"\x80", r},
  };
  const auto tokenizer = Small();
  for (const Case& c : cases) {
    StreamingDetokenizer detokenizer(*tokenizer);
    std::string text;
    for (const char byte : c.bytes) {
      const std::string part = detokenizer.Push(static_cast<uint8_t>(byte));
      EXPECT_EQ(ValidUtf8Prefix(part), part.size());
      text += part;
    }
    text += detokenizer.Finish();
    EXPECT_EQ(text, c.text);
    EXPECT_EQ(detokenizer.Finish(), "");
  }
}

TEST(StreamingDetokenizer, SpecialTokensAddNothing) {
  const auto tokenizer = Small();
  StreamingDetokenizer detokenizer(*tokenizer);
  EXPECT_EQ(detokenizer.Push(0xE2), "");
  EXPECT_EQ(detokenizer.Push(260), "");
  EXPECT_EQ(detokenizer.Push(0x82), "");
  EXPECT_EQ(detokenizer.Push(0xAC), "€");
}

std::string TokenizerJson(std::string_view more) {
  return R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},)"
         R"("decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},)"
         R"("merges":["a b"]})" +
         std::string(more) + "}";
}

TEST(TokenizerJson, ReadsAddedTokensAndTheBeginningOfText) {
  const auto spec = ParseTokenizerJson(
      TokenizerJson(R"(,"added_tokens":[{"id":4,"content":"<s>","special":true},)"
                    R"({"id":3,"content":"<t>","special":false}],)"
                    R"("post_processor":{"type":"TemplateProcessing","single":[)"
                    R"({"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A"}}]})"),
      "tokenizer.json");
  ASSERT_TRUE(spec.ok()) << spec.status();
  ASSERT_EQ(spec->tokens.size(), 5u);
  EXPECT_EQ(spec->tokens[3].kind, TokenKind::kAdded);
  EXPECT_EQ(spec->tokens[4].kind, TokenKind::kControl);
  EXPECT_EQ(spec->bos_id, 4);
  EXPECT_TRUE(Tokenizer::Create(*spec).ok());
}

TEST(TokenizerJson, NamesWhatIsNotSupported) {
  for (const std::string& text :
       {TokenizerJson(R"(,"normalizer":{"type":"Lowercase"})"),
        TokenizerJson(R"(,"post_processor":{"type":"BertProcessing"})"),
        TokenizerJson(R"(,"added_tokens":[{"id":3,"content":"x","lstrip":true}])"),
        std::string(R"({"pre_tokenizer":{"type":"Whitespace"}})"),
        std::string(R"({"pre_tokenizer":{"type":"ByteLevel"}})"),
        std::string(R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},)"
                    R"("decoder":{"type":"ByteLevel"},"model":{"type":"Unigram"}})")}) {
    EXPECT_TRUE(absl::IsUnimplemented(ParseTokenizerJson(text, "t").status())) << text;
  }
}

TEST(TokenizerJson, RefusesDamage) {
  for (const std::string& text : {
           std::string(""),
           std::string("[]"),
           TokenizerJson(R"(,"added_tokens":7)"),
           TokenizerJson(R"(,"added_tokens":[{"id":1,"content":"x"}])"),
           TokenizerJson(R"(,"added_tokens":[{"id":99999999,"content":"x"}])"),
           TokenizerJson(R"(,"added_tokens":[{"id":-1,"content":"x"}])"),
           TokenizerJson(R"(,"model":{})"),
       }) {
    EXPECT_EQ(ParseTokenizerJson(text, "t").status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
}

}  // namespace
}  // namespace ccoe::model
