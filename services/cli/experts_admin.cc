#include "services/cli/experts_admin.h"

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/status_macros.h"
#include "common/model/expert_package.h"
#include "services/cli/call_status.h"
#include "services/cli/client.h"
#include "services/cli/connection.h"
#include "services/cli/event_json.h"
#include "services/cli/progress.h"

namespace ccoe::cli {
namespace {

constexpr char kAdminHelp[] =
    "The admin port of `ccoe serve` or of a router, HOST:PORT (their --admin-listen)";
// Loading a package takes as long as reading and packing its weights, where expert processes serve
// it sending them as well.
constexpr absl::Duration kLoadTimeout = absl::Minutes(40);
constexpr absl::Duration kUploadTimeout = absl::Hours(2);
constexpr absl::Duration kTimeout = absl::Seconds(30);

struct AdminOptions {
  std::string admin;
  internal::v1::TlsConfig tls;
  bool json = false;
};

void AddAdminOptions(CLI::App* command, const std::string& json_help, AdminOptions* options) {
  command->add_option("--admin", options->admin, kAdminHelp)->required();
  AddTlsOptions(command, &options->tls);
  command->add_flag("--json", options->json, json_help);
}

ExitCode Refused(Terminal& terminal, const AdminOptions& options, const absl::Status& status) {
  terminal.Fail(status, absl::StrCat(options.admin, ": ", Explain(status)));
  return IsUnreachable(status) ? ExitCode::kUnreachable : ExitCode::kRefused;
}

void ShowChange(Terminal& terminal, const char* done, const v1::Expert& expert) {
  terminal.OutUntrusted(absl::StrCat(done, " ", expert.name(), " ", expert.version(), ", domain ",
                                     expert.domain(), "\n"));
}

struct PushOptions : AdminOptions {
  std::string folder;
  bool upload = false;
  bool dry_run = false;
  std::vector<std::string> nodes;
};

// What to send of a package, once it is found sound.
absl::StatusOr<v1::UploadHeader> HeaderOf(const PushOptions& options) {
  CCOE_ASSIGN_OR_RETURN(const auto package, model::ExpertPackage::Load(options.folder));
  v1::UploadHeader header;
  header.set_validate_only(options.dry_run);
  header.mutable_nodes()->Assign(options.nodes.begin(), options.nodes.end());
  for (const std::string& name : model::PackageFiles(package->manifest())) {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(absl::StrCat(options.folder, "/", name), error);
    if (error) return absl::ErrnoToStatus(error.value(), name);
    v1::UploadFile& file = *header.add_files();
    file.set_name(name);
    file.set_bytes(static_cast<int64_t>(bytes));
  }
  return header;
}

void ShowConfusion(Terminal& terminal, const v1::PushExpertResponse& response) {
  constexpr char kRow[] = "  %-14s %8s %8s %8s\n";
  terminal.Out("its effect on the gate, by the packages' example prompts:\n");
  terminal.Out(
      terminal.ForOut(Style::kBold, absl::StrFormat(kRow, "DOMAIN", "PROMPTS", "OWN", "MOVED")));
  for (const v1::GateConfusion& domain : response.confusion()) {
    terminal.OutUntrusted(absl::StrFormat(kRow, domain.domain(), std::to_string(domain.prompts()),
                                          std::to_string(domain.own()),
                                          std::to_string(domain.moved())));
  }
}

ExitCode RunPush(Context& context, const PushOptions& options) {
  Terminal& terminal = context.terminal;
  if (options.json) terminal.AnswerInJson();
  absl::StatusOr<v1::PushExpertResponse> pushed;
  if (options.upload) {
    const auto header = HeaderOf(options);
    if (!header.ok()) {
      terminal.Fail(header.status());
      return ExitCode::kRefused;
    }
    Progress progress(terminal, absl::StrCat("sending ", options.folder));
    pushed = Client::ForAddress(options.admin, options.tls)
                 ->UploadExpert(options.folder, *header, kUploadTimeout,
                                [&](double part) { progress.Set(part); });
  } else {
    std::error_code error;  // the server has a working folder of its own
    v1::PushExpertRequest request;
    request.set_folder(std::filesystem::absolute(options.folder, error).string());
    request.set_validate_only(options.dry_run);
    request.mutable_nodes()->Assign(options.nodes.begin(), options.nodes.end());
    pushed = Client::ForAddress(options.admin, options.tls)->PushExpert(request, kLoadTimeout);
  }
  if (!pushed.ok()) return Refused(terminal, options, pushed.status());
  if (options.json) {
    terminal.OutJson(PushedJson(*pushed));
  } else {
    ShowChange(terminal, options.dry_run ? "would push" : "pushed", pushed->expert());
    ShowConfusion(terminal, *pushed);
  }
  return ExitCode::kOk;
}

struct PopOptions : AdminOptions {
  std::string name;
  std::string version;
};

ExitCode RunPop(Context& context, const PopOptions& options) {
  Terminal& terminal = context.terminal;
  if (options.json) terminal.AnswerInJson();
  const auto expert = Client::ForAddress(options.admin, options.tls)
                          ->PopExpert(options.name, options.version, kLoadTimeout);
  if (!expert.ok()) return Refused(terminal, options, expert.status());
  if (options.json) {
    terminal.OutJson(ExpertJson(*expert));
  } else {
    ShowChange(terminal, "popped", *expert);
  }
  return ExitCode::kOk;
}

struct TrafficOptions : AdminOptions {
  std::string domain;
  std::vector<std::string> shares;
  bool reset = false;
};

// "1.0.0=90", or "law-b@1.0.0=90" with the expert's name.
bool ParseShare(const std::string& text, v1::VersionWeight* weight) {
  const size_t equals = text.find('=');
  int32_t value = 0;
  if (equals == std::string::npos || !absl::SimpleAtoi(text.substr(equals + 1), &value)) {
    return false;
  }
  const size_t at = text.find('@');
  const bool named = at < equals;
  if (named) weight->set_name(text.substr(0, at));
  const size_t begin = named ? at + 1 : 0;
  weight->set_version(text.substr(begin, equals - begin));
  weight->set_weight(value);
  return true;
}

void ShowVersions(Terminal& terminal, const AdminOptions& options, const VersionList& versions) {
  constexpr char kRow[] = "%-14s %-14s %-10s %-13s %6s %8s\n";
  if (!options.json) {
    terminal.Out(terminal.ForOut(Style::kBold, absl::StrFormat(kRow, "DOMAIN", "EXPERT", "VERSION",
                                                               "STATE", "SHARE", "REQUESTS")));
  }
  for (const v1::ExpertVersion& version : versions) {
    if (options.json) {
      terminal.OutJson(VersionJson(version));
      continue;
    }
    const v1::Expert& expert = version.expert();
    std::string state = StateName(version.state());
    if (version.progress() < 1) {
      absl::StrAppendFormat(&state, " %.0f%%", version.progress() * 100);
    }
    terminal.OutUntrusted(absl::StrFormat(kRow, expert.domain(), expert.name(), expert.version(),
                                          state, absl::StrFormat("%.4g%%", version.share() * 100),
                                          std::to_string(version.active_requests())));
  }
}

ExitCode RunTraffic(Context& context, const TrafficOptions& options) {
  if (options.json) context.terminal.AnswerInJson();
  const auto client = Client::ForAddress(options.admin, options.tls);
  absl::StatusOr<VersionList> versions;
  if (options.shares.empty() && !options.reset) {
    versions = client->ListVersions(options.domain, kTimeout);
  } else {
    v1::SetTrafficRequest request;
    request.set_domain(options.domain);
    for (const std::string& share : options.shares) ParseShare(share, request.add_weights());
    versions = client->SetTraffic(request, kTimeout);
  }
  if (!versions.ok()) return Refused(context.terminal, options, versions.status());
  ShowVersions(context.terminal, options, *versions);
  return ExitCode::kOk;
}

}  // namespace

void AddExpertsPush(CLI::App& group, Action* action) {
  CLI::App* command = group.add_subcommand(
      "push",
      "Let a running server serve an expert package, from a folder that it can read or from "
      "one of this machine");
  auto options = std::make_shared<PushOptions>();
  command->add_option("FOLDER", options->folder, "The package's folder")->required();
  command->add_flag("--upload", options->upload,
                    "Send the package: the folder is of this machine, not of the server's");
  command->add_flag("--dry-run", options->dry_run,
                    "Check the package and tell what would come of it; serve nothing");
  command->add_option(
      "--node", options->nodes,
      "Expert process that is to serve it, by the address that the backbone has; may "
      "be given many times (default: those that serve the domain, or else all that "
      "can)");
  AddAdminOptions(command, "One line of JSON: the expert, and its effect on the gate",
                  options.get());
  command->footer(
      R"(Once it returns, new requests may go to the expert. A package that is refused changes nothing.
The effect on the gate is told by the example prompts that the packages carry: for each domain how
many there are, how many go to it with the package, and how many go elsewhere than without.

Exit codes: 0 served; 4 refused; 3 no server there.
)");
  command->callback([options, action] {
    *action = [options](Context& context) { return RunPush(context, *options); };
  });
}

void AddExpertsPop(CLI::App& group, Action* action) {
  CLI::App* command = group.add_subcommand("pop", "Take an expert away from a running server");
  auto options = std::make_shared<PopOptions>();
  command->add_option("NAME", options->name, "The expert's name")->required();
  command->add_option("--expert-version", options->version, "Its version, where there are several");
  AddAdminOptions(command, "One line of JSON: the expert as it was", options.get());
  command->footer(
      "Requests that have it keep it to their end; new ones go elsewhere.\n"
      "Exit codes: 0 taken away; 4 refused; 3 no server there.\n");
  command->callback([options, action] {
    *action = [options](Context& context) { return RunPop(context, *options); };
  });
}

void AddExpertsTraffic(CLI::App& group, Action* action) {
  CLI::App* command = group.add_subcommand("traffic",
                                           "Show the experts of a domain, also those that load or "
                                           "drain, and how its requests are shared "
                                           "out among them; or change it");
  auto options = std::make_shared<TrafficOptions>();
  command->add_option("DOMAIN", options->domain, "The domain; all without it");
  CLI::Option* shares =
      command
          ->add_option("VERSION=SHARE", options->shares,
                       "A version's part, a whole number in units of the sum; NAME@VERSION=SHARE "
                       "where two experts have the version. Versions that are left out get none")
          ->check([](const std::string& text) {
            v1::VersionWeight ignored;
            return ParseShare(text, &ignored) ? "" : "not VERSION=SHARE: " + text;
          });
  command->add_flag("--reset", options->reset, "No shares: the highest version has the domain")
      ->needs("DOMAIN")
      ->excludes(shares);
  AddAdminOptions(command, "A line of JSON for each expert", options.get());
  command->footer(
      R"(A request goes to a version by its request id alone: the same id, the same version. One that
names a version gets it whatever its share; so a version that is pushed while there are shares
can be tried before it gets one.

Examples:
  ccoe experts traffic --admin localhost:50059
  ccoe experts traffic law 1.0.0=90 1.1.0=10 --admin localhost:50059

Exit codes: 0 done; 4 refused; 3 no server there.
)");
  command->callback([options, action] {
    *action = [options](Context& context) { return RunTraffic(context, *options); };
  });
}

}  // namespace ccoe::cli
