#include "services/router/plan.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "services/router/gate_rules.h"

namespace ccoe::router {
namespace {

constexpr int kMinWords = 3;  // of a part
// The learned stage's, from which a part makes a step of its own: a step too few costs less than a
// wrong one.
constexpr double kSureConfidence = 0.6;
constexpr absl::string_view kFence = "```";

// Begin a further instruction after a punctuation mark or "and".
constexpr std::array<absl::string_view, 9> kConnectors = {
    "then", "next", "afterwards", "finally", "lastly", "secondly", "thirdly", "also", "now"};
// The verbs of commands; they begin an instruction after "and" or a comma.
constexpr std::array<absl::string_view, 42> kVerbs = {
    "add",     "answer",    "build",     "calculate", "check",    "compare",   "compute",
    "convert", "count",     "create",    "define",    "describe", "design",    "determine",
    "discuss", "draft",     "estimate",  "evaluate",  "explain",  "find",      "generate",
    "give",    "implement", "list",      "make",      "name",     "outline",   "prove",
    "provide", "quote",     "retrieve",  "return",    "say",      "show",      "simplify",
    "solve",   "state",     "summarise", "summarize", "tell",     "translate", "write"};
// Begin a question.
constexpr std::array<absl::string_view, 16> kQuestions = {
    "what", "which", "who", "whose", "when", "where", "why",    "how",
    "is",   "are",   "do",  "does",  "did",  "can",   "should", "may"};
// May stand before the verb of a command.
constexpr std::array<absl::string_view, 4> kPolite = {"please", "first", "kindly", "just"};

template <size_t kCount>
bool IsOneOf(absl::string_view word, const std::array<absl::string_view, kCount>& words) {
  return std::any_of(words.begin(), words.end(),
                     [&](absl::string_view known) { return absl::EqualsIgnoreCase(word, known); });
}

// The word at the beginning of a text, and what follows it and the blanks after it.
absl::string_view TakeWord(absl::string_view* text) {
  size_t end = 0;
  while (end < text->size() && absl::ascii_isalpha((*text)[end])) ++end;
  const absl::string_view word = text->substr(0, end);
  text->remove_prefix(end);
  *text = absl::StripLeadingAsciiWhitespace(*text);
  return word;
}

// What follows "1. ", "2) ", "- " or "* " at the beginning of a text; all of it where there is
// none.
absl::string_view AfterListMark(absl::string_view text) {
  text = absl::StripLeadingAsciiWhitespace(text);
  size_t digits = 0;
  while (digits < std::min<size_t>(3, text.size()) && absl::ascii_isdigit(text[digits])) ++digits;
  const char mark = digits < text.size() ? text[digits] : '\0';
  const bool number = digits > 0 && digits <= 2 && (mark == '.' || mark == ')');
  const bool bullet = digits == 0 && (mark == '-' || mark == '*');
  const bool marked =
      (number || bullet) && digits + 1 < text.size() && absl::ascii_isspace(text[digits + 1]);
  return marked ? absl::StripLeadingAsciiWhitespace(text.substr(digits + 1)) : text;
}

bool BeginsListItem(absl::string_view line) {
  return AfterListMark(line).size() < absl::StripLeadingAsciiWhitespace(line).size();
}

// Whether "." at the end of `text` belongs to a letter, "A." or "v.", or to a number that begins a
// line.
bool EndsWithLabel(absl::string_view text) {
  text.remove_suffix(1);
  size_t letters = 0;
  while (letters < text.size() && absl::ascii_isalpha(text[text.size() - 1 - letters])) ++letters;
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(text[text.size() - 1 - digits])) ++digits;
  const bool line_begins = digits == text.size() || text[text.size() - 1 - digits] == '\n';
  return letters == 1 || (digits > 0 && line_begins);
}

// Whether a part ends at a word that `rest` begins with. `before` is what precedes it, without the
// blanks between, and not empty.
bool EndsPart(absl::string_view before, absl::string_view rest) {
  const char last = before.back();
  if (last == '?' || last == '!' || last == ';') return true;
  if (last == '.') return !EndsWithLabel(before);
  const absl::string_view word = TakeWord(&rest);
  if (absl::EqualsIgnoreCase(word, "and")) {
    const absl::string_view next = TakeWord(&rest);
    return IsOneOf(next, kConnectors) || IsOneOf(next, kVerbs);
  }
  if (last != ',' && last != ':') return false;
  return IsOneOf(word, kConnectors) || (last == ',' && IsOneOf(word, kVerbs));
}

// Follows a text and knows whether it stands within a fenced block of code, quotes or brackets. An
// empty line ends the latter two.
class Nesting {
 public:
  // The text from the next character on; consumes that.
  void Take(absl::string_view rest) {
    const char c = rest[0];
    if (absl::StartsWith(rest, kFence)) fenced_ = !fenced_;
    if (fenced_) return;
    if (absl::StartsWith(rest, "\n\n")) quoted_ = code_ = false, depth_ = 0;
    if (c == '`' && !absl::StartsWith(rest, kFence)) code_ = !code_;
    if (c == '"') quoted_ = !quoted_;
    if (c == '(' || c == '[' || c == '{') ++depth_;
    if (c == ')' || c == ']' || c == '}') depth_ = std::max(0, depth_ - 1);
  }
  bool inside() const { return fenced_ || code_ || quoted_ || depth_ > 0; }

