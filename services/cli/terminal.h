#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace ccoe::cli {

enum class Style { kPlain, kBold, kDim, kRed, kGreen, kCyan };

// Where commands write. Results go to standard output, everything else to standard error; colour
// only to a terminal (and not with NO_COLOR). Used by one thread at a time.
class Terminal {
 public:
  Terminal();

  bool in_is_terminal() const { return in_is_terminal_; }
  bool out_is_terminal() const { return out_is_terminal_; }
  bool err_is_terminal() const { return err_is_terminal_; }

  // Writes to standard output at once. False when nobody reads it any more.
  bool Out(absl::string_view text);
  // Text that a model wrote: control characters do not reach a terminal.
  bool OutUntrusted(absl::string_view text);
  // One line of JSON; what is not UTF-8 in it is replaced.
  bool OutJson(const nlohmann::ordered_json& json);

  void Err(absl::string_view text);
  // "ccoe: error: ..." with the message, one line or more.
  void Error(absl::string_view message);
  // Why a command fails: Error(message), unless that is empty, and after AnswerInJson the line of
  // ErrorJson(status) on standard output.
  void Fail(const absl::Status& status, absl::string_view message);
  // As Fail with the status's own message.
  void Fail(const absl::Status& status) { Fail(status, status.message()); }
  // The command was given --json.
  void AnswerInJson() { answers_in_json_ = true; }

  // `text` in a style, for standard output or standard error; plain when that is no terminal.
  std::string ForOut(Style style, absl::string_view text) const;
  std::string ForErr(Style style, absl::string_view text) const;

 private:
  const bool in_is_terminal_;
  const bool out_is_terminal_;
  const bool err_is_terminal_;
  const bool colour_allowed_;
  bool answers_in_json_ = false;
};

// `text` without control characters other than newline and tab, so that it cannot steer a terminal.
std::string Printable(absl::string_view text);

}  // namespace ccoe::cli
