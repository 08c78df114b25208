#include "services/cli/request_options.h"

#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

TEST(RequestFromTest, WhatIsNotGivenStaysUnset) {
  const v1::GenerateRequest request = RequestFrom({});
  EXPECT_EQ(request.target_case(), v1::GenerateRequest::TARGET_NOT_SET);
  EXPECT_FALSE(request.sampling().has_temperature());
  EXPECT_FALSE(request.sampling().has_top_p());
  EXPECT_FALSE(request.sampling().has_seed());
  EXPECT_FALSE(request.stop().has_max_tokens());
  EXPECT_TRUE(request.output().token_ids());
}

TEST(RequestFromTest, ZeroTemperatureIsSent) {
  RequestOptions options;
  options.temperature = 0;
  EXPECT_TRUE(RequestFrom(options).sampling().has_temperature());
}

TEST(RequestFromTest, ExpertWithAndWithoutVersion) {
  RequestOptions options;
  options.expert = "sql@1.2.0";
  EXPECT_EQ(RequestFrom(options).expert().name(), "sql");
  EXPECT_EQ(RequestFrom(options).expert().version(), "1.2.0");
  options.expert = "sql";
  EXPECT_EQ(RequestFrom(options).expert().name(), "sql");
  EXPECT_EQ(RequestFrom(options).expert().version(), "");
}

TEST(ReadPromptTest, RefusesWhatIsNoPrompt) {
  EXPECT_EQ(ReadPrompt("").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadPrompt("\xff").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadPrompt("hello").value(), "hello");
}

}  // namespace
}  // namespace ccoe::cli
