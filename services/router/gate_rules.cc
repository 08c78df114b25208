#include "services/router/gate_rules.h"

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "common/model/required_texts.h"
#include "common/model/text.h"
#include "common/model/utf8.h"
#include "services/router/catalog.h"

namespace ccoe::router {
namespace {

// Letters of other alphabets count as parts of words.
bool IsWordByte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return absl::ascii_isalnum(byte) || c == '_' || byte >= 0x80;
}

size_t WordEnd(std::string_view text, size_t begin) {
  size_t end = begin;
  while (end < text.size() && IsWordByte(text[end])) ++end;
  return end;
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = absl::ascii_tolower(static_cast<unsigned char>(c));
  return lower;
}

struct Keyword {
  std::string text;  // lower case, not empty
  double weight = 0;
  size_t domain = 0;
};

// Which three neighbouring bytes a text has, as hashes: it may seem to have more.
class Trigrams {
 public:
  using Hashes = std::vector<uint16_t>;

  explicit Trigrams(std::string_view text) {
    for (const uint16_t hash : HashesOf(text)) present_.set(hash);
  }

  bool MayHave(const Hashes& hashes) const {
    return std::all_of(hashes.begin(), hashes.end(),
                       [this](uint16_t hash) { return present_.test(hash); });
  }

  static Hashes HashesOf(std::string_view text) {
    Hashes hashes;
    if (text.size() < 3) return hashes;
    hashes.reserve(text.size() - 2);
    uint32_t bytes = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      bytes = bytes << 8 | static_cast<unsigned char>(text[i]);
      if (i >= 2) {
        hashes.push_back(
            static_cast<uint16_t>(((bytes & 0xffffffu) * 0x9e3779b1u) >> (32 - kBits)));
      }
    }
    return hashes;
  }

 private:
  static constexpr int kBits = 15;
  std::bitset<1 << kBits> present_;
};

// A pattern, and what tells at once that a text does not match it.
struct Pattern {
  model::GatePattern rule;
  std::vector<Trigrams::Hashes> required;  // one of them; empty: every text is searched

  explicit Pattern(const model::GatePattern& from) : rule(from) {
    for (const std::string& text : model::RequiredTexts(from.regex)) {
      required.push_back(Trigrams::HashesOf(text));
    }
  }

  bool MayMatch(const Trigrams& text) const {
    return required.empty() ||
           std::any_of(required.begin(), required.end(),
                       [&](const Trigrams::Hashes& hashes) { return text.MayHave(hashes); });
  }
};

struct Domain {
  std::string name;
  double threshold = 1;
  std::vector<Pattern> patterns;
};

// What RequiredTexts does not account for.
bool HasOtherCaseOfAscii(std::string_view text) {
  constexpr std::string_view kLongS = "\u017f";
  constexpr std::string_view kKelvin = "\u212a";
  return text.find(kLongS) != std::string_view::npos ||
         text.find(kKelvin) != std::string_view::npos;
}

}  // namespace

class GateRules::Impl {
 public:
  explicit Impl(const Catalog& catalog) {
    for (const CatalogEntry* entry : DomainPackages(catalog)) {
      Add(entry->info.domain, entry->manifest->rules);
    }
  }

  RouteDecision Decide(std::string_view text, std::vector<RuleHit>* hits) const {
    std::vector<double> scores(domains_.size(), 0.0);
    if (text.size() <= kMaxGateBytes) {
      Score(std::string(text), &scores, hits);
    } else {
      // One text, so that nothing counts twice; the break keeps words and patterns apart.
      std::string ends(text.substr(0, kMaxGateBytes / 2));
      ends += '\n';
      ends += text.substr(text.size() - kMaxGateBytes / 2);
      Score(ends, &scores, hits);
    }
    return Choose(scores);
  }

 private:
  void Add(const std::string& name, const model::GateRules& rules) {
    const size_t index = domains_.size();
    Domain& domain = domains_.emplace_back(Domain{name, rules.threshold, {}});
    for (const model::GatePattern& pattern : rules.patterns) domain.patterns.emplace_back(pattern);
    for (const model::GateKeyword& keyword : rules.keywords) {
      Keyword entry{Lower(keyword.text), keyword.weight, index};
      if (entry.text.empty()) continue;
      const std::string first = entry.text.substr(0, WordEnd(entry.text, 0));
      if (first.empty()) {
        signs_.push_back(keywords_.size());
      } else {
        by_first_word_[first].push_back(keywords_.size());
      }
      keywords_.push_back(std::move(entry));
    }
  }

