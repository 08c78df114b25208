#pragma once

#include <functional>

#include "services/cli/exit_code.h"
#include "services/cli/signals.h"
#include "services/cli/terminal.h"

namespace CLI {
class App;
}

namespace ccoe::cli {

// What every command is given when it runs.
struct Context {
  Terminal& terminal;
  Signals& signals;
};

// What the parsed command line asks for; empty until a command was recognised.
using Action = std::function<ExitCode(Context&)>;

// Each adds a command to the parser; when the command line names it, `action` becomes its work.
void AddGenerate(CLI::App& app, Action* action);
void AddChat(CLI::App& app, Action* action);
void AddRoute(CLI::App& app, Action* action);
void AddServe(CLI::App& app, Action* action);
void AddExperts(CLI::App& app, Action* action);
void AddModel(CLI::App& app, Action* action);
void AddExpert(CLI::App& app, Action* action);
void AddHealth(CLI::App& app, Action* action);
void AddKeys(CLI::App& app, Action* action);
void AddTop(CLI::App& app, Action* action);
void AddVersion(CLI::App& app, Action* action);

}  // namespace ccoe::cli
