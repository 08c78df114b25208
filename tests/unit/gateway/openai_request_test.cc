#include "services/gateway/openai_request.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/gateway/http_error.h"

namespace ccoe::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr size_t kMaxBytes = 1 << 20;

// A chat request with more fields: `, "n": 2`.
absl::StatusOr<ChatRequest> Chat(const std::string& fields) {
  return ParseChatRequest(
      absl::StrCat(R"({"model": "auto", "messages": [{"role": "user", "content": "hi"}])", fields,
                   "}"),
      kMaxBytes);
}

absl::StatusOr<CompletionRequest> Completion(const std::string& fields) {
  return ParseCompletionRequest(absl::StrCat(R"({"model": "sql", "prompt": "hi")", fields, "}"),
                                kMaxBytes);
}

// "code param" of the answer to a request that is refused.
template <typename Parsed>
std::string RefusalOf(const absl::StatusOr<Parsed>& parsed) {
  if (parsed.ok()) return "accepted";
  const nlohmann::ordered_json error = ErrorJson(parsed.status())["error"];
  return absl::StrCat(error["code"].get<std::string>(), " ",
                      error["param"].is_null() ? "null" : error["param"].get<std::string>());
}

TEST(ModelNameTest, NamesTheGateADomainOrAVersion) {
  EXPECT_EQ(ParseModelName("auto")->domain, "");
  EXPECT_EQ(ParseModelName("sql")->domain, "sql");
  EXPECT_EQ(ParseModelName("sql@1.0.0")->domain, "sql");
  EXPECT_EQ(ParseModelName("sql@1.0.0")->version, "1.0.0");
  for (const char* wrong : {"", "@1", "sql@"}) EXPECT_FALSE(ParseModelName(wrong).ok()) << wrong;
}

TEST(ChatRequestTest, TakesWhatOpenAisClientsSend) {
  const auto chat = ParseChatRequest(R"({
    "model": "sql@1.0.0",
    "messages": [
      {"role": "developer", "content": "Be brief."},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": "c", "refusal": null},
      {"role": "user", "content": "d"}],
    "max_completion_tokens": 7, "temperature": 0, "top_p": 0.5, "stop": "END", "seed": -1,
    "presence_penalty": 0.25, "frequency_penalty": -0.5, "logprobs": true, "top_logprobs": 3,
    "stream": true, "stream_options": {"include_usage": true}, "user": "u", "metadata": {"a": "b"},
    "n": 1, "tools": [], "tool_choice": "none", "response_format": {"type": "text"},
    "logit_bias": {}})",
                                     kMaxBytes);
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(chat->model.version, "1.0.0");
  EXPECT_TRUE(chat->streaming.stream);
  EXPECT_TRUE(chat->streaming.include_usage);
  const v1::GenerateRequest& request = chat->generate;
  ASSERT_EQ(request.chat().messages_size(), 4);
  EXPECT_EQ(request.chat().messages(0).role(), v1::ROLE_SYSTEM);
  EXPECT_EQ(request.chat().messages(1).content(), "ab");
  EXPECT_EQ(request.chat().messages(2).role(), v1::ROLE_ASSISTANT);
  EXPECT_EQ(request.stop().max_tokens(), 7);
  EXPECT_THAT(request.stop().stop_sequences(), ElementsAre("END"));
  EXPECT_TRUE(request.sampling().has_temperature());
  EXPECT_EQ(request.sampling().temperature(), 0);
  EXPECT_EQ(request.sampling().top_p(), 0.5F);
  EXPECT_EQ(request.sampling().seed(), 18446744073709551615u);
  EXPECT_EQ(request.sampling().presence_penalty(), 0.25F);
  EXPECT_EQ(request.sampling().frequency_penalty(), -0.5F);
  EXPECT_EQ(request.output().top_logprobs(), 3);
  EXPECT_FALSE(request.has_plan());
  EXPECT_FALSE(request.has_routing());
}

TEST(ChatRequestTest, LeavesDefaultsToTheServer) {
  const auto chat = Chat("");
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_FALSE(chat->generate.sampling().has_temperature());
  EXPECT_FALSE(chat->generate.sampling().has_top_p());
  EXPECT_FALSE(chat->generate.sampling().has_seed());
  EXPECT_FALSE(chat->generate.stop().has_max_tokens());
  EXPECT_FALSE(chat->generate.output().has_top_logprobs());
  EXPECT_FALSE(chat->streaming.stream);
}

