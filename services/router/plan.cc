#include "services/router/plan.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"

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
  while (digits < text.size() && absl::ascii_isdigit(text[digits])) ++digits;
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

bool IsPunctuation(char c) {
  return c == ',' || c == ';' || c == '.' || c == '!' || c == '?' || c == ':';
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

// Whether a part ends before `at`, which is neither the beginning nor the end of the text.
bool EndsPart(absl::string_view text, size_t at) {
  const absl::string_view before = absl::StripTrailingAsciiWhitespace(text.substr(0, at));
  absl::string_view rest = text.substr(at);
  if (before.empty() || before.size() == at || absl::ascii_isspace(rest[0])) {
    return !before.empty() && text[at - 1] == '\n' && rest[0] == '\n';  // an empty line
  }
  if (text[at - 1] == '\n' && BeginsListItem(rest)) return true;
  const char last = before.back();
  if (last == '?' || last == '!' || last == ';') return true;
  if (last == '.') return !EndsWithLabel(before);
  const absl::string_view word = TakeWord(&rest);
  if (absl::EqualsIgnoreCase(word, "and")) {
    const absl::string_view next = TakeWord(&rest);
    return IsOneOf(next, kConnectors) || IsOneOf(next, kVerbs);
  }
  return IsPunctuation(last) &&
         (IsOneOf(word, kConnectors) || (last == ',' && IsOneOf(word, kVerbs)));
}

int Words(absl::string_view text) {
  int words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool letter = absl::ascii_isalnum(c) || static_cast<unsigned char>(c) >= 0x80;
    words += letter && !inside ? 1 : 0;
    inside = letter;
  }
  return words;
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
  // "Given a table t, write ...": a command after what it is about.
  while (!IsOneOf(word, kVerbs) && !IsOneOf(word, kQuestions)) {
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

// Without what joined it to the part before.
std::string Instruction(absl::string_view text) {
  text = absl::StripAsciiWhitespace(AfterListMark(text));
  while (!text.empty() && (text.back() == ',' || text.back() == ';')) text.remove_suffix(1);
  absl::string_view rest = text;
  if (absl::EqualsIgnoreCase(TakeWord(&rest), "and")) text = rest;
  std::string instruction(absl::StripAsciiWhitespace(text));
  if (!instruction.empty()) instruction[0] = absl::ascii_toupper(instruction[0]);
  return instruction;
}

}  // namespace

std::vector<absl::string_view> SplitInstructions(absl::string_view text) {
  std::vector<absl::string_view> parts;
  size_t begin = 0;
  bool fenced = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const absl::string_view rest = text.substr(i);
    if (absl::StartsWith(rest, kFence)) {
      fenced = !fenced;
      i += kFence.size() - 1;
      continue;
    }
    if (fenced || i == 0) continue;
    if (!EndsPart(text, i)) continue;
    if (Words(text.substr(begin, i - begin)) < kMinWords || Words(rest) < kMinWords) continue;
    parts.push_back(text.substr(begin, i - begin));
    begin = i;
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

std::vector<int> ShareTokens(absl::Span<const int> limits, int total) {
  std::vector<int> shares(limits.begin(), limits.end());
  const int64_t sum = std::accumulate(limits.begin(), limits.end(), int64_t{0});
  if (sum <= total) return shares;
  // One for each, and of what is left its share.
  const int64_t rest = total - static_cast<int64_t>(limits.size());
  for (int& share : shares) share = 1 + static_cast<int>(rest * share / sum);
  return shares;
}

}  // namespace ccoe::router
