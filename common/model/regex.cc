#define PCRE2_CODE_UNIT_WIDTH 8

#include "common/model/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/model/text.h"
#include "common/model/utf8.h"

namespace ccoe::model {
namespace {

constexpr size_t kMaxPatternBytes = 4096;
constexpr uint32_t kMatchLimit = 1'000'000;
constexpr uint32_t kDepthLimit = 100'000;
constexpr uint32_t kHeapLimitKib = 32 * 1024;
constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;

struct FreeMatchData {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct FreeMatchContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

// What a thread needs to match any expression; only the whole match is asked for.
struct Scratch {
  std::unique_ptr<pcre2_match_data, FreeMatchData> data{pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_match_context, FreeMatchContext> context{
      pcre2_match_context_create(nullptr)};

  Scratch() {
    CCOE_CHECK(data != nullptr && context != nullptr);
    pcre2_set_match_limit(context.get(), kMatchLimit);
    pcre2_set_depth_limit(context.get(), kDepthLimit);
    pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  }
};

Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}

}  // namespace

struct Regex::State {
  pcre2_code* code = nullptr;
  ~State() { pcre2_code_free(code); }
};

Regex::Regex(std::unique_ptr<const State> state) : state_(std::move(state)) {}
Regex::~Regex() = default;

absl::StatusOr<std::shared_ptr<const Regex>> Regex::Compile(std::string_view pattern) {
  const auto refuse = [pattern](auto... what) {
    return absl::InvalidArgumentError(
        Cat("the regular expression \"", pattern.substr(0, 200), "\" ", what...));
  };
  if (pattern.size() > kMaxPatternBytes) {
    return refuse("is longer than ", kMaxPatternBytes, " bytes");
  }
  int error;
  PCRE2_SIZE offset;
  auto state = std::make_unique<State>();
  state->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              kOptions, &error, &offset, nullptr);
  if (state->code == nullptr) {
    std::array<PCRE2_UCHAR, 256> message{};
    pcre2_get_error_message(error, message.data(), message.size());
    return refuse("is wrong at offset ", offset, ": ",
                  reinterpret_cast<const char*>(message.data()));
  }
  // Without JIT (a hardened system) pcre2_match interprets: slower, the same matches.
  pcre2_jit_compile(state->code, PCRE2_JIT_COMPLETE);
  return std::shared_ptr<const Regex>(new Regex(std::move(state)));
}

std::optional<Regex::Match> Regex::Find(std::string_view text, size_t from) const {
  Scratch& scratch = ThreadScratch();
  const auto run = [&](uint32_t options) {
    return pcre2_match(state_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                       options | PCRE2_NO_UTF_CHECK, scratch.data.get(), scratch.context.get());
  };
  int result = run(0);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = run(PCRE2_NO_JIT);
  if (result < 0) return std::nullopt;
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch.data.get());
  // \K inside a look-ahead can end a match before it begins.
  if (bounds[0] < from || bounds[1] < bounds[0]) return std::nullopt;
  return Match{bounds[0], bounds[1]};
}

bool Regex::Contains(std::string_view text) const {
  const std::vector<std::string_view> runs = ValidUtf8Runs(text);
  return std::any_of(runs.begin(), runs.end(),
                     [this](std::string_view run) { return Find(run, 0).has_value(); });
}

}  // namespace ccoe::model
