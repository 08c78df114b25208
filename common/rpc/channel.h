#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>
#include <string>

namespace ccoe::rpc {

// A channel from one service to another at `address`, "host:port", by TLS or, with null for
// `credentials`, in plaintext. It notices within 20 s that the
// peer has vanished. Waiting between attempts to connect is the caller's business.
//
// Who makes callback calls must destroy each call's ClientContext before the end of the call lets
// go of the owner of the channel. A context refers to its channel, and with the last reference gRPC
// joins the threads that run the callbacks: on such a thread it would wait for itself and go on
// with freed memory.
std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    grpc::ChannelArguments arguments = {});

}  // namespace ccoe::rpc
