#include "common/rpc/link_handshake.h"

#include <gtest/gtest.h>

#include "common/base/error.h"

namespace ccoe::rpc {
namespace {

LinkIdentity Backbone() {
  LinkIdentity identity;
  identity.base_digest = "sha256:1";
  identity.arithmetic = "exact";
  identity.layers = 30;
  identity.hidden = 576;
  identity.layer_end = 18;
  return identity;
}

LinkIdentity Expert() {
  LinkIdentity identity = Backbone();
  identity.layer_begin = 18;
  identity.layer_end = 30;
  return identity;
}

internal::v1::HelloReply Reply() {
  internal::v1::HelloReply reply;
  reply.set_protocol(1);
  reply.set_base_digest("sha256:1");
  reply.set_arithmetic("exact");
  reply.set_layers(30);
  reply.set_hidden(576);
  internal::v1::LinkExpert* expert = reply.add_experts();
  expert->mutable_description()->mutable_expert()->set_name("sql");
  expert->mutable_description()->set_attach_depth(18);
  expert->set_credit_rows(10);
  expert->set_credit_bytes(10 * 576 * 4);
  expert->set_entry_depth(18);
  return reply;
}

TEST(LinkHandshakeTest, PeersThatFitAgreeOnTheNewestProtocol) {
  internal::v1::Hello hello = MakeHello(Backbone());
  hello.set_max_protocol(kLinkProtocolMax + 3);  // a newer peer
  const auto protocol = CheckHello(hello, Expert());
  ASSERT_TRUE(protocol.ok()) << protocol.status();
  EXPECT_EQ(*protocol, kLinkProtocolMax);
  EXPECT_TRUE(CheckHelloReply(Reply(), Backbone()).ok());
}

TEST(LinkHandshakeTest, TheExpertRefusesOtherModelsAndProtocols) {
  const auto refused = [](void (*change)(internal::v1::Hello&)) {
    internal::v1::Hello hello = MakeHello(Backbone());
    change(hello);
    const absl::Status status = CheckHello(hello, Expert()).status();
    return status.code() == absl::StatusCode::kFailedPrecondition &&
           base::ReasonOf(status) == base::Reason::kModelMismatch;
  };
  EXPECT_TRUE(refused([](internal::v1::Hello& h) { h.set_base_digest("sha256:2"); }));
  EXPECT_TRUE(refused([](internal::v1::Hello& h) { h.set_arithmetic("i8b32.v2"); }));
  EXPECT_TRUE(refused([](internal::v1::Hello& h) { h.set_layers(29); }));
  EXPECT_TRUE(refused([](internal::v1::Hello& h) { h.set_hidden(64); }));
  EXPECT_TRUE(refused([](internal::v1::Hello& h) { h.set_min_protocol(kLinkProtocolMax + 1); }));
  EXPECT_TRUE(refused([](internal::v1::Hello& h) {
    h.set_min_protocol(0);
    h.set_max_protocol(0);
  }));
}

TEST(LinkHandshakeTest, TheBackboneRefusesWhatItCannotFeed) {
  const auto code = [](void (*change)(internal::v1::HelloReply&)) {
    internal::v1::HelloReply reply = Reply();
    change(reply);
    return CheckHelloReply(reply, Backbone()).code();
  };
  using Reply = internal::v1::HelloReply;
  constexpr auto kMismatch = absl::StatusCode::kFailedPrecondition;
  constexpr auto kNonsense = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code([](Reply& r) { r.set_base_digest("sha256:2"); }), kMismatch);
  EXPECT_EQ(code([](Reply& r) { r.set_arithmetic("i8b32.v2"); }), kMismatch);
  const auto depth = [](Reply& r, int k) {
    r.mutable_experts(0)->mutable_description()->set_attach_depth(k);
    r.mutable_experts(0)->set_entry_depth(k);
  };
  Reply deep = ::ccoe::rpc::Reply();
  depth(deep, 19);
  EXPECT_EQ(CheckHelloReply(deep, Backbone()).code(), kMismatch);
  Reply shallow = ::ccoe::rpc::Reply();
  depth(shallow, 0);
  EXPECT_EQ(CheckHelloReply(shallow, Backbone()).code(), kMismatch);
  EXPECT_EQ(code([](Reply& r) { r.set_protocol(7); }), kNonsense);
  EXPECT_EQ(code([](Reply& r) { r.mutable_experts(0)->set_credit_rows(0); }), kNonsense);
  EXPECT_EQ(code([](Reply& r) { r.mutable_experts(0)->set_credit_bytes(100); }), kNonsense);
}

TEST(LinkHandshakeTest, RowsEnterWhereBothSidesMeet) {
  internal::v1::ExpertDescription expert;
  expert.set_attach_depth(20);
  EXPECT_EQ(*EntryDepth(expert, 18, 30), 20);  // the backbone leaves early
  EXPECT_EQ(*EntryDepth(expert, 18, 20), 20);
  EXPECT_EQ(*EntryDepth(expert, 18, 19), 19);  // the expert process computes layer 19 of the base
  EXPECT_EQ(*EntryDepth(expert, 18, 18), 18);
  EXPECT_EQ(EntryDepth(expert, 18, 17).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*EntryDepth(expert, 0, 20), 20);
  EXPECT_EQ(EntryDepth(expert, 0, 19).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(LinkHandshakeTest, DescriptionsSurvive) {
  runtime::ExpertInfo info;
  info.key = {"sql", "1.0.0"};
  info.domain = "sql";
  info.description = "Writes SQL.";
  info.package_digest = "sha256:3";
  info.attach_depth = 18;
  const auto description = DescribeExpert(info, "{}");
  EXPECT_EQ(description.manifest_json(), "{}");
  const runtime::ExpertInfo back = ExpertInfoOf(description);
  EXPECT_EQ(back.key, info.key);
  EXPECT_EQ(back.domain, info.domain);
  EXPECT_EQ(back.description, info.description);
  EXPECT_EQ(back.package_digest, info.package_digest);
  EXPECT_EQ(back.attach_depth, info.attach_depth);
}

}  // namespace
}  // namespace ccoe::rpc
