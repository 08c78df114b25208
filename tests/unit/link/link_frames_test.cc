#include "common/rpc/link_frames.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>

#include "common/base/error.h"

namespace ccoe::rpc {
namespace {

using internal::v1::RowsFrame;
using runtime::HiddenRows;
using runtime::RowOutput;

constexpr int kHidden = 64;
constexpr FrameLimits kLimits{kHidden, 1000, 4096};

HiddenRows MakeRows(runtime::SessionId session, int position, int count, RowOutput output) {
  HiddenRows rows;
  rows.session = session;
  rows.epoch = 3;
  rows.position = position;
  rows.output = output;
  for (int i = 0; i < count; ++i) {
    rows.tokens.push_back((position + i) % kLimits.vocab);
    if (output == RowOutput::kScore) rows.targets.push_back(i % 3 == 0 ? -1 : i % kLimits.vocab);
    for (int j = 0; j < kHidden; ++j) rows.states.push_back(std::sin(position * 7 + i * 31 + j));
  }
  return rows;
}

std::vector<HiddenRows> RoundTrip(const std::vector<HiddenRows>& rows) {
  std::vector<HiddenRows> received;
  for (const EncodedRows& frame : EncodeRows(2, rows, kHidden, 77)) {
    internal::v1::LinkRequest message;
    EXPECT_TRUE(message.ParseFromString(frame.message.SerializeAsString()));
    EXPECT_EQ(message.rows().expert(), 2u);
    EXPECT_EQ(message.rows().sent_ns(), 77);
    EXPECT_LE(message.rows().payload().size(), kMaxPayloadBytes);
    auto decoded = DecodeRows(message.rows(), kLimits);
    EXPECT_TRUE(decoded.ok()) << decoded.status();
    if (!decoded.ok()) continue;
    for (HiddenRows& r : *decoded) received.push_back(std::move(r));
  }
  return received;
}

RowsFrame GoodFrame() {
  return EncodeRows(0, {MakeRows(1, 5, 3, RowOutput::kScore)}, kHidden, 1)[0].message.rows();
}

TEST(LinkFramesTest, RowsSurviveTheWireBitForBit) {
  HiddenRows odd = MakeRows(9, 0, 2, RowOutput::kNone);
  odd.states[0] = -0.0f;
  odd.states[1] = std::numeric_limits<float>::quiet_NaN();
  odd.states[2] = std::numeric_limits<float>::denorm_min();
  const std::vector<HiddenRows> received = RoundTrip({odd});
  ASSERT_EQ(received.size(), 1u);
  EXPECT_EQ(received[0].session, 9u);
  EXPECT_EQ(received[0].epoch, 3u);
  EXPECT_EQ(received[0].tokens, odd.tokens);
  ASSERT_EQ(received[0].states.size(), odd.states.size());
  EXPECT_EQ(std::memcmp(received[0].states.data(), odd.states.data(), odd.states.size() * 4), 0);
}

TEST(LinkFramesTest, DecodeRowsOfManySessionsShareOneFrameBeforePrefill) {
  const auto frames =
      EncodeRows(0,
                 {MakeRows(1, 0, 10, RowOutput::kSample), MakeRows(2, 40, 1, RowOutput::kSample),
                  MakeRows(3, 50, 1, RowOutput::kSample)},
                 kHidden, 0);
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[0].priority, FramePriority::kDecode);
  EXPECT_EQ(frames[0].rows, 2);
  EXPECT_EQ(frames[0].message.rows().segments_size(), 2);
  EXPECT_EQ(frames[1].priority, FramePriority::kPrefill);
  EXPECT_EQ(frames[1].rows, 10);
}

// Rows that do not fit one frame: every row arrives once and in order, and only the last part
// samples.
TEST(LinkFramesTest, LongSegmentsAreDivided) {
  const int per_frame = static_cast<int>(kMaxPayloadBytes / (4 * kHidden));
  const HiddenRows sampled = MakeRows(1, 0, 2 * per_frame + 5, RowOutput::kSample);
  const HiddenRows scored = MakeRows(2, 3, per_frame, RowOutput::kScore);
  const std::vector<HiddenRows> received = RoundTrip({sampled, scored});
  HiddenRows joined[2];
  for (const HiddenRows& part : received) {
    HiddenRows& whole = joined[part.session - 1];
    if (whole.tokens.empty()) whole.position = part.position;
    EXPECT_EQ(part.position, whole.position + static_cast<int>(whole.tokens.size()));
    EXPECT_NE(whole.output, RowOutput::kSample) << "rows after the sampling part";
    whole.output = part.output;
    whole.tokens.insert(whole.tokens.end(), part.tokens.begin(), part.tokens.end());
    whole.targets.insert(whole.targets.end(), part.targets.begin(), part.targets.end());
    whole.states.insert(whole.states.end(), part.states.begin(), part.states.end());
  }
  EXPECT_EQ(joined[0].output, RowOutput::kSample);
  EXPECT_EQ(joined[0].tokens, sampled.tokens);
  EXPECT_EQ(joined[0].states, sampled.states);
  EXPECT_EQ(joined[1].tokens, scored.tokens);
  EXPECT_EQ(joined[1].targets, scored.targets);
  EXPECT_EQ(joined[1].states, scored.states);
}

struct Damage {
  const char* name;
  void (*apply)(RowsFrame& frame);
};

class HostileFrameTest : public ::testing::TestWithParam<Damage> {};

TEST_P(HostileFrameTest, IsRefused) {
  RowsFrame frame = GoodFrame();
  ASSERT_TRUE(DecodeRows(frame, kLimits).ok());
  GetParam().apply(frame);
  EXPECT_EQ(DecodeRows(frame, kLimits).status().code(), absl::StatusCode::kInvalidArgument);
}

constexpr Damage kDamages[] = {
    {"NoSegments", [](RowsFrame& f) { f.clear_segments(); }},
    {"EmptySegment",
     [](RowsFrame& f) { f.add_segments()->set_output(internal::v1::ROW_OUTPUT_NONE); }},
    {"ShortPayload", [](RowsFrame& f) { f.mutable_payload()->pop_back(); }},
    {"LongPayload", [](RowsFrame& f) { f.mutable_payload()->append(4 * kHidden, '\0'); }},
    {"HugePayload", [](RowsFrame& f) { f.mutable_payload()->resize(kMaxPayloadBytes + 1); }},
    {"NegativePosition", [](RowsFrame& f) { f.mutable_segments(0)->set_position(-1); }},
    {"PositionBeyondContext", [](RowsFrame& f) { f.mutable_segments(0)->set_position(4094); }},
    {"PositionOverflow", [](RowsFrame& f) { f.mutable_segments(0)->set_position(INT32_MAX); }},
    {"NegativeToken", [](RowsFrame& f) { f.mutable_segments(0)->set_tokens(1, -1); }},
    {"UnknownToken", [](RowsFrame& f) { f.mutable_segments(0)->set_tokens(1, 1000); }},
    {"ExtraToken", [](RowsFrame& f) { f.mutable_segments(0)->add_tokens(1); }},
    {"MissingTarget", [](RowsFrame& f) { f.mutable_segments(0)->mutable_targets()->RemoveLast(); }},
    {"NegativeTarget", [](RowsFrame& f) { f.mutable_segments(0)->set_targets(0, -2); }},
    {"UnknownTarget", [](RowsFrame& f) { f.mutable_segments(0)->set_targets(0, 1000); }},
    {"TargetsWithoutScore",
     [](RowsFrame& f) { f.mutable_segments(0)->set_output(internal::v1::ROW_OUTPUT_SAMPLE); }},
    {"UnknownOutput",
     [](RowsFrame& f) {
       f.mutable_segments(0)->clear_targets();
       f.mutable_segments(0)->set_output(static_cast<internal::v1::RowOutput>(9));
     }},
};

INSTANTIATE_TEST_SUITE_P(All, HostileFrameTest, ::testing::ValuesIn(kDamages),
                         [](const auto& info) { return std::string(info.param.name); });

// Bytes at random never do more than be refused.
TEST(LinkFramesTest, RandomlyDamagedFramesAreDecodedOrRefused) {
  std::mt19937 random(1);
  const std::string good = GoodFrame().SerializeAsString();
  for (int i = 0; i < 2000; ++i) {
    std::string bytes = good;
    for (int j = 0; j < 4; ++j) bytes[random() % 64] = static_cast<char>(random());
    RowsFrame frame;
    if (!frame.ParseFromString(bytes)) continue;
    const auto rows = DecodeRows(frame, kLimits);
    if (!rows.ok()) continue;
    for (const HiddenRows& r : *rows) EXPECT_EQ(r.states.size(), r.tokens.size() * kHidden);
  }
}

TEST(LinkFramesTest, OpenSurvivesAndIsChecked) {
  runtime::RemoteSpec spec;
  spec.request_id = "r-1";
  spec.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  spec.package_digest = "sha256:ab";
  spec.attach_depth = 18;
  spec.max_positions = 300;
  spec.prompt_tokens = 44;
  spec.sampling.temperature = 0.5f;
  spec.sampling.top_k = 7;
  spec.sampling.top_p = 0.25f;
  spec.sampling.min_p = 0.125f;
  spec.sampling.repetition_penalty = 1.5f;
  spec.sampling.presence_penalty = -1;
  spec.sampling.frequency_penalty = 2;
  spec.sampling.seed = ~uint64_t{0};
  spec.sampling.top_logprobs = 0;
  internal::v1::OpenLinkSession open = EncodeOpen(1, 42, spec);
  EXPECT_EQ(open.expert(), 1u);
  EXPECT_EQ(open.session(), 42u);
  const auto decoded = DecodeOpen(open, kLimits);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->request_id, spec.request_id);
  EXPECT_EQ(decoded->traceparent, spec.traceparent);
  EXPECT_EQ(decoded->package_digest, spec.package_digest);
  EXPECT_EQ(decoded->attach_depth, spec.attach_depth);
  EXPECT_EQ(decoded->max_positions, spec.max_positions);
  EXPECT_EQ(decoded->prompt_tokens, spec.prompt_tokens);
  EXPECT_EQ(decoded->sampling, spec.sampling);

