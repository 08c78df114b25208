#include "common/model/chat_template.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/base/status_macros.h"
#include "common/model/text.h"
#include "common/model/utf8.h"

namespace ccoe::model {
namespace {

using Kind = ChatTemplate::Kind;

constexpr std::string_view kUser = "user";

constexpr std::string_view kSmolLm2System =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
constexpr std::string_view kQwen2System = "You are a helpful assistant.";
constexpr std::string_view kQwen25System =
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
// Llama 3.1's own template has these dates; later ones put today's, which would change the tokens
// from day to day.
constexpr std::string_view kLlama31Dates =
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";

constexpr std::array<std::pair<std::string_view, Kind>, 7> kNames = {{
    {"chatml", Kind::kChatMl},
    {"smollm2", Kind::kSmolLm2},
    {"qwen2", Kind::kQwen2},
    {"qwen2.5", Kind::kQwen25},
    {"qwen3", Kind::kQwen3},
    {"llama3", Kind::kLlama3},
    {"llama3.1", Kind::kLlama31},
}};

bool IsLlama(Kind kind) { return kind == Kind::kLlama3 || kind == Kind::kLlama31; }

// Whitespace in the sense of Python's str.strip.
bool IsPythonSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string_view Trim(std::string_view text) {
  size_t begin = text.size(), end = 0;
  for (size_t i = 0; i < text.size();) {
    const Utf8Unit unit = NextUtf8Unit(text.substr(i));
    size_t bytes;
    const bool space = unit.kind == Utf8Unit::Kind::kCharacter &&
                       IsPythonSpace(DecodeUtf8(text.substr(i), &bytes));
    if (!space) {
      begin = std::min(begin, i);
      end = i + unit.bytes;
    }
    i += unit.bytes;
  }
  return begin < end ? text.substr(begin, end - begin) : std::string_view();
}

std::string_view TrimNewlines(std::string_view text) {
  while (ConsumePrefix(&text, "\n")) {
  }
  return text;
}

// Collects control tokens and the texts between them; each text is encoded as one segment, as the
// reference does.
class Writer {
 public:
  explicit Writer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void Text(std::string_view text) { text_ += text; }
  // What is written from here to the next control token is what a user said.
  void BeginUserTurn() { user_begin_ = tokenizer_.Encode(text_).size(); }

  void Control(std::string_view token) {
    Flush();
    const std::optional<int32_t> id = tokenizer_.SpecialToken(token);
    if (id.has_value()) {
      chat_.ids.push_back(*id);
    } else if (missing_.empty()) {
      missing_ = token;
    }
  }

  absl::StatusOr<RenderedChat> Finish(std::string_view template_name) {
    Flush();
    if (!missing_.empty()) {
      return absl::FailedPreconditionError(
          Cat("the chat template ", template_name, " needs the token ", missing_,
              ", which the model's tokenizer lacks; choose another with --chat-template (",
              ChatTemplate::Names(), ") or send raw text"));
    }
    return std::move(chat_);
  }

 private:
  void Flush() {
    if (text_.empty()) return;
    const std::vector<int32_t> ids = tokenizer_.Encode(text_);
    if (user_begin_.has_value() && *user_begin_ < ids.size()) {
      const int begin = static_cast<int>(chat_.ids.size() + *user_begin_);
      chat_.user_turns.push_back({begin, static_cast<int>(chat_.ids.size() + ids.size())});
    }
    user_begin_.reset();
    chat_.ids.insert(chat_.ids.end(), ids.begin(), ids.end());
    text_.clear();
  }

