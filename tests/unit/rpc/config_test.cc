#include "common/rpc/config.h"

#include <string>

#include "ccoe/internal/v1/config.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::rpc {
namespace {

using internal::v1::EngineConfig;
using internal::v1::LimitsConfig;
using internal::v1::ServeConfig;
using internal::v1::ServerConfig;
using testing::HasSubstr;

TEST(ConfigTest, ReadsProtobufsJson) {
  ServeConfig config;
  ASSERT_TRUE(ParseConfig(R"({"server": {"listen": ":0", "drain_timeout": "5s"},
                              "limits": {"maxOutputTokens": 7}})",
                          "test", &config)
                  .ok());
  EXPECT_EQ(config.server().listen(), ":0");
  EXPECT_EQ(config.server().drain_timeout().seconds(), 5);
  EXPECT_EQ(config.limits().max_output_tokens(), 7);
}

TEST(ConfigTest, RefusesWhatItDoesNotKnow) {
  ServeConfig config;
  const absl::Status status =
      ParseConfig(R"({"server": {"lisen": ":0"}})", "/etc/ccoe.json", &config);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/etc/ccoe.json"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("lisen"));
  EXPECT_FALSE(ParseConfig("{", "x", &config).ok());
  EXPECT_FALSE(ParseConfig(R"({"server": {"max_message_bytes": "many"}})", "x", &config).ok());
  EXPECT_EQ(LoadConfigFile("/nowhere/ccoe.json", &config).code(), absl::StatusCode::kNotFound);
}

TEST(ConfigTest, CompletesWithTheDocumentedDefaults) {
  ServeConfig config;
  config.mutable_engine()->set_model("m.gguf");
  ASSERT_TRUE(CompleteConfig(config.mutable_server()).ok());
  ASSERT_TRUE(CompleteConfig(config.mutable_engine()).ok());
  ASSERT_TRUE(CompleteConfig(config.mutable_limits()).ok());
  EXPECT_EQ(config.server().max_message_bytes(), 4 << 20);
  EXPECT_EQ(config.engine().arithmetic(), "fast");
  EXPECT_EQ(config.engine().kv_cache_mib(), 1024);
  EXPECT_EQ(config.limits().max_queue_time().seconds(), 30);
  EXPECT_EQ(config.limits().max_request_time().seconds(), 600);
}

TEST(ConfigTest, PrintsWhatItReadsBack) {
  ServeConfig config;
  config.mutable_engine()->set_model("m.gguf");
  ASSERT_TRUE(CompleteConfig(config.mutable_engine()).ok());
  ASSERT_TRUE(CompleteConfig(config.mutable_limits()).ok());
  ServeConfig again;
  ASSERT_TRUE(ParseConfig(ConfigToJson(config), "printed", &again).ok());
  EXPECT_EQ(again.SerializeAsString(), config.SerializeAsString());
}

TEST(ConfigTest, NamesTheKeyThatIsOutOfItsRange) {
  EngineConfig engine;
  EXPECT_THAT(std::string(CompleteConfig(&engine).message()), HasSubstr("engine.model"));
  engine.set_model("m.gguf");
  engine.set_kv_cache_mib(0);
  EXPECT_THAT(std::string(CompleteConfig(&engine).message()), HasSubstr("engine.kv_cache_mib"));
  LimitsConfig limits;
  limits.mutable_max_queue_time()->set_seconds(-1);
  EXPECT_THAT(std::string(CompleteConfig(&limits).message()), HasSubstr("limits.max_queue_time"));
  ServerConfig server;
  server.set_log_level("loud");
  EXPECT_FALSE(CompleteConfig(&server).ok());
}

}  // namespace
}  // namespace ccoe::rpc
