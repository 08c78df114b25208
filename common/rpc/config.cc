#include "common/rpc/config.h"

#include <google/protobuf/util/json_util.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "ccoe/internal/v1/config.pb.h"
#include "common/base/status_macros.h"
#include "common/model/expert_package.h"
#include "common/model/json.h"
#include "common/rpc/address.h"
#include "common/rpc/proto_time.h"
#include "common/rpc/tls.h"
#include "common/telemetry/log.h"

namespace ccoe::rpc {
namespace {

using internal::v1::EngineConfig;
using internal::v1::HttpConfig;
using internal::v1::LimitsConfig;
using internal::v1::ServerConfig;

constexpr int kMinMessageBytes = 64 << 10;
constexpr int kMaxMessageBytes = 256 << 20;
constexpr size_t kMaxFileBytes = 1 << 20;

// INVALID_ARGUMENT with the key in front.
absl::Status At(absl::string_view key, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(key, ": ", status.message()));
}

absl::Status CheckPositive(const char* key, const google::protobuf::Duration& value) {
  if (FromProto(value) > absl::ZeroDuration()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(key, " must be longer than 0s"));
}

}  // namespace

absl::Status ParseConfig(const std::string& json, const std::string& where,
                         google::protobuf::Message* config) {
  // Protobuf's parser takes the last of a key's values; this one refuses the second.
  CCOE_RETURN_IF_ERROR(model::ParseJson(json, kMaxFileBytes, where).status());
  const auto parsed = google::protobuf::util::JsonStringToMessage(json, config);
  if (parsed.ok()) return absl::OkStatus();
  const std::string why(parsed.message().data(), parsed.message().size());
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", why));
}

absl::Status LoadConfigFile(const std::string& path, google::protobuf::Message* config) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    return absl::NotFoundError(absl::StrCat("cannot read the configuration file ", path));
  }
  return ParseConfig(text.str(), path, config);
}

std::string ConfigToJson(const google::protobuf::Message& config) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto printed = google::protobuf::util::MessageToJsonString(config, &json, options);
  return printed.ok() ? json : std::string();
}

absl::Status CompleteConfig(ServerConfig* config) {
  if (!config->has_max_message_bytes()) config->set_max_message_bytes(4 << 20);
  if (!config->has_drain_timeout()) {
    *config->mutable_drain_timeout() = ToProto(absl::Seconds(30));
  }
  if (config->log_level().empty()) config->set_log_level("info");
  CCOE_RETURN_IF_ERROR(CheckListen("server.listen", config->listen()));
  CCOE_RETURN_IF_ERROR(CheckListen("server.health_listen", config->health_listen()));
  CCOE_RETURN_IF_ERROR(CheckListen("server.metrics_listen", config->metrics_listen()));
  if (IsUnixAddress(config->metrics_listen())) {
    return absl::InvalidArgumentError("server.metrics_listen: metrics are served over TCP alone");
  }
  CCOE_RETURN_IF_ERROR(At("server.tls", CheckServerTls(config->tls())));
  CCOE_RETURN_IF_ERROR(CheckRange("max_message_bytes", config->max_message_bytes(),
                                  kMinMessageBytes, kMaxMessageBytes));
  CCOE_RETURN_IF_ERROR(telemetry::LogLevelByName(config->log_level()).status());
  if (FromProto(config->drain_timeout()) < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("drain_timeout must not be negative");
  }
  return absl::OkStatus();
}

absl::Status CompleteConfig(EngineConfig* config) {
  if (config->arithmetic().empty()) config->set_arithmetic("fast");
  if (!config->has_kv_cache_mib()) config->set_kv_cache_mib(1024);
  if (!config->has_prefix_cache()) config->set_prefix_cache(true);
  if (!config->has_max_sessions()) config->set_max_sessions(256);
  if (!config->has_max_waiting()) config->set_max_waiting(256);
  if (!config->has_max_step_rows()) config->set_max_step_rows(256);
  if (config->model().empty()) {
    return absl::InvalidArgumentError("engine.model is missing: a GGUF file or a model folder");
  }
  CCOE_RETURN_IF_ERROR(CheckExists("engine.model", config->model()));
  CCOE_RETURN_IF_ERROR(At("engine.arithmetic", ArithmeticOf(*config).status()));
  CCOE_RETURN_IF_ERROR(CheckRange("engine.threads", config->threads(), 0, 1024));
  CCOE_RETURN_IF_ERROR(CheckRange("engine.kv_cache_mib", config->kv_cache_mib(), 1, 1 << 20));
  CCOE_RETURN_IF_ERROR(CheckRange("engine.max_sessions", config->max_sessions(), 1, 65536));
  CCOE_RETURN_IF_ERROR(CheckRange("engine.max_waiting", config->max_waiting(), 0, 65536));
  CCOE_RETURN_IF_ERROR(CheckRange("engine.max_step_rows", config->max_step_rows(), 1, 8192));
  if (config->quantize_experts() && *ArithmeticOf(*config) == compute::Arithmetic::kExact) {
    return absl::InvalidArgumentError(
        "engine.quantize_experts needs the fast arithmetic: exact computes with float32 weights");
  }
  return CheckRange("engine.max_context", config->max_context(), 0, 1 << 24);
}

