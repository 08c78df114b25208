#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace ccoe::internal::v1 {
class TlsConfig;
}  // namespace ccoe::internal::v1

namespace ccoe::rpc {

// TLS as a configuration describes it. The files are looked at again each second, and new
// connections use what has changed: a renewed certificate needs no restart.

// Of a port: INVALID_ARGUMENT for a certificate without its private key or the other way round, for
// files that cannot be read or hold no such thing, for a key that is another certificate's, and for
// an authority without a certificate. Unset is fine.
absl::Status CheckServerTls(const internal::v1::TlsConfig& tls);
// As that, of who dials: there the authority may be alone, and a certificate may not.
absl::Status CheckPeerTls(const internal::v1::TlsConfig& tls);

// Of checked configurations. Without a certificate, or for a peer without an authority: plaintext.
std::shared_ptr<grpc::ServerCredentials> ServerCredentials(const internal::v1::TlsConfig& tls);
std::shared_ptr<grpc::ChannelCredentials> PeerCredentials(const internal::v1::TlsConfig& tls);

// When the first certificate of a PEM file ends. INVALID_ARGUMENT where there is none.
absl::StatusOr<absl::Time> CertificateExpiry(const std::string& file);

}  // namespace ccoe::rpc
