#pragma once

#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "ccoe/internal/v1/link.grpc.pb.h"
#include "common/rpc/link_frames.h"
#include "common/rpc/link_handshake.h"

namespace ccoe::testing {

// A backbone that speaks the link's protocol by hand.
class RawPeer {
 public:
  explicit RawPeer(const std::string& address)
      : stub_(internal::v1::ExpertService::NewStub(
            grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))),
        stream_(stub_->Link(&context_)) {}

  bool Send(const internal::v1::LinkRequest& request) { return stream_->Write(request); }
  internal::v1::LinkResponse Read() {
    internal::v1::LinkResponse response;
    EXPECT_TRUE(stream_->Read(&response));
    return response;
  }
  internal::v1::HelloReply Greet(const rpc::LinkIdentity& identity,
                                 uint32_t max_protocol = rpc::kLinkProtocolMax) {
    internal::v1::LinkRequest request;
    *request.mutable_hello() = rpc::MakeHello(identity);
    request.mutable_hello()->set_max_protocol(max_protocol);
    Send(request);
    const internal::v1::LinkResponse response = Read();
    EXPECT_TRUE(response.has_hello());
    return response.hello();
  }
  // Opens a session of an expert by its index.
  void Open(uint32_t index, const internal::v1::LinkExpert& expert, uint64_t session) {
    runtime::RemoteSpec spec;
    spec.package_digest = expert.description().package_digest();
    spec.attach_depth = expert.description().attach_depth();
    spec.max_positions = 400;
    spec.prompt_tokens = 10;
    internal::v1::LinkRequest request;
    *request.mutable_open() = rpc::EncodeOpen(index, session, spec);
    Send(request);
    const internal::v1::LinkResponse opened = Read();
    ASSERT_TRUE(opened.has_opened()) << opened.DebugString();
    ASSERT_FALSE(opened.opened().has_error()) << opened.DebugString();
  }
  // Greets and opens session 1 of the first expert.
  void OpenSession(const rpc::LinkIdentity& identity) {
    const internal::v1::HelloReply hello = Greet(identity);
    ASSERT_GT(hello.experts_size(), 0);
    Open(0, hello.experts(0), 1);
  }
  // The code that the server ends the stream with.
  grpc::StatusCode End() {
    internal::v1::LinkResponse response;
    while (stream_->Read(&response)) {
    }
    return stream_->Finish().error_code();
  }
  grpc::ClientContext& context() { return context_; }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<internal::v1::ExpertService::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<internal::v1::LinkRequest, internal::v1::LinkResponse>>
      stream_;
};

}  // namespace ccoe::testing
