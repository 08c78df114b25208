#include "common/rpc/tls.h"

#include <grpcpp/create_channel.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "ccoe/internal/v1/config.pb.h"
#include "common/rpc/channel.h"
#include "common/rpc/server.h"
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "gtest/gtest.h"

namespace ccoe::rpc {
namespace {

using internal::v1::TlsConfig;
using ::testing::HasSubstr;

void AddExtension(X509* certificate, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

// A certificate of localhost that is its own authority.
TlsConfig MakeIdentity(const std::filesystem::path& folder, absl::Duration life) {
  std::filesystem::create_directories(folder);
  TlsConfig tls;
  tls.set_certificate(folder / "certificate.pem");
  tls.set_private_key(folder / "key.pem");
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate), absl::ToInt64Seconds(life));
  X509_set_pubkey(certificate, key);
  X509_NAME* name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  X509_set_issuer_name(certificate, name);
  AddExtension(certificate, NID_basic_constraints, "critical,CA:TRUE");
  AddExtension(certificate, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
  X509_sign(certificate, key, EVP_sha256());
  std::FILE* file = std::fopen(tls.certificate().c_str(), "w");
  PEM_write_X509(file, certificate);
  std::fclose(file);
  file = std::fopen(tls.private_key().c_str(), "w");
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return tls;
}

class TlsTest : public ::testing::Test {
 protected:
  TlsTest()
      : folder_(std::filesystem::path(::testing::TempDir()) /
                ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(folder_);
    server_ = MakeIdentity(folder_ / "server", absl::Hours(24));
  }
  ~TlsTest() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }

  const std::filesystem::path folder_;
  TlsConfig server_;
};

// Whether who trusts `ca` gets an answer from `server`, and shows `identity` for it.
bool Answers(const Server& server, const std::string& ca, const TlsConfig& identity = {}) {
  TlsConfig peer = identity;
  peer.set_ca(ca);
  const auto stub =
      grpc::health::v1::Health::NewStub(MakeChannel(server.address(), PeerCredentials(peer)));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(5)));
  grpc::health::v1::HealthCheckResponse response;
  return stub->Check(&context, {}, &response).ok();
}

std::unique_ptr<Server> Serve(const TlsConfig& tls) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.credentials = ServerCredentials(tls);
  auto server = Server::Start(options);
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

TEST_F(TlsTest, AConfigurationIsChecked) {
  EXPECT_TRUE(CheckServerTls({}).ok());
  EXPECT_TRUE(CheckServerTls(server_).ok());
  TlsConfig tls = server_;
  tls.clear_private_key();
  EXPECT_THAT(std::string(CheckServerTls(tls).message()), HasSubstr("given together"));
  tls.set_private_key(folder_ / "none");
  EXPECT_THAT(std::string(CheckServerTls(tls).message()), HasSubstr("cannot read"));
  tls.set_private_key(Write("text", "no key"));
  EXPECT_THAT(std::string(CheckServerTls(tls).message()), HasSubstr("no private key"));
  tls.set_private_key(MakeIdentity(folder_ / "other", absl::Hours(1)).private_key());
  EXPECT_THAT(std::string(CheckServerTls(tls).message()), HasSubstr("is not the key of"));
  tls = server_;
  tls.set_ca(Write("text", "no certificate"));
  EXPECT_THAT(std::string(CheckServerTls(tls).message()), HasSubstr("no certificate"));
  tls = {};
  tls.set_ca(server_.certificate());
  EXPECT_FALSE(CheckServerTls(tls).ok());
  EXPECT_TRUE(CheckPeerTls(tls).ok());
  EXPECT_FALSE(CheckPeerTls(server_).ok());
}

TEST_F(TlsTest, TheEndOfACertificate) {
  const auto end = CertificateExpiry(server_.certificate());
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_LT(absl::AbsDuration(*end - (absl::Now() + absl::Hours(24))), absl::Minutes(5));
  EXPECT_FALSE(CertificateExpiry(server_.private_key()).ok());
}

TEST_F(TlsTest, OnlyWhoTrustsTheCertificateConnects) {
  const auto server = Serve(server_);
  EXPECT_TRUE(Answers(*server, server_.certificate()));
  EXPECT_FALSE(Answers(*server, ""));  // plaintext
  EXPECT_FALSE(Answers(*server, MakeIdentity(folder_ / "other", absl::Hours(1)).certificate()));
}

TEST_F(TlsTest, WithAnAuthorityClientsHaveToShowACertificate) {
  const TlsConfig known = MakeIdentity(folder_ / "known", absl::Hours(1));
  const TlsConfig unknown = MakeIdentity(folder_ / "unknown", absl::Hours(1));
  TlsConfig tls = server_;
  tls.set_ca(known.certificate());
  const auto server = Serve(tls);
  EXPECT_TRUE(Answers(*server, server_.certificate(), known));
  EXPECT_FALSE(Answers(*server, server_.certificate(), unknown));
  EXPECT_FALSE(Answers(*server, server_.certificate()));
}

TEST_F(TlsTest, ARenewedCertificateIsUsedWithoutARestart) {
  const auto server = Serve(server_);
  EXPECT_TRUE(Answers(*server, server_.certificate()));
  MakeIdentity(folder_ / "server", absl::Hours(48));  // in place
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  bool renewed = false;
  while (!renewed && absl::Now() < deadline) renewed = Answers(*server, server_.certificate());
  EXPECT_TRUE(renewed);
}

}  // namespace
}  // namespace ccoe::rpc
