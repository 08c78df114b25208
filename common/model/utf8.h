#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace ccoe::model {

// What stands at the beginning of some bytes, by the table of well-formed UTF-8 (Unicode 15, 3.9).
struct Utf8Unit {
  enum class Kind {
    kCharacter,   // a whole character
    kInvalid,     // a maximal subpart of an ill-formed sequence: one U+FFFD
    kIncomplete,  // all that is left may become a character
  };
  Kind kind = Kind::kInvalid;
  size_t bytes = 0;
};

// Requires `bytes` not to be empty.
Utf8Unit NextUtf8Unit(std::string_view bytes);

// The length of the longest prefix that is valid UTF-8.
size_t ValidUtf8Prefix(std::string_view bytes);
// The longest pieces of `bytes` that are valid UTF-8, in order; empty ones are left out.
std::vector<std::string_view> ValidUtf8Runs(std::string_view bytes);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// Appends a code point below 0x110000 that is no surrogate.
void AppendUtf8(char32_t code_point, std::string* to);

// The first character of valid UTF-8 that is not empty.
char32_t DecodeUtf8(std::string_view text, size_t* bytes);

}  // namespace ccoe::model
