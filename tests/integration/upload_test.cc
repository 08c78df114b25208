// Packages that come to the server over the wire.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "common/base/error.h"
#include "common/rpc/status.h"
#include "tests/integration/admin_harness.h"

namespace ccoe::testing {
namespace {

namespace fs = std::filesystem;
using base::Reason;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class UploadTest : public AdminTest {
 protected:
  void SetUp() override {
    AdminTest::SetUp();
    for (const std::string name :
         {"expert.json", "adapter_model.safetensors", "adapter_config.json"}) {
      std::stringstream bytes;
      bytes << std::ifstream(fs::path(TinyFolder("llama_lora")) / name, std::ios::binary).rdbuf();
      v1::UploadFile& file = *header_.add_files();
      file.set_name(name);
      file.set_bytes(static_cast<int64_t>(bytes.str().size()));
      bytes_ += bytes.str();
    }
  }

  absl::StatusOr<v1::UploadExpertResponse> Send(const v1::UploadHeader& header,
                                                const std::string& bytes) {
    grpc::ClientContext context;
    v1::UploadExpertResponse response;
    const auto writer = admin_->UploadExpert(&context, &response);
    v1::UploadExpertRequest request;
    *request.mutable_header() = header;
    bool wanted = writer->Write(request);
    for (size_t at = 0; at < bytes.size() && wanted; at += 10000) {
      request.set_chunk(bytes.substr(at, 10000));
      wanted = writer->Write(request);
    }
    writer->WritesDone();
    const absl::Status status = rpc::FromGrpcStatus(writer->Finish());
    if (!status.ok()) return status;
    return response;
  }
  absl::Status Refused(const v1::UploadHeader& header, const std::string& bytes) {
    const absl::Status status = Send(header, bytes).status();
    EXPECT_TRUE(LeftNothing());
    EXPECT_THAT(Listed(), ElementsAre("general"));
    return status;
  }
  bool LeftNothing() const { return fs::is_empty(uploads()); }

  v1::UploadHeader header_;  // of the tiny LoRA package
  std::string bytes_;
};

TEST_F(UploadTest, AnUploadedPackageIsServed) {
  header_.set_validate_only(true);
  ASSERT_TRUE(Send(header_, bytes_).ok());
  EXPECT_THAT(Listed(), ElementsAre("general"));
  header_.set_validate_only(false);
  const auto response = Send(header_, bytes_);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->pushed().expert().name(), "tiny-lora");
  EXPECT_EQ(response->pushed().confusion_size(), 1);
  EXPECT_TRUE(LeftNothing());
  const auto uploaded = Generate("tiny-lora, go");
  ASSERT_TRUE(uploaded.ok()) << uploaded.status();
  EXPECT_EQ(base::ReasonOf(Send(header_, bytes_).status()), Reason::kAlreadyExists);
  ASSERT_TRUE(Pop("tiny-lora").ok());
  PushAgain(TinyFolder("llama_lora"));
  const auto pushed = Generate("tiny-lora, go");
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(Ids(*uploaded), Ids(*pushed));
  EXPECT_EQ(pushed->started().route().expert(), "tiny-lora");
}

TEST_F(UploadTest, WhatIsNotWholeIsRefused) {
  EXPECT_EQ(base::ReasonOf(Refused(header_, bytes_.substr(1))), Reason::kInvalidRequest);
  EXPECT_EQ(base::ReasonOf(Refused(header_, bytes_ + "x")), Reason::kInvalidRequest);
  EXPECT_EQ(base::ReasonOf(Refused(header_, "")), Reason::kInvalidRequest);
  EXPECT_EQ(base::ReasonOf(Refused({}, "")), Reason::kInvalidRequest);
}

TEST_F(UploadTest, WhatIsTooLargeIsRefusedBeforeItComes) {
  header_.mutable_files(1)->set_bytes(int64_t{1} << 20);
  const absl::Status status = Refused(header_, "");
  EXPECT_EQ(base::ReasonOf(status), Reason::kInvalidRequest);
  EXPECT_THAT(std::string(status.message()), HasSubstr("1048576 bytes"));
}

TEST_F(UploadTest, NamesArePlain) {
  for (const std::string name : {"../expert.json", "/tmp/x", "a/b", "..", ""}) {
    v1::UploadHeader header = header_;
    header.mutable_files(0)->set_name(name);
    EXPECT_EQ(base::ReasonOf(Refused(header, bytes_)), Reason::kInvalidRequest) << name;
  }
}

TEST_F(UploadTest, ADamagedPackageIsRefusedByTheNameOfItsFile) {
  std::string damaged = bytes_;
  damaged[static_cast<size_t>(header_.files(0).bytes())] ^= 1;  // the length of the weights' header
  const absl::Status status = Refused(header_, damaged);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), ::testing::StartsWith("adapter_model.safetensors"));
  header_.mutable_files(0)->set_name("other.json");
  EXPECT_EQ(Refused(header_, bytes_).code(), absl::StatusCode::kNotFound);
}

TEST_F(UploadTest, MessagesComeInTheirOrder) {
  grpc::ClientContext context;
  v1::UploadExpertResponse response;
  const auto writer = admin_->UploadExpert(&context, &response);
  v1::UploadExpertRequest request;
  *request.mutable_header() = header_;
  EXPECT_TRUE(writer->Write(request));
  writer->Write(request);  // the header again
  writer->WritesDone();
  EXPECT_EQ(base::ReasonOf(rpc::FromGrpcStatus(writer->Finish())), Reason::kInvalidRequest);
  EXPECT_TRUE(LeftNothing());
}

TEST_F(UploadTest, AClientThatLeavesLeavesNothing) {
  grpc::ClientContext context;
  v1::UploadExpertResponse response;
  const auto writer = admin_->UploadExpert(&context, &response);
  v1::UploadExpertRequest request;
  *request.mutable_header() = header_;
  ASSERT_TRUE(writer->Write(request));
  request.set_chunk(bytes_.substr(0, 10000));
  ASSERT_TRUE(writer->Write(request));
  while (LeftNothing()) std::this_thread::yield();
  EXPECT_TRUE(Push(TinyFolder("llama_full")).ok());  // nobody waits for it
  context.TryCancel();
  writer->Finish();
  while (!LeftNothing()) std::this_thread::yield();
  EXPECT_THAT(Listed(), ElementsAre("general", "tiny-full"));
}

}  // namespace
}  // namespace ccoe::testing
