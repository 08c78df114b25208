#include "common/telemetry/log.h"

#include <algorithm>
#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace ccoe::telemetry {
namespace {

const absl::Time kTime = absl::FromUnixMillis(1'700'000'000'123);

TEST(LogTest, TextIsOneLineOfKeysAndValues) {
  EXPECT_EQ(FormatLogLine(LogFormat::kText, kTime, LogLevel::kInfo, "request_finished",
                          {{"request_id", "abc"},
                           {"tokens", 12},
                           {"ok", true},
                           {"total_ms", absl::Microseconds(1500)},
                           {"why", "two words"},
                           {"empty", ""}}),
            "2023-11-14T22:13:20.123Z info request_finished request_id=abc tokens=12 ok=true "
            "total_ms=1.500 why=\"two words\" empty=\"\"\n");
}

TEST(LogTest, JsonIsAnObjectWithTypes) {
  const std::string line = FormatLogLine(LogFormat::kJson, kTime, LogLevel::kError, "e",
                                         {{"text", "a\"b\n"}, {"count", 3}, {"ratio", 0.5}});
  const nlohmann::json json = nlohmann::json::parse(line);
  EXPECT_EQ(json["level"], "error");
  EXPECT_EQ(json["event"], "e");
  EXPECT_EQ(json["text"], "a\"b\n");
  EXPECT_EQ(json["count"], 3);
  EXPECT_EQ(json["ratio"], 0.5);
}

TEST(LogTest, AnOptionalTextIsThereOrNot) {
  const auto line = [](LogFormat format, std::string_view trace) {
    return FormatLogLine(format, kTime, LogLevel::kInfo, "e",
                         {{"a", 1}, LogField::IfAny("trace", trace), {"b", 2}});
  };
  EXPECT_EQ(line(LogFormat::kText, "x"), "2023-11-14T22:13:20.123Z info e a=1 trace=x b=2\n");
  EXPECT_EQ(line(LogFormat::kText, ""), "2023-11-14T22:13:20.123Z info e a=1 b=2\n");
  EXPECT_FALSE(nlohmann::json::parse(line(LogFormat::kJson, "")).contains("trace"));
}

TEST(LogTest, HostileValuesStayWithinOneLine) {
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    const std::string line =
        FormatLogLine(format, kTime, LogLevel::kInfo, "e", {{"value", "x\n\r\x1b[31m\xff y"}});
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
    EXPECT_EQ(line.find('\x1b'), std::string::npos);
    EXPECT_EQ(line.find('\xff'), std::string::npos);
  }
}

TEST(LogTest, KnowsItsLevels) {
  EXPECT_EQ(LogLevelByName("warning").value(), LogLevel::kWarning);
  EXPECT_FALSE(LogLevelByName("loud").ok());
}

}  // namespace
}  // namespace ccoe::telemetry
