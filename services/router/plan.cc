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

// Begin a further instruction after "and", "," or ";", or by themselves in a sentence.
constexpr std::array<absl::string_view, 8> kConnectors = {
    "then", "next", "afterwards", "finally", "lastly", "secondly", "thirdly", "also"};
// The verbs of commands; they begin an instruction after "and" or a comma.
constexpr std::array<absl::string_view, 38> kVerbs = {
    "add",       "answer",    "build",    "calculate", "check",     "compare",   "compute",
    "convert",   "count",     "create",   "define",    "describe",  "design",    "determine",
    "discuss",   "draft",     "estimate", "evaluate",  "explain",   "find",      "generate",
    "give",      "implement", "list",     "name",      "outline",   "prove",     "quote",
    "retrieve",  "say",       "show",     "solve",     "summarise", "summarize", "tell",
    "translate", "what",      "write"};

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

// "1. ", "2) ", "- " or "* ".
bool BeginsListItem(absl::string_view line) {
  line = absl::StripLeadingAsciiWhitespace(line);
  size_t digits = 0;
  while (digits < line.size() && absl::ascii_isdigit(line[digits])) ++digits;
  const bool number = digits > 0 && digits <= 2 && digits < line.size() &&
                      (line[digits] == '.' || line[digits] == ')');
  const size_t mark = number ? digits : 0;
  if (!number && (line.empty() || (line[0] != '-' && line[0] != '*'))) return false;
  return mark + 1 < line.size() && line[mark + 1] == ' ';
}

// Whether a further instruction begins at `rest`, which follows the character `before`.
bool BeginsInstruction(char before, absl::string_view rest) {
  if (before == '\n') return BeginsListItem(rest) || absl::StartsWith(rest, "\n");
  if (!absl::ascii_isspace(before) && before != ';') return false;
  absl::string_view text = absl::StripLeadingAsciiWhitespace(rest);
  if (text.size() != rest.size()) return false;  // not at a word
  absl::string_view word = TakeWord(&text);
  if (!absl::EqualsIgnoreCase(word, "and")) return IsOneOf(word, kConnectors);
  word = TakeWord(&text);
  return IsOneOf(word, kConnectors) || IsOneOf(word, kVerbs);
}

// Whether the text before `end` ends a sentence, or a clause before a command.
bool EndsSentence(absl::string_view text, size_t end, absl::string_view rest) {
  if (end < 2 || !absl::ascii_isspace(text[end - 1])) return false;
  const absl::string_view before = absl::StripTrailingAsciiWhitespace(text.substr(0, end));
  if (before.empty()) return false;
  const char last = before.back();
  absl::string_view number = before.substr(0, before.size() - 1);
  while (!number.empty() && absl::ascii_isdigit(number.back())) number.remove_suffix(1);
  const bool list_item =
      number.size() + 1 < before.size() && (number.empty() || number.back() == '\n');
  if (list_item) return false;
  if (last == '.' || last == '?' || last == '!' || last == ';') return true;
  return last == ',' && IsOneOf(TakeWord(&rest), kVerbs);
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

bool IsSure(const RouteDecision& decision) {
  return decision.stage == RouteStage::kRules || decision.stage == RouteStage::kExplicit ||
         (decision.stage == RouteStage::kLearned && decision.confidence >= kSureConfidence);
}

// Without what joined it to the part before.
std::string Instruction(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
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
    if (!BeginsInstruction(text[i - 1], rest) && !EndsSentence(text, i, rest)) continue;
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
    const bool sure = IsSure(decisions[i]);
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
