#include "services/cli/connection.h"

#include <grpcpp/channel.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "common/model/model.h"
#include "common/rpc/config.h"
#include "common/rpc/tls.h"
#include "common/telemetry/log.h"
#include "services/cli/call_status.h"
#include "services/cli/node.h"
#include "services/cli/progress.h"

namespace ccoe::cli {
namespace {

internal::v1::ServeConfig ConfigFrom(const ConnectionOptions& options) {
  internal::v1::ServeConfig config;
  config.set_experts(options.experts);
  internal::v1::EngineConfig& engine = *config.mutable_engine();
  engine.set_model(options.model);
  engine.set_chat_template(options.chat_template);
  engine.set_arithmetic(options.arithmetic);
  engine.set_threads(options.threads);
  engine.set_kv_cache_mib(options.kv_cache_mib);
  config.mutable_server()->set_log_level("warning");
  return config;
}

// The key to show to a server; empty: none.
absl::StatusOr<std::string> ReadApiKey(const std::string& path) {
  if (path.empty()) {
    const char* key = std::getenv("CCOE_API_KEY");
    return std::string(key == nullptr ? "" : key);
  }
  std::ifstream file(path, std::ios::binary);
  std::string key;
  if (!(file >> key)) {
    return absl::InvalidArgumentError(absl::StrCat("--api-key-file: ", path, " holds no key"));
  }
  return key;
}

// Null on failure, of which it says why on `terminal` and sets `exit_code`.
std::unique_ptr<Node> StartNode(Terminal& terminal, Node::Options options, ExitCode* exit_code) {
  absl::Status status = CompleteServeConfig(&options.config);
  if (status.ok()) status = rpc::ApplyLogConfig(options.config.server());
  ExitCode failure = ExitCode::kUsage;
  std::unique_ptr<Node> node;
  if (status.ok()) {
    failure = ExitCode::kRefused;
    Progress progress(terminal, absl::StrCat("loading ", options.config.engine().model()));
    options.progress = [&progress](double part) { progress.Set(part); };
    auto started = Node::Start(options);
    status = started.status();
    if (started.ok()) node = *std::move(started);
  }
  if (!status.ok()) {
    terminal.Fail(status);
    *exit_code = failure;
    return nullptr;
  }
  // From here on standard error belongs to the command.
  telemetry::ConfigureLog(telemetry::LogLevel::kError, telemetry::LogFormat::kText);
  return node;
}

}  // namespace

void AddTlsOptions(CLI::App* command, internal::v1::TlsConfig* tls) {
  const auto check = [](const std::string& file) {
    internal::v1::TlsConfig trusted;
    trusted.set_ca(file);
    return std::string(rpc::CheckPeerTls(trusted).message());
  };
  CLI::Option* ca = command
                        ->add_option_function<std::string>(
                            "--tls-ca", [tls](const std::string& file) { tls->set_ca(file); },
                            "Speak TLS, and trust this authority, PEM (default: CCOE_TLS_CA, or "
                            "plaintext)")
                        ->envname("CCOE_TLS_CA")
                        ->check(check);
  CLI::Option* certificate =
      command
          ->add_option_function<std::string>(
              "--tls-cert", [tls](const std::string& file) { tls->set_certificate(file); },
              "Certificate to show, where the server asks for one, PEM")
          ->check(check)
          ->needs(ca);
  CLI::Option* key =
      command
          ->add_option_function<std::string>(
              "--tls-key", [tls](const std::string& file) { tls->set_private_key(file); },
              "File of its private key, PEM")
          ->check(CLI::ExistingFile)
          ->needs(certificate);
  certificate->needs(key);
}

void AddConnectionOptions(CLI::App* command, ConnectionOptions* options) {
  CLI::Option_group* group =
      command->add_option_group("Whom to ask: a server, or a model in this process");
  CLI::Option* server = group->add_option("--server", options->server, "Address, HOST:PORT");
  group
      ->add_option("--api-key-file", options->api_key_file,
                   "File that holds the key for the server (default: CCOE_API_KEY)")
      ->needs(server);
  AddTlsOptions(group, &options->tls);
  CLI::Option* model =
      group->add_option("--model", options->model, "GGUF file or Hugging Face folder");
  server->excludes(model);
  const auto embedded = [&](CLI::Option* option) { option->needs(model); };
  embedded(group->add_option("--experts", options->experts,
                             "Folder whose subfolders are expert packages"));
  embedded(group->add_option("--chat-template", options->chat_template,
                             "Chat template instead of the model's own, by name"));
  embedded(group
               ->add_option("--arithmetic", options->arithmetic,
                            "exact, or i8b32.v2 (default), which is fast")
               ->check(CLI::IsMember({"exact", "fast", "i8b32.v2"})));
  embedded(
      group->add_option("--threads", options->threads, "Compute threads (default 0: one per core)")
          ->check(CLI::NonNegativeNumber));
  embedded(group
               ->add_option("--kv-cache-mib", options->kv_cache_mib,
                            "Memory for keys and values, in MiB (default 512)")
               ->check(CLI::PositiveNumber));
}

Connection::Connection() = default;
Connection::~Connection() = default;

std::unique_ptr<Connection> Connection::Open(Terminal& terminal, const ConnectionOptions& options,
                                             ExitCode* exit_code) {
  if (!options.server.empty()) {
    const absl::StatusOr<std::string> api_key = ReadApiKey(options.api_key_file);
    if (!api_key.ok()) {
      terminal.Fail(api_key.status());
      *exit_code = ExitCode::kUsage;
      return nullptr;
    }
    std::unique_ptr<Connection> connection(new Connection());
    connection->name_ = options.server;
    connection->client_ = Client::ForAddress(options.server, options.tls, *api_key);
    return connection;
  }
  if (options.model.empty()) {
    terminal.Fail(absl::InvalidArgumentError(
        "whom to ask? Give --server HOST:PORT, or --model PATH [--experts DIR]"));
    *exit_code = ExitCode::kUsage;
    return nullptr;
  }
  Node::Options node;
  node.config = ConfigFrom(options);
  return To(StartNode(terminal, std::move(node), exit_code), options.model);
}

std::unique_ptr<Connection> Connection::OpenExpert(
    Terminal& terminal, const ConnectionOptions& options, std::shared_ptr<const model::Model> model,
    std::shared_ptr<const model::ExpertPackage> package, ExitCode* exit_code) {
  Node::Options node;
  node.config = ConfigFrom(options);
  node.config.mutable_limits()->set_max_output_tokens(
      std::clamp(model->config().context, 1, 1 << 24));
  node.model = std::move(model);
  node.package = std::move(package);
  return To(StartNode(terminal, std::move(node), exit_code), options.model);
}

std::unique_ptr<Connection> Connection::To(std::unique_ptr<Node> node, const std::string& name) {
  if (node == nullptr) return nullptr;
  std::unique_ptr<Connection> connection(new Connection());
  connection->name_ = name;
  connection->node_ = std::move(node);
  connection->client_ = std::make_unique<Client>(connection->node_->InProcessChannel());
  return connection;
}

ExitCode Connection::Report(Terminal& terminal, const absl::Status& status) const {
  const ExitCode code = ExitCodeOf(status);
  std::string message;  // who interrupts needs none
  if (code == ExitCode::kUnreachable) {
    message = absl::StrCat("no server answers at ", name_, ": ", Explain(status));
  } else if (code != ExitCode::kInterrupted) {
    message = Explain(status);
  }
  terminal.Fail(status, message);
  return code;
}

}  // namespace ccoe::cli
