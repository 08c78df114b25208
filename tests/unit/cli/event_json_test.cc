#include "services/cli/event_json.h"

#include "common/base/error.h"
#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

v1::GenerateStreamResponse StartedEvent() {
  v1::GenerateStreamResponse event;
  v1::Started& started = *event.mutable_started();
  started.set_request_id("r1");
  started.set_seed(18446744073709551615u);
  started.mutable_route()->set_domain("sql");
  started.mutable_route()->set_expert("sql");
  started.mutable_route()->set_version("1.0.0");
  started.mutable_route()->set_stage(v1::ROUTE_STAGE_RULES);
  started.mutable_route()->set_confidence(0.75);
  started.mutable_route()->set_runner_up("general");
  return event;
}

v1::GenerateStreamResponse DeltaEvent(const std::string& text, int32_t id) {
  v1::GenerateStreamResponse event;
  event.mutable_delta()->set_text(text);
  event.mutable_delta()->add_token_ids(id);
  return event;
}

TEST(AnswerJsonTest, HoldsWhatScriptsRelyOn) {
  Answer answer;
  Append(StartedEvent(), &answer);
  Append(DeltaEvent("SELECT", 7), &answer);
  Append(DeltaEvent(" 1", 9), &answer);
  v1::GenerateStreamResponse last;
  last.mutable_finished()->set_reason(v1::FINISH_REASON_STOP_SEQUENCE);
  last.mutable_finished()->set_matched_stop(";");
  last.mutable_finished()->mutable_usage()->set_completion_tokens(2);
  last.mutable_finished()->mutable_timings()->mutable_decode()->set_nanos(2'500'000);
  Append(last, &answer);

  const nlohmann::ordered_json json = AnswerJson(answer);
  EXPECT_EQ(json["text"], "SELECT 1");
  EXPECT_EQ(json["token_ids"].dump(), "[7,9]");
  EXPECT_EQ(json["domain"], "sql");
  EXPECT_EQ(json["expert"], "sql");
  EXPECT_EQ(json["route"]["stage"], "rules");
  EXPECT_EQ(json["route"]["runner_up"], "general");
  EXPECT_EQ(json["finish_reason"], "stop_sequence");
  EXPECT_EQ(json["matched_stop"], ";");
  EXPECT_EQ(json["usage"]["completion_tokens"], 2);
  EXPECT_EQ(json["timings_ms"]["decode"], 2.5);
  EXPECT_EQ(json["seed"], 18446744073709551615u);
}

TEST(AnswerJsonTest, EmptyAnswerHasAnEmptyList) {
  EXPECT_EQ(AnswerJson(Answer())["token_ids"].dump(), "[]");
}

TEST(ErrorJsonTest, TellsWhatProgramsBranchOn) {
  EXPECT_EQ(ErrorJson(base::MakeError(base::Reason::kQueueFull, "9 wait")).dump(),
            R"({"event":"error","code":"RESOURCE_EXHAUSTED","reason":"QUEUE_FULL",)"
            R"("message":"9 wait","retryable":true})");
  EXPECT_EQ(ErrorJson(base::MakeError(base::Reason::kSessionTooLarge, ""))["retryable"], false);
  EXPECT_EQ(ErrorJson(absl::NotFoundError("no file"))["reason"], "NOT_FOUND");
}

}  // namespace
}  // namespace ccoe::cli