  open.set_traceparent(std::string(100'000, '0'));
  EXPECT_EQ(DecodeOpen(open, kLimits)->traceparent, "");

  open.set_max_positions(kLimits.max_positions + 1);
  EXPECT_FALSE(DecodeOpen(open, kLimits).ok());
  open.set_max_positions(30);  // fewer than the prompt has
  EXPECT_FALSE(DecodeOpen(open, kLimits).ok());
  open.set_max_positions(300);
  open.mutable_sampling()->set_temperature(std::numeric_limits<float>::quiet_NaN());
  EXPECT_FALSE(DecodeOpen(open, kLimits).ok());
}

TEST(LinkFramesTest, ResultsSurviveAndAreChecked) {
  internal::v1::ResultsFrame frame;
  EncodeResult({7, 2, {{11, 40, -0.5f, {{11, -0.5f}, {12, -1.5f}}}}}, frame.add_results());
  const auto results = DecodeResults(frame, kLimits);
  ASSERT_TRUE(results.ok()) << results.status();
  ASSERT_EQ(results->size(), 1u);
  EXPECT_EQ((*results)[0].session, 7u);
  EXPECT_EQ((*results)[0].epoch, 2u);
  ASSERT_EQ((*results)[0].tokens.size(), 1u);
  EXPECT_EQ((*results)[0].tokens[0].id, 11);
  EXPECT_EQ((*results)[0].tokens[0].position, 40);
  EXPECT_EQ((*results)[0].tokens[0].top.size(), 2u);
  frame.mutable_results(0)->mutable_tokens(0)->set_id(1000);
  EXPECT_FALSE(DecodeResults(frame, kLimits).ok());
}

TEST(LinkFramesTest, ErrorsKeepTheirReason) {
  internal::v1::LinkError error;
  EncodeError(base::MakeError(base::Reason::kDraining, "about to stop"), &error);
  const absl::Status status = DecodeError(error);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "about to stop");
  EXPECT_EQ(base::ReasonOf(status), base::Reason::kDraining);
  error.set_code(0);
  EXPECT_FALSE(DecodeError(error).ok());
  error.set_code(4711);
  EXPECT_EQ(DecodeError(error).code(), absl::StatusCode::kUnknown);
}

}  // namespace
}  // namespace ccoe::rpc
