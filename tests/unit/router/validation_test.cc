#include "services/router/validation.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "ccoe/v1/generation_service.pb.h"
#include "common/base/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::router {
namespace {

using testing::HasSubstr;

v1::GenerateRequest Simple() {
  v1::GenerateRequest request;
  request.mutable_text()->set_text("hello");
  return request;
}

absl::Status StatusOf(const v1::GenerateRequest& request) {
  return ParseGenerate(request, Limits(), 5).status();
}

TEST(ValidationTest, UnsetFieldsHaveTheDocumentedDefaults) {
  const auto parsed = ParseGenerate(Simple(), Limits(), 5);
  ASSERT_TRUE(parsed.ok());
  EXPECT_FLOAT_EQ(parsed->sampling.temperature, 0.7F);
  EXPECT_FLOAT_EQ(parsed->sampling.top_p, 0.95F);
  EXPECT_EQ(parsed->sampling.top_k, 0);
  EXPECT_EQ(parsed->sampling.seed, 5u);
  EXPECT_EQ(parsed->sampling.top_logprobs, -1);
  EXPECT_EQ(parsed->stop.max_tokens, 256);
  EXPECT_EQ(parsed->max_queue_time, Limits().max_queue_time);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(parsed->target));
}

TEST(ValidationTest, ZeroIsNotUnset) {
  v1::GenerateRequest request = Simple();
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_seed(0);
  request.mutable_stop()->set_max_tokens(0);
  request.mutable_output()->set_top_logprobs(0);
  const auto parsed = ParseGenerate(request, Limits(), 5);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->sampling.temperature, 0);
  EXPECT_EQ(parsed->sampling.seed, 0u);
  EXPECT_EQ(parsed->stop.max_tokens, 0);
  EXPECT_EQ(parsed->sampling.top_logprobs, 0);
}

struct BadField {
  std::string field;
  std::function<void(v1::GenerateRequest&)> spoil;
};

TEST(ValidationTest, EveryFieldOutOfItsRangeIsNamed) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<BadField> cases = {
      {"input", [](auto& r) { r.clear_input(); }},
      {"text.text",
       [](auto& r) {
         r.mutable_text();
         r.mutable_text()->clear_text();
       }},
      {"token_ids.ids", [](auto& r) { r.mutable_token_ids(); }},
      {"chat.messages", [](auto& r) { r.mutable_chat(); }},
      {"domain", [](auto& r) { r.set_domain(""); }},
      {"expert.name", [](auto& r) { r.mutable_expert(); }},
      {"routing",
       [](auto& r) {
         r.set_domain("sql");
         r.mutable_routing();
       }},
      {"routing.min_confidence", [](auto& r) { r.mutable_routing()->set_min_confidence(1.1); }},
      {"routing.on_unsure",
       [](auto& r) {
         r.mutable_routing()->set_on_unsure(static_cast<v1::RoutingOptions::OnUnsure>(9));
       }},
      {"sampling.temperature", [](auto& r) { r.mutable_sampling()->set_temperature(-1); }},
      {"sampling.temperature", [=](auto& r) { r.mutable_sampling()->set_temperature(nan); }},
      {"sampling.top_k", [](auto& r) { r.mutable_sampling()->set_top_k(-1); }},
      {"sampling.top_p", [](auto& r) { r.mutable_sampling()->set_top_p(0); }},
      {"sampling.min_p", [](auto& r) { r.mutable_sampling()->set_min_p(1); }},
      {"sampling.repetition_penalty",
       [](auto& r) { r.mutable_sampling()->set_repetition_penalty(0); }},
      {"sampling.presence_penalty", [](auto& r) { r.mutable_sampling()->set_presence_penalty(3); }},
      {"sampling.frequency_penalty",
       [](auto& r) { r.mutable_sampling()->set_frequency_penalty(-3); }},
      {"stop.max_tokens", [](auto& r) { r.mutable_stop()->set_max_tokens(-1); }},
      {"stop.max_tokens", [](auto& r) { r.mutable_stop()->set_max_tokens(1 << 30); }},
      {"stop.stop_sequences", [](auto& r) { r.mutable_stop()->add_stop_sequences(""); }},
      {"stop.stop_sequences",
       [](auto& r) { r.mutable_stop()->add_stop_sequences(std::string(257, 'x')); }},
      {"output.top_logprobs", [](auto& r) { r.mutable_output()->set_top_logprobs(21); }},
      {"max_queue_time", [](auto& r) { r.mutable_max_queue_time(); }},
      {"max_queue_time", [](auto& r) { r.mutable_max_queue_time()->set_seconds(-5); }},
  };
  for (const BadField& bad : cases) {
    v1::GenerateRequest request = Simple();
    bad.spoil(request);
    const absl::Status status = StatusOf(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.field;
    const base::ErrorDetails details = base::DetailsOf(status);
    ASSERT_FALSE(details.metadata.empty()) << bad.field;
    EXPECT_EQ(details.metadata[0].second, bad.field) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.field));
  }
}

