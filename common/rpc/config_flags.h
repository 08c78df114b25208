#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/internal/v1/config.pb.h"
#include "common/base/status_macros.h"
#include "common/rpc/config.h"
#include "common/rpc/upload_config.h"

namespace ccoe::rpc {

template <typename Config>
concept HasEngine = requires(Config& config) {
  config.mutable_engine();
};
template <typename Config>
concept HasAdmin = requires(Config& config) {
  config.admin_listen();
};
template <typename Config>
concept HasPeers = requires(Config& config) {
  config.mutable_peer_tls();
};
template <typename Config>
concept HasApiKeys = requires(Config& config) {
  config.api_keys();
};
template <typename Config>
concept HasLimits = requires(Config& config) {
  config.mutable_limits();
};
template <typename Config>
concept HasHttp = requires(Config& config) {
  config.mutable_http();
};
// Whether a program has a gRPC port.
template <typename Config>
concept ServesGrpc = HasEngine<Config> || HasLimits<Config>;

// The flags of a program whose configuration is a protobuf message `Config` with the field
// `server` and perhaps `engine`, `limits`, `http`, `admin_listen`, `api_keys`, `peer_tls` and those
// of uploads: --config names a file, and every other flag sets a field over what the file says.
// Outlives the parser's work.
template <typename Config>
class ConfigFlags {
 public:
  explicit ConfigFlags(CLI::App& app) : app_(app) {
    app_.add_option("--config", file_,
                    "Configuration as JSON (proto/ccoe/internal/v1/config.proto); flags override");
    app_.add_flag("--check-config", check_, "Check the configuration and end");
    app_.add_flag("--print-config", print_, "Print the configuration in effect as JSON and end");
    if constexpr (ServesGrpc<Config>) AddPortFlags();
    AddServerFlags();
    if constexpr (HasEngine<Config>) AddEngineFlags();
    if constexpr (HasHttp<Config>) AddHttpFlags();
    if constexpr (HasAdmin<Config>) AddAdminFlags();
    if constexpr (HasUploads<Config>) AddUploadFlags();
    if constexpr (HasPeers<Config>) AddPeerFlags();
    if constexpr (HasApiKeys<Config>) AddApiKeyFlags();
  }

  // A flag with a value; a std::vector takes many.
  template <typename T>
  void Add(const std::string& flag, void (*set)(Config&, const T&), const std::string& help) {
    app_.add_option_function<T>(
        flag,
        [this, set](const T& value) {
          overrides_.push_back([set, value](Config& config) { set(config, value); });
        },
        help);
  }
  // A flag without a value.
  void AddSwitch(const std::string& flag, void (*set)(Config&), const std::string& help) {
    app_.add_flag_callback(
        flag, [this, set] { overrides_.push_back([set](Config& config) { set(config); }); }, help);
  }

  // After parsing: `defaults`, then the file's values, then the flags'; server, engine, limits,
  // http and uploads are completed, admin_listen and peer_tls are checked, and no port is open to
  // other machines unasked.
  absl::StatusOr<Config> Load(Config defaults) const {
    Config config = std::move(defaults);
    if (!file_.empty()) CCOE_RETURN_IF_ERROR(LoadConfigFile(file_, &config));
    for (const auto& set : overrides_) set(config);
    CCOE_RETURN_IF_ERROR(CompleteConfig(config.mutable_server()));
    if constexpr (HasEngine<Config>) {
      CCOE_RETURN_IF_ERROR(CompleteConfig(config.mutable_engine()));
    }
    if constexpr (HasLimits<Config>) {
      CCOE_RETURN_IF_ERROR(CompleteConfig(config.mutable_limits()));
    }
    if constexpr (HasHttp<Config>) {
      CCOE_RETURN_IF_ERROR(CompleteConfig(config.mutable_http()));
    }
    if constexpr (HasAdmin<Config>) {
      CCOE_RETURN_IF_ERROR(CheckListen("admin_listen", config.admin_listen()));
    }
    if constexpr (HasUploads<Config>) CCOE_RETURN_IF_ERROR(CompleteUploads(&config));
    if constexpr (HasPeers<Config>) CCOE_RETURN_IF_ERROR(CheckPeers(config.peer_tls()));
    CCOE_RETURN_IF_ERROR(CheckPorts(config));
    return config;
  }
  // After parsing: what --print-config or --check-config asks to be printed instead of serving.
  std::optional<std::string> Answer(const Config& config) const {
    if (print_) return ConfigToJson(config);
    if (check_) return "the configuration is good\n";
    return std::nullopt;
  }

 private:
  static absl::Status CheckPorts(const Config& config) {
    const internal::v1::ServerConfig& server = config.server();
    const bool asks_for_certificates = !server.tls().ca().empty();
    if constexpr (HasAdmin<Config>) {
      if (!asks_for_certificates) {
        CCOE_RETURN_IF_ERROR(CheckExposed("admin_listen", config.admin_listen(), server,
                                          ", ask for certificates (--tls-client-ca)"));
      }
    }
    bool asks_for_keys = false;
    if constexpr (HasApiKeys<Config>) asks_for_keys = !config.api_keys().empty();
    if constexpr (HasHttp<Config>) {
      if (!asks_for_keys) {
        CCOE_RETURN_IF_ERROR(
            CheckExposed("http.listen", config.http().listen(), server,
                         HasApiKeys<Config> ? ", give keys to clients (--api-keys)" : ""));
      }
    }
    if constexpr (HasApiKeys<Config>) {
      if (asks_for_keys || !server.tls().certificate().empty()) return absl::OkStatus();
      return CheckExposed("server.listen", server.listen(), server,
                          ", give keys to clients (--api-keys), serve TLS (--tls-cert)");
    } else {
      if (asks_for_certificates) return absl::OkStatus();
      return CheckExposed("server.listen", server.listen(), server,
                          ", ask for certificates (--tls-client-ca)");
    }
  }

