#include <chrono>
#include <iostream>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "services/cli/command.h"
#include "services/cli/connection.h"
#include "services/cli/event_json.h"
#include "services/cli/request_options.h"

namespace ccoe::cli {
namespace {

constexpr char kExamples[] =
    R"(Every turn is routed by its own prompt and shows its domain. Ctrl-C stops the answer
only; /quit or Ctrl-D ends the conversation.

Examples:
  ccoe chat --server localhost:50051
  ccoe chat --model model.gguf --experts experts --system "Answer briefly."
  printf 'Hello\nAnd in SQL?\n' | ccoe chat --server localhost:50051 --temperature 0
)";

constexpr char kHelp[] =
    R"(/domain NAME  this domain answers from now on; without a name the prompt decides
/reset        forget the conversation
/help         this list
/quit         leave (or Ctrl-D)
Ctrl-C        stop the answer
)";

struct Options {
  ConnectionOptions connection;
  RequestOptions request;
};

// A conversation on standard input and output.
class Chat {
 public:
  Chat(Context& context, const Options& options, Connection& connection)
      : terminal_(context.terminal),
        signals_(context.signals),
        options_(options),
        connection_(connection),
        request_(RequestFrom(options.request)) {
    Reset();
  }

  ExitCode Run() {
    Greet();
    std::string line;
    while (!done_) {
      if (interactive()) terminal_.Out(terminal_.ForOut(Style::kBold, "> "));
      if (!ReadLine(&line)) break;
      const std::string text(absl::StripAsciiWhitespace(line));
      if (text.empty()) continue;
      if (absl::StartsWith(text, "/")) {
        Command(text);
      } else {
        Turn(text);
      }
    }
    if (interactive() && !done_) terminal_.Out("\n");
    return exit_code_;
  }

 private:
  bool interactive() const { return terminal_.in_is_terminal() && terminal_.out_is_terminal(); }

  void Greet() {
    if (!interactive()) return;
    terminal_.Out(absl::StrCat(terminal_.ForOut(Style::kDim, connection_.name()), "\n",
                               terminal_.ForOut(Style::kDim, "/help lists the commands."), "\n"));
  }

  // False at the end of input. Ctrl-C at the prompt drops the line that was begun.
  bool ReadLine(std::string* line) {
    const Signals::Scope scope(signals_, [this](int) {
      if (!interactive()) std::_Exit(static_cast<int>(ExitCode::kInterrupted));
      terminal_.Out(absl::StrCat("\n", terminal_.ForOut(Style::kDim, "/quit leaves"), "\n",
                                 terminal_.ForOut(Style::kBold, "> ")));
    });
    return static_cast<bool>(std::getline(std::cin, *line));
  }

  void Reset() {
    request_.mutable_chat()->clear_messages();
    if (!options_.request.system.empty()) Add(v1::ROLE_SYSTEM, options_.request.system);
  }

  void Add(v1::Role role, const std::string& content) {
    v1::ChatMessage& message = *request_.mutable_chat()->add_messages();
    message.set_role(role);
    message.set_content(content);
  }

  void Command(const std::string& text) {
    const absl::string_view rest = absl::StripAsciiWhitespace(
        absl::string_view(text).substr(std::min(text.find(' '), text.size())));
    const std::string name = text.substr(0, text.find(' '));
    if (name == "/quit" || name == "/exit") {
      done_ = true;
    } else if (name == "/reset") {
      Reset();
      Note("The conversation is forgotten.");
    } else if (name == "/domain" && rest.empty()) {
      request_.clear_target();
      Note("The prompt decides who answers.");
    } else if (name == "/domain") {
      request_.set_domain(std::string(rest));
      Note(absl::StrCat(rest, " answers from now on."));
    } else {
      if (name != "/help") Note(absl::StrCat("There is no ", name, "."));
      terminal_.Err(kHelp);
    }
  }

  void Note(absl::string_view text) {
    terminal_.Err(terminal_.ForErr(Style::kDim, Printable(text)) + "\n");
  }

  void Turn(const std::string& prompt) {
    if (!IsUtf8(prompt)) {
      terminal_.Error("that is not UTF-8");
      return;
    }
    Add(v1::ROLE_USER, prompt);
    Answer answer;
    Cancellation cancellation;
    absl::Status status;
    {
      const Signals::Scope scope(signals_, [&](int) { cancellation.Cancel(); });
      status = connection_.client().GenerateStream(
          request_, options_.request.timeout(),
          [&](const v1::GenerateStreamResponse& event) { return Show(event, &answer); },
          &cancellation);
    }
    if (answer.started.has_route() && !absl::EndsWith(answer.text, "\n")) terminal_.Out("\n");
    Conclude(answer, status, cancellation.cancelled());
  }

  bool Show(const v1::GenerateStreamResponse& event, Answer* answer) {
    Append(event, answer);
    if (event.has_started()) {
      const std::string tag = absl::StrCat("[", event.started().route().domain(), "]");
      return terminal_.Out(terminal_.ForOut(Style::kCyan, Printable(tag)) + " ");
    }
    return !event.has_delta() || terminal_.OutUntrusted(event.delta().text());
  }

  // Keeps what was said; a turn without an answer leaves no trace.
  void Conclude(const Answer& answer, const absl::Status& status, bool stopped) {
    if (answer.text.empty()) {
      request_.mutable_chat()->mutable_messages()->RemoveLast();
    } else {
      Add(v1::ROLE_ASSISTANT, answer.text);
    }
    if (status.ok()) return;
    if (stopped) {
      Note("(stopped)");
      return;
    }
    exit_code_ = connection_.Report(terminal_, status);
    done_ = !interactive();
  }

  Terminal& terminal_;
  Signals& signals_;
  const Options& options_;
  Connection& connection_;
  v1::GenerateRequest request_;
  ExitCode exit_code_ = ExitCode::kOk;
  bool done_ = false;
};

ExitCode RunChat(Context& context, const Options& options) {
  ExitCode exit_code = ExitCode::kOk;
  const auto connection = Connection::Open(context.terminal, options.connection, &exit_code);
  if (connection == nullptr) return exit_code;
  return Chat(context, options, *connection).Run();
}

}  // namespace

void AddChat(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand("chat", "Hold a conversation");
  auto options = std::make_shared<Options>();
  AddConnectionOptions(command, &options->connection);
  AddRequestOptions(command, &options->request);
  command->footer(kExamples);
  command->callback([options, action] {
    *action = [options](Context& context) { return RunChat(context, *options); };
  });
}

}  // namespace ccoe::cli
