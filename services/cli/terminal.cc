#include "services/cli/terminal.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "services/cli/event_json.h"

namespace ccoe::cli {
namespace {

bool ColourAllowed() {
  const char* no_colour = std::getenv("NO_COLOR");
  if (no_colour != nullptr && *no_colour != '\0') return false;
  const char* term = std::getenv("TERM");
  return term != nullptr && absl::string_view(term) != "dumb";
}

absl::string_view Escape(Style style) {
  switch (style) {
    case Style::kPlain:
      return "";
    case Style::kBold:
      return "\x1b[1m";
    case Style::kDim:
      return "\x1b[2m";
    case Style::kRed:
      return "\x1b[31m";
    case Style::kGreen:
      return "\x1b[32m";
    case Style::kCyan:
      return "\x1b[36m";
  }
  return "";
}

std::string Styled(Style style, absl::string_view text) {
  return absl::StrCat(Escape(style), text, "\x1b[0m");
}

bool Write(std::FILE* file, absl::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return std::fflush(file) == 0 && written;
}

}  // namespace

Terminal::Terminal()
    : in_is_terminal_(isatty(STDIN_FILENO) == 1),
      out_is_terminal_(isatty(STDOUT_FILENO) == 1),
      err_is_terminal_(isatty(STDERR_FILENO) == 1),
      colour_allowed_(ColourAllowed()) {}

bool Terminal::Out(absl::string_view text) { return Write(stdout, text); }

bool Terminal::OutUntrusted(absl::string_view text) {
  return out_is_terminal_ ? Out(Printable(text)) : Out(text);
}

bool Terminal::OutJson(const nlohmann::ordered_json& json) {
  return Out(json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

void Terminal::Err(absl::string_view text) { Write(stderr, text); }

void Terminal::Error(absl::string_view message) {
  Err(absl::StrCat(ForErr(Style::kRed, "ccoe: error:"), " ",
                   err_is_terminal_ ? Printable(message) : message, "\n"));
}

void Terminal::Fail(const absl::Status& status, absl::string_view message) {
  if (!message.empty()) Error(message);
  if (answers_in_json_) OutJson(ErrorJson(status));
}

std::string Terminal::ForOut(Style style, absl::string_view text) const {
  return out_is_terminal_ && colour_allowed_ ? Styled(style, text) : std::string(text);
}

std::string Terminal::ForErr(Style style, absl::string_view text) const {
  return err_is_terminal_ && colour_allowed_ ? Styled(style, text) : std::string(text);
}

std::string Printable(absl::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080..U+009F are control characters too: in UTF-8, 0xC2 and a byte below 0xA0.
    const bool c1 =
        byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (c1) {
      ++i;
    } else if ((byte >= 0x20 && byte != 0x7F) || byte == '\n' || byte == '\t') {
      result.push_back(text[i]);
    }
  }
  return result;
}

}  // namespace ccoe::cli
