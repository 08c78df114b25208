#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ccoe::model {

// Texts, in lower case, of which at least one stands in the lower-case form of every text that a
// PCRE2 expression matches; so a text without any of them need not be searched. Empty where that
// cannot be told. Lower case is ASCII's: a text that holds U+017F or U+212A, which match s and k
// without regard to case, is to be searched in any case.
std::vector<std::string> RequiredTexts(std::string_view regex);

}  // namespace ccoe::model