TEST(ValidationTest, ConversationsAreChecked) {
  v1::GenerateRequest request;
  v1::Chat& chat = *request.mutable_chat();
  const auto add = [&chat](v1::Role role, const std::string& content) {
    v1::ChatMessage& message = *chat.add_messages();
    message.set_role(role);
    message.set_content(content);
  };
  add(v1::ROLE_SYSTEM, "be kind");
  EXPECT_FALSE(StatusOf(request).ok());  // no question
  add(v1::ROLE_USER, "first");
  add(v1::ROLE_ASSISTANT, "answer");
  add(v1::ROLE_USER, "last");
  const auto parsed = ParseGenerate(request, Limits(), 0);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->input.gate_text, "last");
  add(v1::ROLE_SYSTEM, "late");
  EXPECT_FALSE(StatusOf(request).ok());
  chat.mutable_messages()->RemoveLast();
  add(v1::ROLE_UNSPECIFIED, "who");
  EXPECT_FALSE(StatusOf(request).ok());
}

TEST(ValidationTest, UnknownFieldsAreRefusedWhereverTheyStand) {
  v1::GenerateRequest request = Simple();
  // Field 20 (a field to come), a varint of 2.
  ASSERT_TRUE(request.MergeFromString(std::string("\xa0\x01\x02", 3)));
  EXPECT_EQ(base::ReasonOf(StatusOf(request)), base::Reason::kUnsupportedField);
  v1::GenerateRequest nested = Simple();
  ASSERT_TRUE(nested.mutable_sampling()->MergeFromString(std::string("\xa0\x06\x02", 3)));
  const absl::Status status = StatusOf(nested);
  EXPECT_EQ(base::ReasonOf(status), base::Reason::kUnsupportedField);
  EXPECT_THAT(std::string(status.message()), HasSubstr("SamplingParams"));
}

TEST(ValidationTest, ScoreNeedsAContinuation) {
  v1::ScoreRequest request;
  request.mutable_text()->set_text("a");
  EXPECT_FALSE(ParseScore(request, Limits()).ok());
  request.mutable_continuation_ids();
  EXPECT_FALSE(ParseScore(request, Limits()).ok());
  request.set_continuation_text("b");
  const auto parsed = ParseScore(request, Limits());
  ASSERT_TRUE(parsed.ok());
  EXPECT_TRUE(parsed->continuation.has_value());
  EXPECT_EQ(parsed->sampling.top_logprobs, 0);
  request.set_top_logprobs(20);
  EXPECT_EQ(ParseScore(request, Limits())->sampling.top_logprobs, 20);
  request.set_top_logprobs(21);
  EXPECT_FALSE(ParseScore(request, Limits()).ok());
}

}  // namespace
}  // namespace ccoe::router
