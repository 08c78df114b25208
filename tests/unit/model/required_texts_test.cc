#include "common/model/required_texts.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "common/model/expert_manifest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace ccoe::model {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TEST(RequiredTexts, AreTheLongestThatMustBeThere) {
  EXPECT_THAT(RequiredTexts("(?i)\\bConstitution of India\\b"),
              ElementsAre("constitution of india"));
  EXPECT_THAT(RequiredTexts("ab.cdef\\d+gh"), ElementsAre("cdef"));
  EXPECT_THAT(RequiredTexts("(?i)^\\s*solve:? [^\\n]{0,120}=x"), ElementsAre("solve"));
  EXPECT_THAT(RequiredTexts("columns?\\b"), ElementsAre("column"));
  EXPECT_THAT(RequiredTexts("what is a+\\."), ElementsAre("what is a"));
  EXPECT_THAT(RequiredTexts("[abc]x[^]]yz[[:alpha:]]"), ElementsAre("yz"));
  EXPECT_THAT(RequiredTexts("a{2}bcd"), ElementsAre("bcd"));
  EXPECT_THAT(RequiredTexts("(?:law)+ab"), ElementsAre("law"));
}

TEST(RequiredTexts, OfAlternativesOneMustBeThere) {
  EXPECT_THAT(RequiredTexts("(?:write|create) an?"), UnorderedElementsAre("write", "create"));
  EXPECT_THAT(RequiredTexts("select|insert into"), UnorderedElementsAre("select", "insert into"));
  EXPECT_THAT(RequiredTexts("(?:a(?:bcd|efgh)|ijkl)mn"),
              UnorderedElementsAre("bcd", "efgh", "ijkl"));
  EXPECT_THAT(RequiredTexts("(?=.*python)x"), ElementsAre("python"));
}

TEST(RequiredTexts, AreNoneWhereNothingMustBeThere) {
  for (const char* regex : {"", "\\d+", "(?:abc)?", "(?:abc)*d?", "(?:abc|)", "a|\\w", "(?!abc).",
                            "(?:abc){0,3}", ".*", "(?:abc|[de])"}) {
    EXPECT_THAT(RequiredTexts(regex), IsEmpty()) << regex;
  }
  // And where the reader is not sure.
  for (const char* regex :
       {"(?x) abc def", "\\Qabc\\E", "(*UCP)abc", "(?<n>abc)\\k<n>", "abc\\p{L}", "(?|abc|def)",
        "(?#abc)def", "abc(", "(a)bcd\\1", "ab{x}cd"}) {
    EXPECT_THAT(RequiredTexts(regex), IsEmpty()) << regex;
  }
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// All patterns of the packages over all prompts that the gate is made with.
TEST(RequiredTexts, StandInEveryTextThatMatches) {
  const std::filesystem::path root = std::filesystem::path(CCOE_TEST_SOURCE_DIR).parent_path();
  std::vector<std::string> prompts;
  for (const char* name : {"prompts.jsonl", "invented.jsonl", "plans.jsonl"}) {
    std::ifstream file(root / "training" / "gate" / name);
    for (std::string line; std::getline(file, line);) {
      prompts.push_back(nlohmann::json::parse(line)["prompt"]);
    }
  }
  ASSERT_GT(prompts.size(), 2000u);
  int matches = 0;
  int patterns = 0;
  int filtered = 0;
  for (const auto& folder : std::filesystem::directory_iterator(root / "deploy" / "experts")) {
    const auto manifest = ParseExpertManifest(ReadFile(folder.path() / "expert.json"), "a package");
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    for (const GatePattern& pattern : manifest->rules.patterns) {
      const std::vector<std::string> required = RequiredTexts(pattern.regex);
      ++patterns;
      filtered += !required.empty();
      for (const std::string& prompt : prompts) {
        if (!pattern.compiled->Contains(prompt)) continue;
        ++matches;
        const std::string lower = absl::AsciiStrToLower(prompt);
        EXPECT_TRUE(required.empty() || std::any_of(required.begin(), required.end(),
                                                    [&](const std::string& text) {
                                                      return lower.find(text) != std::string::npos;
                                                    }))
            << pattern.regex << " in " << prompt;
      }
    }
  }
  EXPECT_GT(matches, 200);
  EXPECT_GT(filtered * 10, patterns * 9);
}

}  // namespace
}  // namespace ccoe::model
