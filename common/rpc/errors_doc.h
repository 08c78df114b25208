#pragma once

#include <string>

namespace ccoe::rpc {

// docs/errors.md, made from base::ErrorTable().
std::string ErrorsMarkdown();

}  // namespace ccoe::rpc
