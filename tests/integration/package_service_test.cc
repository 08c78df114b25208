// Packages that routers bring to an expert process: taken whole or not at all.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "ccoe/internal/v1/packages.grpc.pb.h"
#include "common/base/error.h"
#include "common/rpc/status.h"
#include "tests/integration/answers.h"
#include "tests/integration/split_harness.h"

namespace ccoe::testing {
namespace {

namespace fs = std::filesystem;
using internal::v1::PackageHeader;
using internal::v1::PackageService;
using internal::v1::PushPackageRequest;
using internal::v1::PushPackageResponse;
using ::testing::HasSubstr;

constexpr int kSplit = 2;  // of 4 layers

// A push, message by message.
class Push {
 public:
  explicit Push(PackageService::StubInterface& stub) : stream_(stub.PushPackage(&context_)) {}
  Push& Header(const PackageHeader& header) {
    PushPackageRequest request;
    *request.mutable_header() = header;
    stream_->Write(request);
    return *this;
  }
  Push& Bytes(const std::string& bytes) {
    PushPackageRequest request;
    for (size_t at = 0; at < bytes.size(); at += 10000) {
      request.set_chunk(bytes.substr(at, 10000));
      if (!stream_->Write(request)) break;
    }
    return *this;
  }
  Push& Commit() {
    PushPackageRequest request;
    request.mutable_commit();
    stream_->Write(request);
    return *this;
  }
  Push& Done() {
    stream_->WritesDone();
    return *this;
  }
  PushPackageResponse Read() {
    PushPackageResponse response;
    stream_->Read(&response);
    return response;
  }
  void Leave() { context_.TryCancel(); }
  absl::Status End() {
    PushPackageResponse response;
    while (stream_->Read(&response)) {
    }
    return rpc::FromGrpcStatus(stream_->Finish());
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriterInterface<PushPackageRequest, PushPackageResponse>>
      stream_;
};

class PackageServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(uploads_);
    Read("llama_lora", {"expert.json", "adapter_model.safetensors", "adapter_config.json"});
    Start(kSplit);
  }
  void TearDown() override { fs::remove_all(uploads_); }

  void Start(int begin) {
    ExpertSetup setup;
    setup.begin = begin;
    setup.upload_dir = uploads_;
    expert_ = ExpertSide::Start(model_, setup);
    const auto channel =
        grpc::CreateChannel(expert_->server->address(), grpc::InsecureChannelCredentials());
    stub_ = PackageService::NewStub(channel);
  }
  // The package to send.
  void Read(const std::string& package, const std::vector<std::string>& names) {
    header_.Clear();
    bytes_.clear();
    for (const std::string& name : names) {
      std::stringstream bytes;
      bytes << std::ifstream(fs::path(TinyPackage(package)->folder()) / name, std::ios::binary)
                   .rdbuf();
      internal::v1::PackageFile& file = *header_.add_files();
      file.set_name(name);
      file.set_bytes(static_cast<int64_t>(bytes.str().size()));
      bytes_ += bytes.str();
    }
    header_.set_package_digest(TinyPackage(package)->digest());
  }
  absl::Status Pop(const std::string& name, const std::string& version) {
    grpc::ClientContext context;
    internal::v1::PopPackageRequest request;
    request.mutable_expert()->set_name(name);
    request.mutable_expert()->set_version(version);
    internal::v1::PopPackageResponse response;
    return rpc::FromGrpcStatus(stub_->PopPackage(&context, request, &response));
  }
  bool LeftNothing() {
    return Eventually(
        [&] { return expert_->engine->Experts().size() == 1 && fs::is_empty(uploads_); });
  }
  // The push's end, which changes nothing.
  absl::Status Refused(const PackageHeader& header, const std::string& bytes) {
    const absl::Status status = Push(*stub_).Header(header).Bytes(bytes).Done().End();
    EXPECT_TRUE(LeftNothing());
    return status;
  }