  const Tokenizer& tokenizer_;
  std::string text_;
  std::optional<size_t> user_begin_;  // tokens of text_ before it
  RenderedChat chat_;
  std::string missing_;
};

absl::Status CheckMessage(const Message& message, bool system_allowed) {
  const bool is_system = message.role == "system";
  if (!is_system && message.role != kUser && message.role != "assistant") {
    return absl::InvalidArgumentError(Cat("the role \"", message.role.substr(0, 64),
                                          "\" is unknown; known: system, user, assistant"));
  }
  if (is_system && !system_allowed) {
    return absl::InvalidArgumentError("a system message has to be the first of its conversation");
  }
  return absl::OkStatus();
}

absl::Status CheckMessages(absl::Span<const Message> messages, bool first_may_be_system) {
  if (messages.empty()) return absl::InvalidArgumentError("there are no messages");
  for (size_t i = 0; i < messages.size(); ++i) {
    CCOE_RETURN_IF_ERROR(CheckMessage(messages[i], first_may_be_system && i == 0));
  }
  return absl::OkStatus();
}

void WriteChatMl(std::string_view role, std::string_view content, Writer* writer) {
  writer->Control("<|im_start|>");
  writer->Text(role);
  writer->Text("\n");
  if (role == kUser) writer->BeginUserTurn();
  writer->Text(content);
  writer->Control("<|im_end|>");
  writer->Text("\n");
}

void WriteLlamaHeader(std::string_view role, Writer* writer) {
  writer->Control("<|start_header_id|>");
  writer->Text(role);
  writer->Control("<|end_header_id|>");
  writer->Text("\n\n");
}

void WriteLlama(std::string_view role, std::string_view before, std::string_view content,
                Writer* writer) {
  WriteLlamaHeader(role, writer);
  writer->Text(before);
  if (role == kUser) writer->BeginUserTurn();
  writer->Text(Trim(content));
  writer->Control("<|eot_id|>");
}

// What Qwen3's template does with an answer: thoughts show only after the last question, and there
// the last message gets empty ones if it has none.
enum class Thoughts { kDrop, kKeep, kAlways };

void WriteQwen3Answer(std::string_view content, Thoughts keep, Writer* writer) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  std::string_view thoughts, answer = content;
  if (const size_t close = content.find(kClose); close != std::string_view::npos) {
    thoughts = content.substr(0, close);
    while (thoughts.ends_with('\n')) thoughts.remove_suffix(1);
    if (const size_t open = thoughts.rfind(kOpen); open != std::string_view::npos) {
      thoughts.remove_prefix(open + kOpen.size());
    }
    thoughts = TrimNewlines(thoughts);
    answer = TrimNewlines(content.substr(content.rfind(kClose) + kClose.size()));
  }
  if (keep == Thoughts::kDrop || (keep == Thoughts::kKeep && thoughts.empty())) {
    return WriteChatMl("assistant", answer, writer);
  }
  writer->Control("<|im_start|>");
  writer->Text("assistant\n");
  writer->Control(kOpen);
  writer->Text(Cat("\n", thoughts, "\n"));
  writer->Control(kClose);
  writer->Text(Cat("\n\n", TrimNewlines(answer)));
  writer->Control("<|im_end|>");
  writer->Text("\n");
}

std::string_view DefaultSystem(Kind kind) {
  switch (kind) {
    case Kind::kSmolLm2:
      return kSmolLm2System;
    case Kind::kQwen2:
      return kQwen2System;
    case Kind::kQwen25:
      return kQwen25System;
    default:
      return {};
  }
}

void WriteBeginning(Kind kind, const Message& first, Writer* writer) {
  const bool has_system = first.role == "system";
  if (IsLlama(kind)) writer->Control("<|begin_of_text|>");
  if (kind == Kind::kLlama31 && !has_system) WriteLlama("system", kLlama31Dates, "", writer);
  const std::string_view system = DefaultSystem(kind);
  if (!has_system && !system.empty()) WriteChatMl("system", system, writer);
}

void WriteMessage(Kind kind, const Message& message, Thoughts thoughts, Writer* writer) {
  if (IsLlama(kind)) {
    const bool dated = kind == Kind::kLlama31 && message.role == "system";
    WriteLlama(message.role, dated ? kLlama31Dates : "", message.content, writer);
  } else if (kind == Kind::kQwen3 && message.role == "assistant") {
    WriteQwen3Answer(message.content, thoughts, writer);
  } else {
    WriteChatMl(message.role, message.content, writer);
  }
}

void WriteGenerationPrompt(Kind kind, Writer* writer) {
  if (IsLlama(kind)) {
    WriteLlamaHeader("assistant", writer);
  } else {
    writer->Control("<|im_start|>");
    writer->Text("assistant\n");
  }
}

// Whether a ChatML template writes a system message of its own: text right after the header, which
// otherwise ends its Jinja string.
bool HasDefaultSystem(std::string_view jinja) {
  constexpr std::string_view kHeader = "<|im_start|>system";
  for (size_t at = 0; (at = jinja.find(kHeader, at)) != std::string_view::npos;) {
    at += kHeader.size();
    std::string_view rest = jinja.substr(at);
    if (!ConsumePrefix(&rest, "\\n")) ConsumePrefix(&rest, "\n");
    if (!rest.starts_with('\'') && !rest.starts_with('"')) return true;
  }
  return false;
}

absl::Status UnknownTemplate() {
  return absl::FailedPreconditionError(
      Cat("the model has no chat template, or one that is not recognised; choose one with "
          "--chat-template (",
          ChatTemplate::Names(), ") or send raw text"));
}

}  // namespace

