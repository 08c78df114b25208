#include "services/gateway/openai_answer.h"

#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"

namespace ccoe::gateway {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kEuro[] = "\xE2\x82\xAC";

v1::TokenLogprob Token(int32_t id, const std::string& bytes, float logprob) {
  v1::TokenLogprob token;
  token.set_id(id);
  token.set_token(bytes);
  token.set_logprob(logprob);
  return token;
}

v1::GenerateStreamResponse StartedEvent() {
  v1::GenerateStreamResponse event;
  event.mutable_started()->set_request_id("r1");
  event.mutable_started()->set_model_digest("sha256:1");
  event.mutable_started()->mutable_route()->set_domain("sql");
  event.mutable_started()->mutable_route()->set_expert("queries");
  event.mutable_started()->mutable_route()->set_version("1.0.0");
  return event;
}

v1::GenerateStreamResponse DeltaEvent(const std::string& text) {
  v1::GenerateStreamResponse event;
  event.mutable_delta()->set_text(text);
  return event;
}

v1::GenerateStreamResponse FinishedEvent() {
  v1::GenerateStreamResponse event;
  event.mutable_finished()->set_reason(v1::FINISH_REASON_LENGTH);
  event.mutable_finished()->mutable_usage()->set_prompt_tokens(5);
  event.mutable_finished()->mutable_usage()->set_cached_tokens(4);
  event.mutable_finished()->mutable_usage()->set_completion_tokens(2);
  return event;
}

ChunkWriter::Options OptionsOf(ChunkWriter::Kind kind) {
  ChunkWriter::Options options;
  options.kind = kind;
  options.identity = {"id-1", "chunk", 1700000000};
  return options;
}

// The data of server-sent events: JSON, but for [DONE].
std::vector<std::string> DataOf(const std::string& events) {
  std::vector<std::string> data;
  for (const auto& event : absl::StrSplit(events, "\n\n")) {
    if (event.empty()) continue;
    EXPECT_EQ(event.substr(0, 6), "data: ");
    data.emplace_back(event.substr(6));
  }
  return data;
}

TEST(ChunkWriterTest, AChatStreamsAsOpenAisDoes) {
  ChunkWriter::Options options = OptionsOf(ChunkWriter::Kind::kChat);
  options.include_usage = true;
  ChunkWriter writer(options);
  std::string events = writer.Take(StartedEvent()) + writer.Take(DeltaEvent("SELECT"));
  events += writer.Take(DeltaEvent(""));  // tells nothing
  events += writer.Take(FinishedEvent());
  const std::vector<std::string> data = DataOf(events);
  ASSERT_EQ(data.size(), 5u);
  const Json first = Json::parse(data[0]), text = Json::parse(data[1]), last = Json::parse(data[2]);
  const Json usage = Json::parse(data[3]);
  EXPECT_EQ(first["id"], "id-1");
  EXPECT_EQ(first["model"], "sql@1.0.0");
  EXPECT_EQ(first["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(first["ccoe"]["request_id"], "r1");
  EXPECT_EQ(first["ccoe"]["route"]["expert"], "queries");
  EXPECT_TRUE(first["usage"].is_null());
  EXPECT_EQ(text["choices"][0]["delta"]["content"], "SELECT");
  EXPECT_TRUE(text["choices"][0]["finish_reason"].is_null());
  EXPECT_EQ(last["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(last["choices"][0]["delta"], Json::object());
  EXPECT_EQ(last["ccoe"]["cached_tokens"], 4);
  EXPECT_TRUE(usage["choices"].empty());
  EXPECT_EQ(usage["usage"]["total_tokens"], 7);
  EXPECT_EQ(data[4], "[DONE]");
}

TEST(ChunkWriterTest, APlanTellsItsSteps) {
  ChunkWriter writer(OptionsOf(ChunkWriter::Kind::kChat));
  writer.Take(StartedEvent());
  v1::GenerateStreamResponse begun;
  begun.mutable_step_started()->set_step(1);
  begun.mutable_step_started()->set_domain("law");
  EXPECT_EQ(writer.Take(begun), "");  // without a plan there is no instruction
  begun.mutable_step_started()->set_instruction("Explain.");
  const Json chunk = Json::parse(DataOf(writer.Take(begun)).at(0));
  EXPECT_EQ(chunk["ccoe"]["step_started"]["domain"], "law");
  EXPECT_EQ(chunk["choices"].size(), 1u);
  v1::GenerateStreamResponse ended;
  ended.mutable_step_finished()->set_step(1);
  EXPECT_EQ(Json::parse(DataOf(writer.Take(ended)).at(0))["ccoe"]["step_finished"]["step"], 1);
}

TEST(ChunkWriterTest, ACompletionCountsItsCharacters) {
  ChunkWriter::Options options = OptionsOf(ChunkWriter::Kind::kCompletion);
  options.logprobs = true;
  ChunkWriter writer(options);
  writer.Take(StartedEvent());
  v1::GenerateStreamResponse event = DeltaEvent(kEuro);
  *event.mutable_delta()->add_logprobs() = Token(1, kEuro, -1);
  EXPECT_EQ(Json::parse(DataOf(writer.Take(event)).at(0))["choices"][0]["text"], kEuro);
  const Json next = Json::parse(DataOf(writer.Take(event)).at(0));
  EXPECT_EQ(next["choices"][0]["logprobs"]["text_offset"], Json::array({1}));
}

TEST(ChatAnswerTest, TellsTokensThatAreNoCharacters) {
  v1::GenerateRequest request;
  request.mutable_output()->set_top_logprobs(1);
  v1::GenerateResponse answer;
  *answer.mutable_started() = StartedEvent().started();
  *answer.mutable_finished() = FinishedEvent().finished();
  answer.set_text("hi");
  v1::TokenLogprob token = Token(7, "\xE2\x82", -0.5F);
  *token.add_top() = Token(8, "hi", -0.25F);
  *answer.add_logprobs() = token;
  const Json json = ChatAnswer({"id", "chat.completion", 0}, answer, request);
  const Json told = json["choices"][0]["logprobs"]["content"][0];
  EXPECT_EQ(told["token"], "\xEF\xBF\xBD");
  EXPECT_EQ(told["bytes"], Json::array({0xE2, 0x82}));
  EXPECT_EQ(told["top_logprobs"][0]["token"], "hi");
  EXPECT_EQ(json["choices"][0]["message"]["content"], "hi");
  EXPECT_EQ(json["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
  EXPECT_FALSE(json.dump().empty());  // it is valid UTF-8
}

TEST(CompletionAnswerTest, EchoesTheFirstTokenWithoutAProbability) {
  CompletionChoice choice;
  choice.text = "ab";
  choice.first_has_none = true;
  choice.logprobs = {Token(1, "a", 0), Token(2, "b", -2)};
  *choice.logprobs[1].add_top() = Token(3, "c", -1);
  choice.started = StartedEvent().started();
  choice.finished = FinishedEvent().finished();
  CompletionChoice other = choice;
  const Json json = CompletionAnswer({"id", "text_completion", 0}, {choice, other}, true);
  const Json logprobs = json["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Json::array({"a", "b"}));
  EXPECT_EQ(logprobs["token_logprobs"], Json::array({nullptr, -2.0}));
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  EXPECT_EQ(logprobs["top_logprobs"][1], (Json{{"c", -1.0}, {"b", -2.0}}));
  EXPECT_EQ(logprobs["text_offset"], Json::array({0, 1}));
  EXPECT_EQ(json["choices"][1]["index"], 1);
  EXPECT_EQ(json["usage"]["prompt_tokens"], 10);
  EXPECT_TRUE(CompletionAnswer({}, {choice}, false)["choices"][0]["logprobs"].is_null());
}

}  // namespace
}  // namespace ccoe::gateway
