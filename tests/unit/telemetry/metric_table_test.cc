#include "common/telemetry/metric_table.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/telemetry/metrics.h"
#include "common/telemetry/metrics_doc.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ccoe::telemetry {
namespace {

// Exposition text with an observation of every kind that needs one to appear.
std::string TextOf(const std::string& service) {
  Metrics metrics({.service = service, .version = "1", .arithmetic = "exact"});
  metrics.SetModel("tiny", "llama", "sha256:0");
  metrics.CountHttpRequest("/v1/models", 200);
  metrics.WatchCertificate([] { return absl::UnixEpoch(); });
  metrics.SetGaugeSource([] {
    GaugeValues values;
    values.experts = {{"sql", "sql", "1", true}};
    values.keys = {{"team-a", 1, 10}};
    return values;
  });
  return metrics.Text();
}

// "name type" of every family.
std::set<std::string> FamiliesOf(const std::string& text) {
  std::set<std::string> families;
  for (const auto& line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "# TYPE ")) families.emplace(line.substr(7));
  }
  return families;
}

std::string NameAndType(const MetricEntry& entry) {
  const char* type = entry.type == MetricType::kCounter ? "counter"
                     : entry.type == MetricType::kGauge ? "gauge"
                                                        : "histogram";
  return absl::StrCat(std::string(entry.name), " ", type);
}

TEST(MetricTableTest, EntriesStandInOrderAndAreSound) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < MetricTable().size(); ++i) {
    const MetricEntry& entry = MetricTable()[i];
    const std::string name(entry.name);
    EXPECT_EQ(static_cast<size_t>(entry.id), i) << name;
    EXPECT_TRUE(names.insert(entry.name).second) << name;
    EXPECT_TRUE(absl::StartsWith(name, "ccoe_"));
    EXPECT_EQ(absl::EndsWith(name, "_total"), entry.type == MetricType::kCounter) << name;
    EXPECT_TRUE(absl::EndsWith(std::string(entry.help), ".")) << name;
    EXPECT_EQ(entry.buckets.empty(), entry.type != MetricType::kHistogram) << name;
    EXPECT_TRUE(std::is_sorted(entry.buckets.begin(), entry.buckets.end())) << name;
  }
  EXPECT_EQ(MetricTable().size(), static_cast<size_t>(MetricId::kHttpRequests) + 1);
}

TEST(MetricTableTest, EveryServiceShowsItsPartsOfTheTableAndNothingElse) {
  const std::map<std::string, std::set<MetricPart>> parts = {
      {"router", {MetricPart::kRouter, MetricPart::kStream, MetricPart::kProcess}},
      {"backbone",
       {MetricPart::kEngine, MetricPart::kLink, MetricPart::kStream, MetricPart::kProcess}},
      {"expert",
       {MetricPart::kEngine, MetricPart::kLink, MetricPart::kStream, MetricPart::kProcess}},
      {"gateway", {MetricPart::kHttp, MetricPart::kProcess}},
      {"serve",
       {MetricPart::kRouter, MetricPart::kEngine, MetricPart::kStream, MetricPart::kHttp,
        MetricPart::kProcess}}};
  for (const auto& [service, shown] : parts) {
    std::set<std::string> expected;
    for (const MetricEntry& entry : MetricTable()) {
      if (shown.contains(entry.part)) expected.insert(NameAndType(entry));
    }
    EXPECT_EQ(FamiliesOf(TextOf(service)), expected) << service;
  }
}

TEST(MetricTableTest, TheLabelsAreThoseOfTheTable) {
  const std::string text = TextOf("serve") + TextOf("backbone");
  for (const MetricEntry& entry : MetricTable()) {
    std::set<std::string> expected;
    for (const auto& part : absl::StrSplit(std::string(entry.labels), '`')) {
      const std::string name(part);
      if (!name.empty() && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == name.npos) {
        expected.insert(name);
      }
    }
    const std::string sample = absl::StrCat("\n", std::string(entry.name),
                                            entry.type == MetricType::kHistogram ? "_count" : "");
    const size_t begin = text.find(sample) + sample.size();
    std::set<std::string> labels;
    const std::string line = text.substr(begin, text.find('\n', begin) - begin);
    if (absl::StartsWith(line, "{")) {
      const std::string inside = line.substr(1, line.find('}') - 1);
      for (const auto& pair : absl::StrSplit(inside, ',')) {
        labels.insert(std::string(pair.substr(0, pair.find('='))));
      }
    }
    EXPECT_EQ(labels, expected) << entry.name;
  }
}

TEST(MetricsDocTest, TheCommittedPageIsTheTable) {
  std::ifstream file(std::string(CCOE_TEST_SOURCE_DIR) + "/../docs/metrics.md");
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), MetricsMarkdown()) << "run: build/bin/ccoe-metrics-doc > docs/metrics.md";
}

}  // namespace
}  // namespace ccoe::telemetry