ChatTemplate ChatTemplate::Recognise(std::string_view jinja) {
  const auto has = [jinja](std::string_view text) {
    return jinja.find(text) != std::string_view::npos;
  };
  if (has("<|start_header_id|>") && has("<|eot_id|>")) {
    return ChatTemplate(has("Cutting Knowledge Date") ? Kind::kLlama31 : Kind::kLlama3);
  }
  if (!has("<|im_start|>") || !has("<|im_end|>")) return ChatTemplate();
  if (has("enable_thinking is defined and enable_thinking is false")) {
    return ChatTemplate(Kind::kQwen3);
  }
  if (has(kSmolLm2System)) return ChatTemplate(Kind::kSmolLm2);
  if (has(kQwen25System)) return ChatTemplate(Kind::kQwen25);
  if (has(kQwen2System)) return ChatTemplate(Kind::kQwen2);
  if (has("think") || HasDefaultSystem(jinja)) return ChatTemplate();
  return ChatTemplate(Kind::kChatMl);
}

absl::StatusOr<ChatTemplate> ChatTemplate::ByName(std::string_view name) {
  for (const auto& [known, kind] : kNames) {
    if (known == name) return ChatTemplate(kind);
  }
  return absl::InvalidArgumentError(
      Cat("the chat template \"", name, "\" is unknown; known: ", Names()));
}

std::string ChatTemplate::Names() {
  return absl::StrJoin(kNames, ", ",
                       [](std::string* out, const auto& entry) { *out += entry.first; });
}

std::string_view ChatTemplate::name() const {
  for (const auto& [name, kind] : kNames) {
    if (kind == kind_) return name;
  }
  return "unknown";
}

absl::StatusOr<RenderedChat> ChatTemplate::Render(const Tokenizer& tokenizer,
                                                  absl::Span<const Message> messages,
                                                  GenerationPrompt prompt) const {
  CCOE_RETURN_IF_ERROR(CheckMessages(messages, true));
  if (kind_ == Kind::kUnknown) return UnknownTemplate();
  Writer writer(tokenizer);
  WriteBeginning(kind_, messages[0], &writer);
  size_t last_question = messages.size() - 1;
  while (last_question > 0 && messages[last_question].role != kUser) --last_question;
  if (messages[last_question].role != kUser) last_question = messages.size() - 1;
  for (size_t i = 0; i < messages.size(); ++i) {
    Thoughts thoughts = Thoughts::kDrop;
    if (i > last_question) {
      thoughts = i + 1 == messages.size() ? Thoughts::kAlways : Thoughts::kKeep;
    }
    WriteMessage(kind_, messages[i], thoughts, &writer);
  }
  if (prompt == GenerationPrompt::kAdd) WriteGenerationPrompt(kind_, &writer);
  return writer.Finish(name());
}

absl::StatusOr<std::vector<int32_t>> ChatTemplate::ContinueTurn(
    const Tokenizer& tokenizer, AnswerEnd end, absl::Span<const Message> next) const {
  CCOE_RETURN_IF_ERROR(CheckMessages(next, false));
  if (kind_ == Kind::kUnknown) return UnknownTemplate();
  Writer writer(tokenizer);
  if (end == AnswerEnd::kOpen) writer.Control(IsLlama(kind_) ? "<|eot_id|>" : "<|im_end|>");
  if (!IsLlama(kind_)) writer.Text("\n");
  for (const Message& message : next) WriteMessage(kind_, message, Thoughts::kDrop, &writer);
  WriteGenerationPrompt(kind_, &writer);
  CCOE_ASSIGN_OR_RETURN(RenderedChat chat, writer.Finish(name()));
  return std::move(chat.ids);
}

}  // namespace ccoe::model
