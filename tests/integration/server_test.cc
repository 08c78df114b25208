#include "common/rpc/server.h"

#include <grpcpp/create_channel.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "gtest/gtest.h"

namespace ccoe::rpc {
namespace {

namespace health = grpc::health::v1;

std::string HealthAt(const std::string& address, const std::string& service) {
  const auto stub =
      health::Health::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  health::HealthCheckRequest request;
  request.set_service(service);
  health::HealthCheckResponse response;
  const grpc::Status status = stub->Check(&context, request, &response);
  if (!status.ok()) return absl::StrCat("error ", status.error_code());
  return health::HealthCheckResponse::ServingStatus_Name(response.status());
}

TEST(ServerTest, HealthIsOnBothPortsForTheServerAndItsServices) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.health_listen = "127.0.0.1:0";
  const auto server = Server::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_NE((*server)->port(), (*server)->health_port());
  for (const std::string& address : {(*server)->address(), (*server)->health_address()}) {
    EXPECT_EQ(HealthAt(address, ""), "SERVING");
    EXPECT_EQ(HealthAt(address, "grpc.channelz.v1.Channelz"), "SERVING");
    EXPECT_EQ(HealthAt(address, "no.such.Service"), "error 5");
  }
  (*server)->SetHealth(Server::Health::kNotServing);
  for (const std::string& address : {(*server)->address(), (*server)->health_address()}) {
    EXPECT_EQ(HealthAt(address, ""), "NOT_SERVING");
    EXPECT_EQ(HealthAt(address, "grpc.channelz.v1.Channelz"), "NOT_SERVING");
  }
}

TEST(ServerTest, APortThatIsTakenIsAnError) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  const auto first = Server::Start(options);
  ASSERT_TRUE(first.ok());
  options.listen = (*first)->address();
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kUnavailable);
  options.listen = "nowhere";
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ServerTest, AUnixSocketsAddressCanBeDialled) {
  ServerOptions options;
  options.listen = absl::StrCat("unix:", testing::TempDir(), "/server_test.", getpid());
  const auto server = Server::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ((*server)->address(), options.listen);
  EXPECT_EQ((*server)->port(), 0);
  EXPECT_EQ(HealthAt((*server)->address(), ""), "SERVING");
}

TEST(ServerTest, ShutdownTwiceIsOnce) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  const auto server = Server::Start(options);
  ASSERT_TRUE(server.ok());
  (*server)->Shutdown(absl::Seconds(1));
  (*server)->Shutdown(absl::Seconds(1));
  EXPECT_EQ(HealthAt((*server)->address(), ""), "error 14");
}

}  // namespace
}  // namespace ccoe::rpc
