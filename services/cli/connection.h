#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "services/cli/client.h"
#include "services/cli/exit_code.h"
#include "services/cli/terminal.h"

namespace CLI {
class App;
}

namespace ccoe::model {
class ExpertPackage;
class Model;
}  // namespace ccoe::model

namespace ccoe::cli {

class Node;

// Whom a command speaks to: a server, or a model and its experts in this process.
struct ConnectionOptions {
  std::string server;
  internal::v1::TlsConfig tls;
  std::string api_key_file;  // empty: the key is that of the environment, if there is one
  std::string model;
  std::string experts;
  std::string chat_template;
  std::string arithmetic;
  int threads = 0;
  int kv_cache_mib = 512;
};

// --tls-ca, --tls-cert, --tls-key: how a server is dialled.
void AddTlsOptions(CLI::App* command, internal::v1::TlsConfig* tls);

// --server, --api-key-file and those of TLS | --model, --experts, --chat-template, --arithmetic,
// --threads,
// --kv-cache-mib.
void AddConnectionOptions(CLI::App* command, ConnectionOptions* options);

// A client and what it speaks to: the services that `ccoe serve` runs, over an in-process channel,
// when there is no server.
class Connection {
 public:
  // Loads what must be loaded, with progress on standard error; a server is not contacted yet. On
  // failure says why on `terminal` and sets `exit_code`; returns null.
  static std::unique_ptr<Connection> Open(Terminal& terminal, const ConnectionOptions& options,
                                          ExitCode* exit_code);
  // As Open, in this process, for one expert: `model` is options.model and `package` what it serves
  // besides its own layers, both loaded already. Answers may be as long as the model's context.
  static std::unique_ptr<Connection> OpenExpert(Terminal& terminal,
                                                const ConnectionOptions& options,
                                                std::shared_ptr<const model::Model> model,
                                                std::shared_ptr<const model::ExpertPackage> package,
                                                ExitCode* exit_code);
  ~Connection();

  Client& client() { return *client_; }
  // For people: the server's address, or the model's path.
  const std::string& name() const { return name_; }
  // Tells on `terminal` what went wrong with a call.
  ExitCode Report(Terminal& terminal, const absl::Status& status) const;

 private:
  Connection();

  // A connection to `node`; null for a null one.
  static std::unique_ptr<Connection> To(std::unique_ptr<Node> node, const std::string& name);

  std::string name_;
  std::unique_ptr<Node> node_;  // null for a server
  std::unique_ptr<Client> client_;
};

}  // namespace ccoe::cli
