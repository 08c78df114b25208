#include "common/rpc/tls.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstdio>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "ccoe/internal/v1/config.pb.h"
#include "common/base/status_macros.h"

namespace ccoe::rpc {
namespace {

using grpc::experimental::FileWatcherCertificateProvider;
using internal::v1::TlsConfig;

constexpr unsigned int kRefreshSeconds = 1;

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* value) const {
    Free(value);
  }
};
using X509Ptr = std::unique_ptr<X509, Deleter<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using FilePtr = std::unique_ptr<std::FILE, Deleter<std::fclose>>;

absl::StatusOr<FilePtr> OpenPem(const std::string& file) {
  FilePtr in(std::fopen(file.c_str(), "r"));
  if (in == nullptr) return absl::InvalidArgumentError(absl::StrCat("cannot read ", file));
  return in;
}

// A key with a passphrase counts as none: nobody is there to be asked.
int NoPassphrase(char*, int, int, void*) { return 0; }

absl::StatusOr<X509Ptr> ReadCertificate(const std::string& file) {
  CCOE_ASSIGN_OR_RETURN(const FilePtr in, OpenPem(file));
  X509Ptr certificate(PEM_read_X509(in.get(), nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  if (certificate != nullptr) return certificate;
  return absl::InvalidArgumentError(absl::StrCat(file, " holds no certificate in PEM"));
}

absl::StatusOr<KeyPtr> ReadKey(const std::string& file) {
  CCOE_ASSIGN_OR_RETURN(const FilePtr in, OpenPem(file));
  KeyPtr key(PEM_read_PrivateKey(in.get(), nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  if (key != nullptr) return key;
  return absl::InvalidArgumentError(
      absl::StrCat(file, " holds no private key in PEM without a passphrase"));
}

absl::Status CheckFiles(const TlsConfig& tls) {
  if (tls.certificate().empty() != tls.private_key().empty()) {
    return absl::InvalidArgumentError("certificate and private_key are given together");
  }
  if (!tls.certificate().empty()) {
    CCOE_ASSIGN_OR_RETURN(const X509Ptr certificate, ReadCertificate(tls.certificate()));
    CCOE_ASSIGN_OR_RETURN(const KeyPtr key, ReadKey(tls.private_key()));
    if (X509_check_private_key(certificate.get(), key.get()) != 1) {
      ERR_clear_error();
      return absl::InvalidArgumentError(
          absl::StrCat(tls.private_key(), " is not the key of ", tls.certificate()));
    }
  }
  return tls.ca().empty() ? absl::OkStatus() : ReadCertificate(tls.ca()).status();
}

std::shared_ptr<FileWatcherCertificateProvider> Watch(const TlsConfig& tls) {
  return std::make_shared<FileWatcherCertificateProvider>(tls.private_key(), tls.certificate(),
                                                          tls.ca(), kRefreshSeconds);
}

}  // namespace

absl::Status CheckServerTls(const TlsConfig& tls) {
  if (tls.certificate().empty() && !tls.ca().empty()) {
    return absl::InvalidArgumentError("ca needs a certificate and a private_key");
  }
  return CheckFiles(tls);
}

absl::Status CheckPeerTls(const TlsConfig& tls) {
  if (tls.ca().empty() && !tls.certificate().empty()) {
    return absl::InvalidArgumentError("a certificate needs ca, whom to trust");
  }
  return CheckFiles(tls);
}

std::shared_ptr<grpc::ServerCredentials> ServerCredentials(const TlsConfig& tls) {
  if (tls.certificate().empty()) return grpc::InsecureServerCredentials();
  grpc::experimental::TlsServerCredentialsOptions options(Watch(tls));
  options.watch_identity_key_cert_pairs();
  if (tls.ca().empty()) {
    options.set_cert_request_type(GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  } else {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> PeerCredentials(const TlsConfig& tls) {
  if (tls.ca().empty()) return grpc::InsecureChannelCredentials();
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(Watch(tls));
  options.watch_root_certs();
  if (!tls.certificate().empty()) options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

absl::StatusOr<absl::Time> CertificateExpiry(const std::string& file) {
  CCOE_ASSIGN_OR_RETURN(const X509Ptr certificate, ReadCertificate(file));
  std::tm end = {};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &end) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(file, " does not say when it ends"));
  }
  return absl::FromTM(end, absl::UTCTimeZone());
}

}  // namespace ccoe::rpc
