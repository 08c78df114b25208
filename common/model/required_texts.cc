#include "common/model/required_texts.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"

namespace ccoe::model {
namespace {

constexpr size_t kMaxTexts = 64;

// One of these has to be there; none: nothing is known.
using Texts = std::vector<std::string>;

size_t Shortest(const Texts& texts) {
  size_t shortest = texts.empty() ? 0 : texts.front().size();
  for (const std::string& text : texts) shortest = std::min(shortest, text.size());
  return shortest;
}

// Whether `a` says more than `b`.
bool IsBetter(const Texts& a, const Texts& b) {
  return Shortest(a) != Shortest(b) ? Shortest(a) > Shortest(b) : a.size() < b.size();
}

enum class Repeat { kOnce, kAtLeastOnce, kPerhapsNever };

// Reads an expression far enough to know what it requires. Whatever it does not know for certain
// ends the reading: `failed` is then set, and nothing is known of the whole.
class Reader {
 public:
  explicit Reader(std::string_view regex) : regex_(regex) {}

  Texts Read() {
    Texts texts = ReadAlternatives();
    if (at_ != regex_.size()) failed_ = true;
    return failed_ ? Texts() : texts;
  }

 private:
  bool AtEnd() const { return failed_ || at_ >= regex_.size(); }
  bool Take(std::string_view text) {
    if (regex_.substr(at_, text.size()) != text) return false;
    at_ += text.size();
    return true;
  }

  // Up to a closing parenthesis or the end.
  Texts ReadAlternatives() {
    Texts all = ReadSequence();
    bool known = !all.empty();
    while (!AtEnd() && Take("|")) {
      Texts one = ReadSequence();
      known = known && !one.empty();
      all.insert(all.end(), std::make_move_iterator(one.begin()),
                 std::make_move_iterator(one.end()));
    }
    return known && all.size() <= kMaxTexts ? all : Texts();
  }

  Texts ReadSequence() {
    Texts best;
    std::string run;  // of neighbouring letters
    const auto end_run = [&] {
      if (!run.empty() && IsBetter({run}, best)) best = {run};
      run.clear();
    };
    while (!AtEnd() && regex_[at_] != '|' && regex_[at_] != ')') {
      if (regex_[at_] == '(') {
        end_run();
        Texts group = ReadGroup();
        if (ReadRepeat() != Repeat::kPerhapsNever && IsBetter(group, best)) best = std::move(group);
        continue;
      }
      bool empty = false;
      const std::optional<char> letter = ReadAtom(&empty);
      const Repeat repeat = ReadRepeat();
      if (empty) continue;
      if (letter.has_value() && repeat != Repeat::kPerhapsNever) run += *letter;
      if (!letter.has_value() || repeat != Repeat::kOnce) end_run();
    }
    end_run();
    return best;
  }

  // What is required inside, nothing of a negative look-around.
  Texts ReadGroup() {
    Take("(");
    bool negative = false;
    if (Take("*")) {
      failed_ = true;
    } else if (Take("?")) {
      if (Take("!") || Take("<!")) {
        negative = true;
      } else if (!(Take(":") || Take("=") || Take("<=") || Take(">"))) {
        // Options: for a group, or for what follows.
        while (!AtEnd() && (regex_[at_] == 'i' || regex_[at_] == 'm' || regex_[at_] == 's')) ++at_;
        if (Take(")")) return {};
        if (!Take(":")) failed_ = true;
      }
    }
    Texts texts = ReadAlternatives();
    if (AtEnd() || !Take(")")) failed_ = true;
    return negative ? Texts() : texts;
  }

  // A letter in lower case, or nothing for what may be several; `empty`: it takes no place.
  std::optional<char> ReadAtom(bool* empty) {
    const char c = regex_[at_++];
    switch (c) {
      case '^':
      case '$':
        *empty = true;
        return std::nullopt;
      case '.':
        return std::nullopt;
      case '[':
        SkipClass();
        return std::nullopt;
      case '\\':
        return ReadEscape(empty);
      default:
        return Letter(c);
    }
  }

  std::optional<char> ReadEscape(bool* empty) {
    if (AtEnd()) {
      failed_ = true;
      return std::nullopt;
    }
    const char c = regex_[at_++];
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c))) return Letter(c);
    constexpr std::string_view kEmpty = "bBAzZG";
    constexpr std::string_view kOneOfMany = "dDwWsShHvVRnrtf";
    if (kEmpty.find(c) != std::string_view::npos) {
      *empty = true;
    } else if (c == 'x') {
      for (int digit = 0; digit < 2; ++digit) {
        if (AtEnd() || !absl::ascii_isxdigit(static_cast<unsigned char>(regex_[at_++]))) {
          failed_ = true;
        }
      }
    } else if (kOneOfMany.find(c) == std::string_view::npos) {
      failed_ = true;
    }
    return std::nullopt;
  }

  // After its "[".
  void SkipClass() {
    Take("^");
    Take("]");
    while (!AtEnd() && regex_[at_] != ']') {
      if (Take("[:")) {
        at_ = std::min(regex_.find(":]", at_), regex_.size() - 2) + 2;
      } else {
        at_ += regex_[at_] == '\\' ? 2 : 1;
      }
    }
    if (AtEnd() || !Take("]")) failed_ = true;
  }

  Repeat ReadRepeat() {
    if (AtEnd()) return Repeat::kOnce;
    Repeat repeat = Repeat::kOnce;
    if (Take("?") || Take("*")) {
      repeat = Repeat::kPerhapsNever;
    } else if (Take("+")) {
      repeat = Repeat::kAtLeastOnce;
    } else if (Take("{")) {
      // Without a number it is no repetition, or one of a later PCRE2.
      const size_t begin = at_;
      while (!AtEnd() && absl::ascii_isdigit(static_cast<unsigned char>(regex_[at_]))) ++at_;
      const std::string_view least = regex_.substr(begin, at_ - begin);
      if (Take(",")) {
        while (!AtEnd() && absl::ascii_isdigit(static_cast<unsigned char>(regex_[at_]))) ++at_;
      }
      if (least.empty() || AtEnd() || !Take("}")) failed_ = true;
      const bool zero = least.find_first_not_of('0') == std::string_view::npos;
      repeat = zero ? Repeat::kPerhapsNever : Repeat::kAtLeastOnce;
    } else {
      return repeat;
    }
    if (!Take("?")) Take("+");  // lazy, possessive
    return repeat;
  }

  // Beyond ASCII case is not looked into.
  static std::optional<char> Letter(char c) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) return std::nullopt;
    return static_cast<char>(absl::ascii_tolower(byte));
  }

  const std::string_view regex_;
  size_t at_ = 0;
  bool failed_ = false;
};

}  // namespace

std::vector<std::string> RequiredTexts(std::string_view regex) { return Reader(regex).Read(); }

}  // namespace ccoe::model
