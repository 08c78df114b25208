#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace ccoe::telemetry {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// INVALID_ARGUMENT lists the names: debug, info, warning, error.
absl::StatusOr<LogLevel> LogLevelByName(std::string_view name);

// One key and value of a log line. Keys are literals in snake_case, with the unit in the name.
// Prompts and answers are never values.
class LogField {
 public:
  LogField(std::string_view key, std::string_view value)
      : key_(key), value_(value), is_text_(true) {}
  LogField(std::string_view key, const char* value) : LogField(key, std::string_view(value)) {}
  LogField(std::string_view key, const std::string& value)
      : LogField(key, std::string_view(value)) {}
  template <std::integral T>
  LogField(std::string_view key, T value)
      : key_(key), value_(std::to_string(value)), is_text_(false) {}
  LogField(std::string_view key, bool value)
      : key_(key), value_(value ? "true" : "false"), is_text_(false) {}
  LogField(std::string_view key, double value);
  // In milliseconds; the key ends in _ms.
  LogField(std::string_view key, absl::Duration value);
  // A text that the line leaves out when it is empty.
  static LogField IfAny(std::string_view key, std::string_view value) {
    return {value.empty() ? std::string_view() : key, value};
  }

  std::string_view key() const { return key_; }  // empty: the field is left out
  const std::string& value() const { return value_; }
  // Whether JSON shows it as a string.
  bool is_text() const { return is_text_; }

 private:
  std::string_view key_;
  std::string value_;
  bool is_text_;
};

// What lines are written from now on. Default: info, text.
void ConfigureLog(LogLevel least, LogFormat format);

// Writes one line to standard error: time, level, event, fields. Thread-safe; lines never mix.
void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields);

inline void LogDebug(std::string_view event, std::initializer_list<LogField> fields) {
  Log(LogLevel::kDebug, event, fields);
}
inline void LogInfo(std::string_view event, std::initializer_list<LogField> fields) {
  Log(LogLevel::kInfo, event, fields);
}
inline void LogWarning(std::string_view event, std::initializer_list<LogField> fields) {
  Log(LogLevel::kWarning, event, fields);
}
inline void LogError(std::string_view event, std::initializer_list<LogField> fields) {
  Log(LogLevel::kError, event, fields);
}

// The line that Log writes, with its newline. Control characters are escaped, and what is not UTF-8
// is replaced, so that it is one line whatever the values are.
std::string FormatLogLine(LogFormat format, absl::Time time, LogLevel level, std::string_view event,
                          std::initializer_list<LogField> fields);

}  // namespace ccoe::telemetry