absl::StatusOr<compute::Arithmetic> ArithmeticOf(const EngineConfig& config) {
  if (config.arithmetic() == "fast") return compute::Arithmetic::kI8B32;
  return compute::ParseArithmetic(config.arithmetic());
}

absl::Status CompleteConfig(LimitsConfig* config) {
  if (!config->has_max_active_requests()) config->set_max_active_requests(512);
  if (!config->has_max_queue_time()) {
    *config->mutable_max_queue_time() = ToProto(absl::Seconds(30));
  }
  if (!config->has_max_request_time()) {
    *config->mutable_max_request_time() = ToProto(absl::Minutes(10));
  }
  if (!config->has_max_output_tokens()) config->set_max_output_tokens(4096);
  if (!config->has_max_buffered_events()) config->set_max_buffered_events(64);
  if (!config->has_slow_reader_timeout()) {
    *config->mutable_slow_reader_timeout() = ToProto(absl::Seconds(30));
  }
  CCOE_RETURN_IF_ERROR(
      CheckRange("limits.max_active_requests", config->max_active_requests(), 1, 1 << 20));
  CCOE_RETURN_IF_ERROR(
      CheckRange("limits.max_prompt_tokens", config->max_prompt_tokens(), 0, 1 << 24));
  CCOE_RETURN_IF_ERROR(
      CheckRange("limits.max_output_tokens", config->max_output_tokens(), 1, 1 << 24));
  CCOE_RETURN_IF_ERROR(
      CheckRange("limits.max_buffered_events", config->max_buffered_events(), 1, 1 << 16));
  CCOE_RETURN_IF_ERROR(CheckPositive("limits.max_queue_time", config->max_queue_time()));
  CCOE_RETURN_IF_ERROR(CheckPositive("limits.max_request_time", config->max_request_time()));
  return CheckPositive("limits.slow_reader_timeout", config->slow_reader_timeout());
}

absl::Status CompleteConfig(HttpConfig* config) {
  if (!config->has_max_connections()) config->set_max_connections(1024);
  if (!config->has_read_timeout()) *config->mutable_read_timeout() = ToProto(absl::Seconds(30));
  if (!config->has_idle_timeout()) *config->mutable_idle_timeout() = ToProto(absl::Seconds(75));
  if (!config->has_write_timeout()) *config->mutable_write_timeout() = ToProto(absl::Seconds(30));
  CCOE_RETURN_IF_ERROR(CheckListen("http.listen", config->listen()));
  if (IsUnixAddress(config->listen())) {
    return absl::InvalidArgumentError("http.listen: HTTP is served over TCP alone");
  }
  CCOE_RETURN_IF_ERROR(CheckRange("http.max_connections", config->max_connections(), 1, 1 << 16));
  CCOE_RETURN_IF_ERROR(CheckPositive("http.read_timeout", config->read_timeout()));
  CCOE_RETURN_IF_ERROR(CheckPositive("http.idle_timeout", config->idle_timeout()));
  return CheckPositive("http.write_timeout", config->write_timeout());
}

absl::Status CheckRange(const char* key, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(key, " is ", value, "; its range is [", low, ", ", high, "]"));
}

absl::Status CheckExists(absl::string_view key, const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(key, ": there is no ", path));
}

absl::Status CheckExperts(const std::string& folder) {
  return folder.empty() ? absl::OkStatus() : At("experts", model::CheckExpertFolder(folder));
}

absl::Status CheckPeer(absl::string_view key, const std::string& address) {
  return At(key, CheckDialAddress(address));
}

absl::Status CheckPeers(const internal::v1::TlsConfig& tls) {
  return At("peer_tls", CheckPeerTls(tls));
}

absl::Status CheckListen(absl::string_view key, const std::string& address) {
  return address.empty() ? absl::OkStatus() : At(key, CheckListenAddress(address));
}

absl::Status CheckExposed(absl::string_view key, const std::string& address,
                          const ServerConfig& config, absl::string_view instead) {
  if (address.empty() || config.allow_unauthenticated() || IsLocalAddress(address)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      key, ": other machines reach ", address, ", and anybody there may use it: listen ",
      "at 127.0.0.1", instead, ", or allow it with --allow-unauthenticated"));
}

absl::Status ApplyLogConfig(const ServerConfig& config) {
  CCOE_ASSIGN_OR_RETURN(const telemetry::LogLevel level,
                        telemetry::LogLevelByName(config.log_level()));
  telemetry::ConfigureLog(
      level, config.log_json() ? telemetry::LogFormat::kJson : telemetry::LogFormat::kText);
  return absl::OkStatus();
}

}  // namespace ccoe::rpc