  const std::shared_ptr<const model::Model> model_ = TinyModel("llama");
  const std::string uploads_ = absl::StrCat(::testing::TempDir(), "/package_service_", getpid());
  std::unique_ptr<ExpertSide> expert_;
  std::unique_ptr<PackageService::Stub> stub_;
  PackageHeader header_;
  std::string bytes_;
};

TEST_F(PackageServiceTest, APackageIsServedOnceItIsCommitted) {
  const auto backbone = BackboneSide::Start(
      model_, kSplit, IdentityOf(*model_, compute::CpuOptions().arithmetic, 0, kSplit),
      expert_->server->address());
  ASSERT_TRUE(backbone->Connected());
  const auto listed = [&] { return backbone->links[0]->GetState().experts; };
  Push push(*stub_);
  push.Header(header_).Bytes(bytes_);
  EXPECT_TRUE(push.Read().has_loaded());
  EXPECT_TRUE(fs::is_empty(uploads_));
  EXPECT_EQ(listed().size(), 1u);
  EXPECT_EQ(base::ReasonOf(Push(*stub_).Header(header_).Bytes(bytes_).Done().End()),
            base::Reason::kAlreadyExists);
  EXPECT_TRUE(push.Commit().Read().has_served());
  ASSERT_TRUE(push.End().ok());
  ASSERT_TRUE(Eventually([&] { return listed().size() == 2; }));
  EXPECT_THAT(listed()[1].manifest_json(), HasSubstr("ccoe.expert.v1"));
  const std::vector<runtime::SessionSpec> specs = MixedSpecs({"tiny-lora"});
  EXPECT_EQ(RunAll(*backbone->engine, specs),
            RunAll(*UnsplitEngine(model_, {"llama_lora"}), specs));

  EXPECT_EQ(base::ReasonOf(Pop("tiny-lora", "7")), base::Reason::kUnknownExpert);
  EXPECT_EQ(Pop("general", "base").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Pop("tiny-lora", "1.0.0").ok());
  EXPECT_TRUE(LeftNothing());
}

TEST_F(PackageServiceTest, APushThatIsGivenUpLeavesNothing) {
  const size_t weights = expert_->engine->Stats().weights_bytes;
  for (const bool loaded : {false, true}) {
    for (const bool dies : {false, true}) {
      Push push(*stub_);
      push.Header(header_).Bytes(loaded ? bytes_ : bytes_.substr(0, 10000));
      EXPECT_TRUE(!loaded || push.Read().has_loaded());
      if (dies) push.Leave();
      push.Done();
      EXPECT_FALSE(push.End().ok());
      EXPECT_TRUE(LeftNothing());
    }
  }
  EXPECT_EQ(expert_->engine->Stats().weights_bytes, weights);
  header_.set_validate_only(true);
  Push check(*stub_);
  EXPECT_TRUE(check.Header(header_).Bytes(bytes_).Read().has_loaded());
  EXPECT_TRUE(check.End().ok());
  EXPECT_TRUE(LeftNothing());
}

TEST_F(PackageServiceTest, WhatIsDamagedOrStrangeIsRefused) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(Refused(header_, bytes_.substr(1)).code(), kInvalid);
  EXPECT_EQ(Refused(header_, bytes_ + "x").code(), kInvalid);
  EXPECT_EQ(Refused({}, "").code(), kInvalid);
  PackageHeader strange = header_;
  strange.mutable_files(0)->set_name("../expert.json");
  EXPECT_EQ(Refused(strange, bytes_).code(), kInvalid);
  strange = header_;
  strange.mutable_files(1)->set_bytes(int64_t{1} << 20);
  EXPECT_EQ(Refused(strange, "").code(), kInvalid) << "too large";
  strange = header_;
  strange.set_package_digest("sha256:0");
  EXPECT_EQ(base::ReasonOf(Refused(strange, bytes_)), base::Reason::kDataLoss);
  std::string damaged = bytes_;
  damaged[static_cast<size_t>(header_.files(0).bytes())] ^= 1;  // the length of the weights' header
  const absl::Status status = Refused(header_, damaged);
  EXPECT_EQ(status.code(), kInvalid);
  EXPECT_THAT(std::string(status.message()), ::testing::StartsWith("adapter_model.safetensors"));
}

TEST_F(PackageServiceTest, MessagesComeInTheirOrder) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(Push(*stub_).Bytes(bytes_).End().code(), kInvalid);
  EXPECT_EQ(Push(*stub_).Commit().End().code(), kInvalid);
  EXPECT_EQ(Push(*stub_).Done().End().code(), kInvalid);
  EXPECT_EQ(Push(*stub_).Header(header_).Header(header_).End().code(), kInvalid);
  EXPECT_EQ(Push(*stub_).Header(header_).Commit().End().code(), kInvalid);
  EXPECT_EQ(Push(*stub_).Header(header_).Bytes(bytes_).Bytes("x").End().code(), kInvalid);
  EXPECT_TRUE(LeftNothing());
}

TEST_F(PackageServiceTest, WhatDoesNotBelongHereIsRefused) {
  Start(3);  // both attach at layer 2
  EXPECT_EQ(base::ReasonOf(Refused(header_, bytes_)), base::Reason::kModelMismatch);
  Start(kSplit);
  expert_->links->Drain(absl::ZeroDuration());
  EXPECT_EQ(base::ReasonOf(Refused(header_, bytes_)), base::Reason::kDraining);
}

}  // namespace
}  // namespace ccoe::testing
