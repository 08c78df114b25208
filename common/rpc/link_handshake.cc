#include "common/rpc/link_handshake.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"
#include "common/rpc/link_frames.h"

namespace ccoe::rpc {
namespace {

absl::Status Mismatch(absl::string_view what, absl::string_view backbone,
                      absl::string_view expert) {
  return base::MakeError(
      base::Reason::kModelMismatch,
      absl::StrCat("backbone and expert differ in ", what, ": the backbone has ", backbone,
                   ", the expert ", expert, "; start both with the same model and options"));
}

// Fields that Hello and HelloReply have in common.
template <typename Message>
absl::Status CheckModel(const Message& backbone, const Message& expert) {
  if (backbone.base_digest() != expert.base_digest()) {
    return Mismatch("the base model", backbone.base_digest(), expert.base_digest());
  }
  if (backbone.arithmetic() != expert.arithmetic()) {
    return Mismatch("arithmetic", backbone.arithmetic(), expert.arithmetic());
  }
  if (backbone.layers() != expert.layers()) {
    return Mismatch("layers", absl::StrCat(backbone.layers()), absl::StrCat(expert.layers()));
  }
  if (backbone.hidden() != expert.hidden()) {
    return Mismatch("the width of hidden states", absl::StrCat(backbone.hidden()),
                    absl::StrCat(expert.hidden()));
  }
  return absl::OkStatus();
}

}  // namespace

internal::v1::Hello MakeHello(const LinkIdentity& backbone) {
  internal::v1::Hello hello;
  hello.set_min_protocol(kLinkProtocolMin);
  hello.set_max_protocol(kLinkProtocolMax);
  hello.set_base_digest(backbone.base_digest);
  hello.set_arithmetic(backbone.arithmetic);
  hello.set_layers(backbone.layers);
  hello.set_hidden(backbone.hidden);
  hello.set_layer_end(backbone.layer_end);
  hello.set_node(backbone.node);
  return hello;
}

absl::StatusOr<uint32_t> CheckHello(const internal::v1::Hello& hello, const LinkIdentity& expert) {
  const uint32_t newest = std::min(hello.max_protocol(), kLinkProtocolMax);
  if (newest < std::max(hello.min_protocol(), kLinkProtocolMin)) {
    return Mismatch("the link's protocol",
                    absl::StrCat(hello.min_protocol(), " to ", hello.max_protocol()),
                    absl::StrCat(kLinkProtocolMin, " to ", kLinkProtocolMax));
  }
  CCOE_RETURN_IF_ERROR(CheckModel(hello, MakeHello(expert)));
  return newest;
}

absl::Status CheckHelloReply(const internal::v1::HelloReply& reply, const LinkIdentity& backbone) {
  if (reply.protocol() < kLinkProtocolMin || reply.protocol() > kLinkProtocolMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the expert chose protocol ", reply.protocol(), ", which was not offered"));
  }
  internal::v1::HelloReply own;
  own.set_base_digest(backbone.base_digest);
  own.set_arithmetic(backbone.arithmetic);
  own.set_layers(backbone.layers);
  own.set_hidden(backbone.hidden);
  CCOE_RETURN_IF_ERROR(CheckModel(own, reply));
  for (const internal::v1::LinkExpert& expert : reply.experts()) {
    CCOE_RETURN_IF_ERROR(CheckOffered(expert, backbone));
  }
  return absl::OkStatus();
}

absl::Status CheckOffered(const internal::v1::LinkExpert& expert, const LinkIdentity& backbone) {
  const int64_t row_bytes = static_cast<int64_t>(sizeof(float)) * backbone.hidden;
  const internal::v1::ExpertDescription& description = expert.description();
  if (description.expert().name().empty() || expert.credit_rows() < 1 ||
      expert.credit_bytes() < row_bytes) {
    return absl::InvalidArgumentError("the expert process has an expert without name or credit");
  }
  if (expert.entry_depth() < 1 || expert.entry_depth() > description.attach_depth() ||
      expert.entry_depth() > backbone.layer_end) {
    return Mismatch(absl::StrCat("the layers below expert ", description.expert().name()),
                    absl::StrCat("layers up to ", backbone.layer_end),
                    absl::StrCat("entry at layer ", expert.entry_depth()));
  }
  return absl::OkStatus();
}

absl::StatusOr<int> EntryDepth(const internal::v1::ExpertDescription& expert, int base_begin,
                               int backbone_end) {
  const int shallowest =
      base_begin > 0 ? std::min(base_begin, expert.attach_depth()) : expert.attach_depth();
  if (backbone_end < shallowest) {
    return Mismatch(absl::StrCat("the layers below expert ", expert.expert().name()),
                    absl::StrCat("layers up to ", backbone_end),
                    absl::StrCat("layers from ", shallowest));
  }
  return std::min(backbone_end, expert.attach_depth());
}

internal::v1::ExpertDescription DescribeExpert(const runtime::ExpertInfo& info,
                                               const std::string& manifest_json) {
  internal::v1::ExpertDescription description;
  description.mutable_expert()->set_name(info.key.name);
  description.mutable_expert()->set_version(info.key.version);
  description.set_domain(info.domain);
  description.set_description(info.description);
  description.set_package_digest(info.package_digest);
  description.set_attach_depth(info.attach_depth);
  description.set_manifest_json(manifest_json);
  return description;
}

runtime::ExpertInfo ExpertInfoOf(const internal::v1::ExpertDescription& description) {
  runtime::ExpertInfo info;
  info.key = {description.expert().name(), description.expert().version()};
  info.domain = description.domain();
  info.description = description.description();
  info.package_digest = description.package_digest();
  info.attach_depth = description.attach_depth();
  return info;
}

}  // namespace ccoe::rpc
