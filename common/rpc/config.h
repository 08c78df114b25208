#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/compute/device.h"

namespace google::protobuf {
class Message;
}  // namespace google::protobuf

namespace ccoe::internal::v1 {
class EngineConfig;
class HttpConfig;
class LimitsConfig;
class ServerConfig;
class TlsConfig;
}  // namespace ccoe::internal::v1

namespace ccoe::rpc {

// Reads a JSON file in protobuf's JSON form into `config`, over what is there. NOT_FOUND: no such
// file. INVALID_ARGUMENT: it is not JSON, or a key or value is not known, or a key appears twice in
// an object; the message names the file and the place.
absl::Status LoadConfigFile(const std::string& path, google::protobuf::Message* config);
// As LoadConfigFile, from text; `where` begins every message.
absl::Status ParseConfig(const std::string& json, const std::string& where,
                         google::protobuf::Message* config);

// The whole configuration as JSON, unset values included; ParseConfig reads it back.
std::string ConfigToJson(const google::protobuf::Message& config);

// Sets what is unset to the defaults that config.proto documents, and checks the ranges, the form
// of addresses and that files are there. INVALID_ARGUMENT names the key.
absl::Status CompleteConfig(internal::v1::ServerConfig* config);
absl::Status CompleteConfig(internal::v1::EngineConfig* config);
absl::Status CompleteConfig(internal::v1::LimitsConfig* config);
absl::Status CompleteConfig(internal::v1::HttpConfig* config);

// What the name in a completed configuration stands for.
absl::StatusOr<compute::Arithmetic> ArithmeticOf(const internal::v1::EngineConfig& config);

// As in CompleteConfig: what else a program's configuration may name. INVALID_ARGUMENT names `key`.
absl::Status CheckRange(const char* key, int64_t value, int64_t low, int64_t high);
absl::Status CheckExists(absl::string_view key, const std::string& path);  // a file or a folder
absl::Status CheckExperts(const std::string& folder);  // the value of "experts"; empty is none
absl::Status CheckPeer(absl::string_view key, const std::string& address);
absl::Status CheckPeers(const internal::v1::TlsConfig& tls);  // the value of "peer_tls"
absl::Status CheckListen(absl::string_view key, const std::string& address);  // empty: no port
// Of a port that asks for no key: INVALID_ARGUMENT where other machines reach it and the
// configuration does not allow that. `instead` says what else can be done, ", ...".
absl::Status CheckExposed(absl::string_view key, const std::string& address,
                          const internal::v1::ServerConfig& config, absl::string_view instead);

// Applies the log settings of a completed configuration to this process.
absl::Status ApplyLogConfig(const internal::v1::ServerConfig& config);

}  // namespace ccoe::rpc