  void AddPortFlags() {
    Add<std::string>(
        "--listen", [](Config& c, const std::string& v) { c.mutable_server()->set_listen(v); },
        "Address to serve at, HOST:PORT; port 0 takes a free one");
    Add<std::string>(
        "--health-listen",
        [](Config& c, const std::string& v) { c.mutable_server()->set_health_listen(v); },
        "Address for grpc.health.v1 alone (default: none; the main port has it too)");
    Add<std::string>(
        "--tls-cert",
        [](Config& c, const std::string& v) {
          c.mutable_server()->mutable_tls()->set_certificate(v);
        },
        "Serve TLS: the certificate's file, PEM (default: plaintext)");
    Add<std::string>(
        "--tls-key",
        [](Config& c, const std::string& v) {
          c.mutable_server()->mutable_tls()->set_private_key(v);
        },
        "File of its private key, PEM");
    Add<std::string>(
        "--tls-client-ca",
        [](Config& c, const std::string& v) { c.mutable_server()->mutable_tls()->set_ca(v); },
        "Take only clients with a certificate of this authority, PEM (default: ask for none)");
  }

  void AddServerFlags() {
    Add<std::string>(
        "--metrics-listen",
        [](Config& c, const std::string& v) { c.mutable_server()->set_metrics_listen(v); },
        "Address of the Prometheus endpoint, /metrics (default: none)");
    Add<std::string>(
        "--log-level",
        [](Config& c, const std::string& v) { c.mutable_server()->set_log_level(v); },
        "debug, info (default), warning or error");
    AddSwitch(
        "--log-json", [](Config& c) { c.mutable_server()->set_log_json(true); },
        "Log lines as JSON");
    AddSwitch(
        "--allow-unauthenticated",
        [](Config& c) { c.mutable_server()->set_allow_unauthenticated(true); },
        "Let other machines reach ports that ask for no key");
  }

  void AddEngineFlags() {
    Add<std::string>(
        "--model", [](Config& c, const std::string& v) { c.mutable_engine()->set_model(v); },
        "GGUF file or Hugging Face folder");
    Add<std::string>(
        "--chat-template",
        [](Config& c, const std::string& v) { c.mutable_engine()->set_chat_template(v); },
        "Chat template instead of the model's own, by name");
    Add<std::string>(
        "--arithmetic",
        [](Config& c, const std::string& v) { c.mutable_engine()->set_arithmetic(v); },
        "fast (default) or exact; the same on both sides of a link");
    Add<int>(
        "--threads", [](Config& c, const int& v) { c.mutable_engine()->set_threads(v); },
        "Compute threads (default 0: one per core)");
    Add<int>(
        "--kv-cache-mib", [](Config& c, const int& v) { c.mutable_engine()->set_kv_cache_mib(v); },
        "Memory for keys and values, in MiB (default 1024)");
    Add<int>(
        "--max-sessions", [](Config& c, const int& v) { c.mutable_engine()->set_max_sessions(v); },
        "Sessions that run at a time (default 256)");
    Add<int>(
        "--max-context", [](Config& c, const int& v) { c.mutable_engine()->set_max_context(v); },
        "Positions of a session (default 0: the model's context)");
    Add<bool>(
        "--prefix-cache", [](Config& c, const bool& v) { c.mutable_engine()->set_prefix_cache(v); },
        "Keep what was computed for prompts that begin alike (default true)");
    AddSwitch(
        "--quantize-experts", [](Config& c) { c.mutable_engine()->set_quantize_experts(true); },
        "Quantise whole-layer experts as the model is: less memory, other tokens");
  }

  void AddHttpFlags() {
    Add<std::string>(
        "--http", [](Config& c, const std::string& v) { c.mutable_http()->set_listen(v); },
        "Address of the OpenAI-compatible HTTP API, HOST:PORT (default: none)");
  }

  void AddAdminFlags() {
    Add<std::string>(
        "--admin-listen", [](Config& c, const std::string& v) { c.set_admin_listen(v); },
        "Address where experts are pushed and popped; not for clients (default: none)");
  }

  void AddPeerFlags() {
    Add<std::string>(
        "--peer-tls-ca", [](Config& c, const std::string& v) { c.mutable_peer_tls()->set_ca(v); },
        "Speak TLS with the processes behind, and trust this authority, PEM (default: plaintext)");
    Add<std::string>(
        "--peer-tls-cert",
        [](Config& c, const std::string& v) { c.mutable_peer_tls()->set_certificate(v); },
        "Certificate to show them, PEM (default: none)");
    Add<std::string>(
        "--peer-tls-key",
        [](Config& c, const std::string& v) { c.mutable_peer_tls()->set_private_key(v); },
        "File of its private key, PEM");
  }

  void AddUploadFlags() {
    Add<std::string>(
        "--upload-dir", [](Config& c, const std::string& v) { c.set_upload_dir(v); },
        "Folder for packages that are sent until they are loaded (default: the system's for "
        "temporary files)");
    Add<int>(
        "--max-upload-mib", [](Config& c, const int& v) { c.set_max_upload_mib(v); },
        "Largest package that is sent, in MiB, all files together (default 2048)");
  }

  void AddApiKeyFlags() {
    Add<std::string>(
        "--api-keys", [](Config& c, const std::string& v) { c.set_api_keys(v); },
        "File of the keys that clients show (`ccoe keys`), followed as it changes (default: none "
        "is asked for)");
  }

  CLI::App& app_;
  std::string file_;
  bool check_ = false;
  bool print_ = false;
  std::vector<std::function<void(Config&)>> overrides_;
};

}  // namespace ccoe::rpc
