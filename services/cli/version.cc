#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/compute/device.h"
#include "services/cli/command.h"

namespace ccoe::cli {
namespace {

constexpr char kExamples[] = R"(Examples:
  ccoe version
  ccoe version --json | jq .cpu_kernels
)";

ExitCode RunVersion(Context& context, bool json) {
  std::vector<std::string> kernels;
  for (const compute::CpuKernels set : compute::SupportedCpuKernels()) {
    kernels.emplace_back(compute::CpuKernelsName(set));
  }
  const std::vector<std::string> arithmetics = {
      std::string(compute::ArithmeticName(compute::Arithmetic::kI8B32)),
      std::string(compute::ArithmeticName(compute::Arithmetic::kExact))};
  if (json) {
    context.terminal.OutJson({{"version", CCOE_VERSION},
                              {"compiler", CCOE_COMPILER},
                              {"cpu_kernels", kernels},
                              {"arithmetics", arithmetics}});
    return ExitCode::kOk;
  }
  context.terminal.Out(absl::StrCat("ccoe ", CCOE_VERSION, "\n", "compiler     ", CCOE_COMPILER,
                                    "\n", "kernels      ", absl::StrJoin(kernels, ", "), "\n",
                                    "arithmetics  ", absl::StrJoin(arithmetics, ", "), "\n"));
  return ExitCode::kOk;
}

}  // namespace

void AddVersion(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("version", "Show the version and what this CPU can run");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "One line of JSON");
  command->footer(kExamples);
  command->callback([json, action] {
    *action = [json](Context& context) { return RunVersion(context, *json); };
  });
}

}  // namespace ccoe::cli
