#include "common/telemetry/log.h"

#include <unistd.h>

#include <atomic>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"

namespace ccoe::telemetry {
namespace {

std::atomic<LogLevel> g_least{LogLevel::kInfo};
std::atomic<LogFormat> g_format{LogFormat::kText};

std::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "error";
}

std::string Quoted(std::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

// A text value without quotes where it needs none.
std::string TextValue(const LogField& field) {
  if (!field.is_text()) return field.value();
  bool plain = !field.value().empty();
  for (const char c : field.value()) {
    plain = plain && c > ' ' && c < 0x7f && c != '"' && c != '=' && c != '\\';
  }
  return plain ? field.value() : Quoted(field.value());
}

}  // namespace

LogField::LogField(std::string_view key, double value)
    : key_(key), value_(absl::StrFormat("%.6g", value)), is_text_(false) {}

LogField::LogField(std::string_view key, absl::Duration value)
    : key_(key),
      value_(absl::StrFormat("%.3f", absl::ToDoubleMilliseconds(value))),
      is_text_(false) {}

absl::StatusOr<LogLevel> LogLevelByName(std::string_view name) {
  for (const LogLevel level :
       {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    if (LevelName(level) == name) return level;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown log level '", std::string(name), "': use debug, info, warning, error"));
}

void ConfigureLog(LogLevel least, LogFormat format) {
  g_least = least;
  g_format = format;
}

std::string FormatLogLine(LogFormat format, absl::Time time, LogLevel level, std::string_view event,
                          std::initializer_list<LogField> fields) {
  const std::string stamp = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
  std::string line;
  if (format == LogFormat::kText) {
    line = absl::StrCat(stamp, " ", std::string(LevelName(level)), " ", std::string(event));
    for (const LogField& field : fields) {
      if (field.key().empty()) continue;
      absl::StrAppend(&line, " ", std::string(field.key()), "=", TextValue(field));
    }
  } else {
    line = absl::StrCat("{\"time\":\"", stamp, "\",\"level\":\"", std::string(LevelName(level)),
                        "\",\"event\":", Quoted(event));
    for (const LogField& field : fields) {
      if (field.key().empty()) continue;
      absl::StrAppend(&line, ",", Quoted(field.key()), ":",
                      field.is_text() ? Quoted(field.value()) : field.value());
    }
    line += '}';
  }
  line += '\n';
  return line;
}

void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  if (level < g_least.load(std::memory_order_relaxed)) return;
  const std::string line = FormatLogLine(g_format, absl::Now(), level, event, fields);
  // One write per line: the kernel keeps lines of several threads and processes apart. A log that
  // cannot be written is not worth failing for.
  const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  static_cast<void>(written);
}

}  // namespace ccoe::telemetry