TEST(ChatRequestTest, TakesTheExtension) {
  const auto chat = Chat(R"(, "ccoe": {
    "plan": [{"domain": "sql", "instruction": "Write.", "max_tokens": 5}, {"instruction": "Explain."}],
    "min_confidence": 0.5, "on_unsure": "fail", "top_k": 40, "min_p": 0.1,
    "repetition_penalty": 1.5, "max_queue_time_ms": 1500})");
  ASSERT_TRUE(chat.ok()) << chat.status();
  const v1::GenerateRequest& request = chat->generate;
  ASSERT_EQ(request.plan().steps_size(), 2);
  EXPECT_EQ(request.plan().steps(0).domain(), "sql");
  EXPECT_EQ(request.plan().steps(0).max_tokens(), 5);
  EXPECT_EQ(request.plan().steps(1).target_case(), v1::PlanStep::TARGET_NOT_SET);
  EXPECT_EQ(request.routing().min_confidence(), 0.5);
  EXPECT_EQ(request.routing().on_unsure(), v1::RoutingOptions::ON_UNSURE_FAIL);
  EXPECT_EQ(request.sampling().top_k(), 40);
  EXPECT_EQ(request.sampling().min_p(), 0.1F);
  EXPECT_EQ(request.sampling().repetition_penalty(), 1.5F);
  EXPECT_EQ(request.max_queue_time().seconds(), 1);
  EXPECT_EQ(request.max_queue_time().nanos(), 500'000'000);
  EXPECT_TRUE(Chat(R"(, "ccoe": {"plan": "auto"})")->generate.plan().automatic());
}

TEST(ChatRequestTest, RefusesWhatItDoesNotSupportByItsName) {
  const auto refused = [](const char* fields) { return RefusalOf(Chat(fields)); };
  EXPECT_EQ(refused(R"(, "n": 2)"), "unsupported_parameter n");
  EXPECT_EQ(refused(R"(, "tools": [{"type": "function"}])"), "unsupported_parameter tools");
  EXPECT_EQ(refused(R"(, "tool_choice": "auto")"), "unsupported_parameter tool_choice");
  EXPECT_EQ(refused(R"(, "functions": [{}])"), "unsupported_parameter functions");
  EXPECT_EQ(refused(R"(, "response_format": {"type": "json_object"})"),
            "unsupported_parameter response_format");
  EXPECT_EQ(refused(R"(, "logit_bias": {"1": 5})"), "unsupported_parameter logit_bias");
  EXPECT_EQ(refused(R"(, "temprature": 1)"), "unsupported_parameter temprature");
  EXPECT_EQ(refused(R"(, "ccoe": {"topk": 1})"), "unsupported_parameter ccoe.topk");
  EXPECT_EQ(refused(R"(, "stream": true, "stream_options": {"x": 1})"),
            "unsupported_parameter stream_options.x");
  const auto image = ParseChatRequest(
      R"({"model": "auto", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
      kMaxBytes);
  EXPECT_EQ(RefusalOf(image), "unsupported_parameter messages[0].content[0].type");
  const auto tool = ParseChatRequest(
      R"({"model": "auto", "messages": [{"role": "tool", "content": "x"}]})", kMaxBytes);
  EXPECT_EQ(RefusalOf(tool), "unsupported_parameter messages[0].role");
}

