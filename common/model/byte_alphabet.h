#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ccoe::model {

// GPT-2's byte-level alphabet: a printable character for each byte, in which the files of
// byte-level BPE write their tokens ("Ġthe" is " the").

// The bytes that a token's text stands for; nullopt when it holds a character outside the alphabet
// or is not UTF-8.
std::optional<std::string> BytesOfByteLevelText(std::string_view text);

// The inverse.
std::string ByteLevelTextOf(std::string_view bytes);

}  // namespace ccoe::model
