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

constexpr char kModel[] = CCOE_TEST_SOURCE_DIR "/goldens/tiny/llama";

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
  config.mutable_engine()->set_model(kModel);
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
  config.mutable_engine()->set_model(kModel);
  ASSERT_TRUE(CompleteConfig(config.mutable_engine()).ok());
  ASSERT_TRUE(CompleteConfig(config.mutable_limits()).ok());
  ServeConfig again;
  ASSERT_TRUE(ParseConfig(ConfigToJson(config), "printed", &again).ok());
  EXPECT_EQ(again.SerializeAsString(), config.SerializeAsString());
}

TEST(ConfigTest, NamesTheKeyThatIsOutOfItsRange) {
  EngineConfig engine;
  EXPECT_THAT(std::string(CompleteConfig(&engine).message()), HasSubstr("engine.model"));
  engine.set_model(kModel);
  engine.set_kv_cache_mib(0);
  EXPECT_THAT(std::string(CompleteConfig(&engine).message()), HasSubstr("engine.kv_cache_mib"));
  engine.set_kv_cache_mib(1);
  engine.set_arithmetic("precise");
  EXPECT_THAT(std::string(CompleteConfig(&engine).message()), HasSubstr("engine.arithmetic"));
  LimitsConfig limits;
  limits.mutable_max_queue_time()->set_seconds(-1);
  EXPECT_THAT(std::string(CompleteConfig(&limits).message()), HasSubstr("limits.max_queue_time"));
  ServerConfig server;
  server.set_log_level("loud");
  EXPECT_FALSE(CompleteConfig(&server).ok());
}

TEST(ConfigTest, RefusesAKeyThatAppearsTwice) {
  ServeConfig config;
  const absl::Status status =
      ParseConfig(R"({"server": {"listen": ":1", "listen": ":2"}})", "/etc/ccoe.json", &config);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("/etc/ccoe.json: the key \"listen\" appears twice"));
}

TEST(ConfigTest, ChecksTheFormOfAddresses) {
  for (const char* good :
       {"127.0.0.1:0", ":9464", "localhost:65535", "[::1]:50051", "unix:/run/ccoe.sock"}) {
    ServerConfig server;
    server.set_listen(good);
    server.set_health_listen(good);
    EXPECT_TRUE(CompleteConfig(&server).ok()) << good;
  }
  for (const char* bad :
       {"foo", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1", "host:1x", "::1:50051", "unix:"}) {
    ServerConfig server;
    server.set_health_listen(bad);
    const absl::Status status = CompleteConfig(&server);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("server.health_listen")) << bad;
  }
  ServerConfig server;
  server.set_metrics_listen("unix:/run/ccoe.sock");
  EXPECT_FALSE(CompleteConfig(&server).ok());
}

TEST(ConfigTest, ExposesNoPortThatAsksForNoKey) {
  ServerConfig server;
  for (const char* local : {"", "127.0.0.1:0", "127.1.2.3:50051", "localhost:50051", "[::1]:50051",
                            "unix:/run/ccoe.sock"}) {
    EXPECT_TRUE(CheckExposed("admin_listen", local, server, "").ok()) << local;
  }
  for (const char* open : {":50051", "0.0.0.0:50051", "[::]:50051", "192.168.0.1:50051",
                           "128.0.0.1:50051", "example.org:50051", "localhost.example.org:50051",
                           "127.0.0.1.example.org:50051", "[::ffff:10.0.0.1]:50051"}) {
    const absl::Status status = CheckExposed("admin_listen", open, server, "");
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << open;
    EXPECT_THAT(std::string(status.message()), HasSubstr("--allow-unauthenticated")) << open;
    server.set_allow_unauthenticated(true);
    EXPECT_TRUE(CheckExposed("admin_listen", open, server, "").ok()) << open;
    server.set_allow_unauthenticated(false);
  }
}

TEST(ConfigTest, ChecksTheFormOfPeers) {
  for (const char* good : {"localhost:50061", "dns:///experts:50061", "unix:/run/expert.sock"}) {
    EXPECT_TRUE(CheckPeer("peers.address", good).ok()) << good;
  }
  for (const char* bad : {"", "expert", ":50061", "expert:0", "expert:65536"}) {
    EXPECT_THAT(std::string(CheckPeer("peers.address", bad).message()), HasSubstr("peers.address"))
        << bad;
  }
}

TEST(ConfigTest, NamesThePathThatIsNotThere) {
  EngineConfig engine;
  engine.set_model("/nowhere/m.gguf");
  EXPECT_EQ(CompleteConfig(&engine).message(), "engine.model: there is no /nowhere/m.gguf");
  EXPECT_EQ(CheckExperts("/nowhere").message(), "experts: there is no folder /nowhere");
  EXPECT_TRUE(CheckExperts("").ok());
}

}  // namespace
}  // namespace ccoe::rpc