TEST(ChatRequestTest, RefusesWhatIsWrongByItsName) {
  const auto refused = [](const char* fields) { return RefusalOf(Chat(fields)); };
  EXPECT_EQ(refused(R"(, "temperature": "hot")"), "invalid_request temperature");
  EXPECT_EQ(refused(R"(, "max_tokens": 0)"), "invalid_request max_tokens");
  EXPECT_EQ(refused(R"(, "max_tokens": 1.5)"), "invalid_request max_tokens");
  EXPECT_EQ(refused(R"(, "max_tokens": 18446744073709551615)"), "invalid_request max_tokens");
  EXPECT_EQ(refused(R"(, "max_tokens": 1, "max_completion_tokens": 1)"),
            "invalid_request max_tokens");
  EXPECT_EQ(refused(R"(, "stop": [1])"), "invalid_request stop");
  EXPECT_EQ(refused(R"(, "top_logprobs": 1)"), "invalid_request top_logprobs");
  EXPECT_EQ(refused(R"(, "logprobs": true, "top_logprobs": 21)"), "invalid_request top_logprobs");
  EXPECT_EQ(refused(R"(, "stream_options": {})"), "invalid_request stream_options");
  EXPECT_EQ(refused(R"(, "ccoe": {"plan": []})"), "invalid_request ccoe.plan");
  EXPECT_EQ(refused(R"(, "ccoe": {"on_unsure": "x"})"), "invalid_request ccoe.on_unsure");
  EXPECT_EQ(RefusalOf(ParseChatRequest(R"({"messages": []})", kMaxBytes)), "invalid_request model");
  EXPECT_EQ(RefusalOf(ParseChatRequest("[1]", kMaxBytes)), "invalid_request null");
  EXPECT_EQ(RefusalOf(ParseChatRequest("{", kMaxBytes)), "invalid_request null");
  EXPECT_THAT(ParseChatRequest(R"({"n": 1, "n": 2})", kMaxBytes).status().message(),
              HasSubstr("twice"));
}

TEST(CompletionRequestTest, TakesEveryFormOfAPrompt) {
  EXPECT_EQ(Completion("")->prompts[0].text, "hi");
  EXPECT_EQ(Completion("")->generate.stop().max_tokens(), 16);
  const auto of = [](const std::string& prompt) {
    return ParseCompletionRequest(absl::StrCat(R"({"model": "sql", "prompt": )", prompt, "}"),
                                  kMaxBytes);
  };
  EXPECT_THAT(of("[1, 2]")->prompts[0].token_ids, ElementsAre(1, 2));
  const auto many = of(R"([[1], "b", [2, 3]])");
  ASSERT_TRUE(many.ok()) << many.status();
  ASSERT_EQ(many->prompts.size(), 3u);
  EXPECT_EQ(many->prompts[1].text, "b");
  EXPECT_THAT(many->prompts[2].token_ids, ElementsAre(2, 3));
  for (const char* wrong : {"[]", "\"\"", "[[]]", "[-1]", "[1.5]", "[1, \"a\"]", "{}", "7"}) {
    EXPECT_FALSE(of(wrong).ok()) << wrong;
  }
}

TEST(CompletionRequestTest, EchoAllowsNoTokens) {
  const auto echoed = Completion(R"(, "echo": true, "max_tokens": 0, "logprobs": 5)");
  ASSERT_TRUE(echoed.ok()) << echoed.status();
  EXPECT_TRUE(echoed->echo);
  EXPECT_EQ(echoed->generate.stop().max_tokens(), 0);
  EXPECT_EQ(echoed->generate.output().top_logprobs(), 5);
  EXPECT_EQ(RefusalOf(Completion(R"(, "max_tokens": 0)")), "invalid_request max_tokens");
}

TEST(CompletionRequestTest, RefusesWhatItDoesNotSupport) {
  EXPECT_EQ(RefusalOf(Completion(R"(, "best_of": 2)")), "unsupported_parameter best_of");
  EXPECT_EQ(RefusalOf(Completion(R"(, "suffix": "x")")), "unsupported_parameter suffix");
  EXPECT_EQ(RefusalOf(Completion(R"(, "stream": true, "echo": true)")),
            "unsupported_parameter echo");
  EXPECT_EQ(RefusalOf(Completion(R"(, "ccoe": {"plan": "auto"})")),
            "unsupported_parameter ccoe.plan");
  EXPECT_EQ(RefusalOf(Completion(R"(, "messages": [])")), "unsupported_parameter messages");
}

TEST(RouteRequestTest, TakesMessagesOrAPrompt) {
  const auto text = ParseRouteRequest(R"({"prompt": "hi"})", kMaxBytes);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->text().text(), "hi");
  EXPECT_TRUE(text->explain());
  const auto chat =
      ParseRouteRequest(R"({"messages": [{"role": "user", "content": "hi"}]})", kMaxBytes);
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(chat->chat().messages_size(), 1);
  EXPECT_FALSE(ParseRouteRequest("{}", kMaxBytes).ok());
}

}  // namespace
}  // namespace ccoe::gateway
