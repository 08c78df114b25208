#include "services/cli/exposition.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace ccoe::cli {
namespace {

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

// Reads one line from its begin on; every function returns false where it does not fit.
class LineReader {
 public:
  explicit LineReader(std::string_view line) : rest_(line) {}

  bool Read(Sample* sample) {
    sample->name = Take("{ ");
    if (sample->name.empty() || rest_.empty()) return false;
    if (rest_.front() == '{' && !ReadLabels(sample)) return false;
    const size_t begin = rest_.find_first_not_of(' ');
    if (begin == std::string_view::npos) return false;
    rest_.remove_prefix(begin);
    return absl::SimpleAtod(Absl(Take(" ")), &sample->value);  // a time may follow
  }

 private:
  // What comes before the first of these characters.
  std::string_view Take(std::string_view ends) {
    const std::string_view taken = rest_.substr(0, rest_.find_first_of(ends));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  bool Skip(std::string_view text) {
    if (rest_.substr(0, text.size()) != text) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  bool ReadLabels(Sample* sample) {
    Skip("{");
    while (!Skip("}")) {
      const std::string name(Take("=}"));
      std::string value;
      if (name.empty() || !Skip("=\"") || !ReadQuoted(&value)) return false;
      sample->labels[name] = std::move(value);
      Skip(",");
    }
    return true;
  }

  bool ReadQuoted(std::string* value) {
    while (!rest_.empty()) {
      const char c = rest_.front();
      rest_.remove_prefix(1);
      if (c == '"') return true;
      if (c != '\\') {
        *value += c;
      } else if (!rest_.empty()) {
        *value += rest_.front() == 'n' ? '\n' : rest_.front();
        rest_.remove_prefix(1);
      }
    }
    return false;
  }

  std::string_view rest_;
};

}  // namespace

std::string_view Sample::label(std::string_view name) const {
  const auto found = labels.find(name);
  return found == labels.end() ? std::string_view() : found->second;
}

absl::StatusOr<std::vector<Sample>> ParseExposition(std::string_view text) {
  std::vector<Sample> samples;
  for (absl::string_view line : absl::StrSplit(Absl(text), '\n')) {
    absl::ConsumeSuffix(&line, "\r");
    if (line.empty() || line.front() == '#') continue;
    Sample sample;
    if (!LineReader({line.data(), line.size()}).Read(&sample)) {
      return absl::InvalidArgumentError(absl::StrCat("not a sample: ", line.substr(0, 80)));
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace ccoe::cli
