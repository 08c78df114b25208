#pragma once

#include "services/cli/command.h"

namespace ccoe::cli {

// The commands of `ccoe experts` that change what a running server has; `group` is their parent.
void AddExpertsPush(CLI::App& group, Action* action);
void AddExpertsPop(CLI::App& group, Action* action);
void AddExpertsTraffic(CLI::App& group, Action* action);

}  // namespace ccoe::cli