 private:
  bool fenced_ = false;
  bool code_ = false;
  bool quoted_ = false;
  int depth_ = 0;
};

bool IsLetter(char c) { return absl::ascii_isalnum(c) || static_cast<unsigned char>(c) >= 0x80; }

bool BeginsWord(absl::string_view text, size_t i) {
  return IsLetter(text[i]) && (i == 0 || !IsLetter(text[i - 1]));
}

// Where the last kMinWords words of a text begin; 0 where there are fewer.
size_t LastWords(absl::string_view text) {
  int words = 0;
  for (size_t i = text.size(); i-- > 0;) {
    words += BeginsWord(text, i) ? 1 : 0;
    if (words == kMinWords) return i;
  }
  return 0;
}

// A command or a question, and not what one is about.
bool IsInstruction(absl::string_view text) {
  text = AfterListMark(text);
  if (absl::StrContains(text, '?')) return true;
  absl::string_view word = TakeWord(&text);
  if (absl::EqualsIgnoreCase(word, "and")) word = TakeWord(&text);
  if (IsOneOf(word, kConnectors)) return true;
  while (IsOneOf(word, kPolite)) {
    if (absl::StartsWith(text, ",")) text = absl::StripLeadingAsciiWhitespace(text.substr(1));
    word = TakeWord(&text);
  }
  if (IsOneOf(word, kQuestions)) return true;
  // "Given a table t, write ...": a command after what it is about.
  while (!IsOneOf(word, kVerbs)) {
    const size_t comma = text.find(',');
    if (comma == absl::string_view::npos) return false;
    text = absl::StripLeadingAsciiWhitespace(text.substr(comma + 1));
    word = TakeWord(&text);
  }
  return true;
}

bool IsSure(const RouteDecision& decision) {
  return decision.stage == RouteStage::kRules || decision.stage == RouteStage::kExplicit ||
         (decision.stage == RouteStage::kLearned && decision.confidence >= kSureConfidence);
}

// Without what joined it to the parts before and after.
std::string Instruction(absl::string_view text) {
  text = absl::StripAsciiWhitespace(AfterListMark(text));
  absl::ConsumeSuffix(&text, ",");
  absl::string_view rest = text;
  if (absl::EqualsIgnoreCase(TakeWord(&rest), "and")) text = rest;
  return std::string(text);
}

}  // namespace

std::vector<absl::string_view> SplitInstructions(absl::string_view text) {
  if (text.size() > kMaxGateBytes) return {text};
  const size_t last_words = LastWords(text);
  std::vector<absl::string_view> parts;
  Nesting nesting;
  size_t begin = 0;    // of the part
  size_t ink_end = 0;  // one past the last character that is no blank
  int words = 0;       // of the part
  for (size_t i = 0; i < text.size() && parts.size() < kMaxPlanSteps; ++i) {
    const bool inside = nesting.inside();
    nesting.Take(text.substr(i));
    if (absl::ascii_isspace(text[i])) continue;
    const size_t before_end = std::exchange(ink_end, i + 1);
    const bool may_end = words >= kMinWords && i <= last_words && !inside && before_end < i;
    words += BeginsWord(text, i) ? 1 : 0;
    if (!may_end) continue;
    const absl::string_view before = text.substr(begin, before_end - begin);
    const absl::string_view blanks = text.substr(before_end, i - before_end);
    const absl::string_view rest = text.substr(i);
    const auto lines = std::count(blanks.begin(), blanks.end(), '\n');
    const bool line_ends = lines > 1 || (lines == 1 && BeginsListItem(rest));
    if (!line_ends && !EndsPart(before, rest)) continue;
    parts.push_back(text.substr(begin, i - begin));
    begin = i;
    words = IsLetter(text[i]) ? 1 : 0;
  }
  if (begin < text.size()) parts.push_back(text.substr(begin));
  return parts;
}

std::vector<PlannedStep> JoinSteps(absl::Span<const absl::string_view> parts,
                                   absl::Span<const RouteDecision> decisions) {
  constexpr size_t kNone = std::numeric_limits<size_t>::max();
  struct Group {
    size_t begin;  // of its parts
    size_t end;
    size_t sure;  // the first that is; or kNone
  };
  std::vector<Group> groups;
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool sure = IsSure(decisions[i]) && IsInstruction(parts[i]);
    const bool goes_on =
        !groups.empty() && (!sure || groups.back().sure == kNone ||
                            decisions[groups.back().sure].domain == decisions[i].domain);
    if (!goes_on) groups.push_back({i, i, kNone});
    groups.back().end = i + 1;
    if (sure && groups.back().sure == kNone) groups.back().sure = i;
  }
  std::vector<PlannedStep> steps;
  for (const Group& group : groups) {
    if (group.sure == kNone) continue;
    const char* begin = parts[group.begin].data();
    const char* end = parts[group.end - 1].data() + parts[group.end - 1].size();
    steps.push_back({Instruction({begin, static_cast<size_t>(end - begin)}), group.sure});
  }
  return steps;
}

}  // namespace ccoe::router