  // Whether keyword stands at `at`, where a word or a sign begins, and ends where a word ends.
  static bool StandsAt(std::string_view text, size_t at, const std::string& keyword) {
    if (text.substr(at, keyword.size()) != keyword) return false;
    const size_t end = at + keyword.size();
    return end == text.size() || !IsWordByte(keyword.back()) || !IsWordByte(text[end]);
  }

  void Score(const std::string& text, std::vector<double>* scores,
             std::vector<RuleHit>* hits) const {
    const std::string lower = Lower(text);
    std::vector<char> found(keywords_.size(), 0);
    for (size_t at = 0; at < lower.size();) {
      const size_t end = WordEnd(lower, at);
      if (end == at) {
        ++at;
        continue;
      }
      const auto it = by_first_word_.find(std::string_view(lower).substr(at, end - at));
      if (it != by_first_word_.end()) {
        for (size_t i : it->second) found[i] |= StandsAt(lower, at, keywords_[i].text);
      }
      at = end;
    }
    for (size_t i : signs_) {
      const std::string& sign = keywords_[i].text;
      for (size_t at = lower.find(sign); at != std::string::npos && !found[i];
           at = lower.find(sign, at + 1)) {
        found[i] = StandsAt(lower, at, sign);
      }
    }
    const auto count = [&](size_t domain, const std::string& rule, double weight) {
      (*scores)[domain] += weight;
      if (hits != nullptr) hits->push_back({domains_[domain].name, rule, weight});
    };
    for (size_t i = 0; i < keywords_.size(); ++i) {
      if (found[i]) count(keywords_[i].domain, keywords_[i].text, keywords_[i].weight);
    }
    const Trigrams trigrams(lower);
    const bool search_all = HasOtherCaseOfAscii(lower);
    const std::vector<std::string_view> runs = model::ValidUtf8Runs(text);
    for (size_t d = 0; d < domains_.size(); ++d) {
      for (const Pattern& pattern : domains_[d].patterns) {
        if (!search_all && !pattern.MayMatch(trigrams)) continue;
        const bool matches = std::any_of(runs.begin(), runs.end(), [&](std::string_view run) {
          return pattern.rule.compiled->Find(run, 0).has_value();
        });
        if (matches) count(d, pattern.rule.regex, pattern.rule.weight);
      }
    }
    if (hits != nullptr) {
      std::stable_sort(hits->begin(), hits->end(),
                       [](const auto& a, const auto& b) { return a.domain < b.domain; });
    }
  }

  RouteDecision Choose(const std::vector<double>& scores) const {
    RouteDecision decision;
    for (size_t d = 0; d < domains_.size(); ++d) {
      decision.scores.push_back(
          {domains_[d].name, std::max(0.0, scores[d]), domains_[d].threshold});
    }
    const auto ratio = [](const DomainScore& s) { return s.score / std::max(s.threshold, 1e-9); };
    std::stable_sort(decision.scores.begin(), decision.scores.end(),
                     [&](const auto& a, const auto& b) { return ratio(a) > ratio(b); });
    const double first = decision.scores.empty() ? 0 : ratio(decision.scores[0]);
    const double second = decision.scores.size() < 2 ? 0 : ratio(decision.scores[1]);
    if (first >= 1) {
      const double rival = std::max(1.0, second);
      decision.stage = RouteStage::kRules;
      decision.domain = decision.scores[0].domain;
      decision.runner_up =
          second >= 1 ? decision.scores[1].domain : std::string(runtime::kGeneralExpert);
      decision.confidence = first / (first + rival);
    } else {
      decision.stage = RouteStage::kFallback;
      decision.domain = runtime::kGeneralExpert;
      if (first > 0) decision.runner_up = decision.scores[0].domain;
      decision.confidence = 1 / (1 + first);
    }
    return decision;
  }

  std::vector<Domain> domains_;  // by name
  std::vector<Keyword> keywords_;
  model::StringMap<std::string, std::vector<size_t>> by_first_word_;  // indices of keywords_
  std::vector<size_t> signs_;  // those that do not begin with a word
};

GateRules::GateRules(const Catalog& catalog) : impl_(std::make_unique<Impl>(catalog)) {}
GateRules::~GateRules() = default;

RouteDecision GateRules::Decide(std::string_view text, std::vector<RuleHit>* hits) const {
  return impl_->Decide(text, hits);
}

}  // namespace ccoe::router
