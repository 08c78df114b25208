#include "services/cli/load.h"

#include "absl/strings/str_cat.h"
#include "services/cli/progress.h"

namespace ccoe::cli {

absl::StatusOr<std::shared_ptr<const model::Model>> LoadModel(Terminal& terminal,
                                                              const std::string& path,
                                                              const std::string& chat_template) {
  Progress progress(terminal, absl::StrCat("loading ", path));
  model::LoadOptions options;
  options.chat_template = chat_template;
  options.progress = [&progress](double part) { progress.Set(part); };
  return model::Model::Load(path, options);
}

}  // namespace ccoe::cli
