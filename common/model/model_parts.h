#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "common/model/config.h"
#include "common/model/mapped_file.h"
#include "common/model/tensor_table.h"
#include "common/model/tokenizer_spec.h"

namespace ccoe::model {

// What a model's files hold, in Hugging Face's terms, before the parts are checked against each
// other.
struct ModelParts {
  ModelConfig config;
  TokenizerSpec tokenizer;
  std::string chat_template;  // Jinja; empty: none
  TensorTable tensors;        // views of `files` and `copies`
  std::vector<std::shared_ptr<const MappedFile>> files;
  std::vector<std::unique_ptr<std::byte[]>> copies;
};

}  // namespace ccoe::model
