#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "common/base/status_macros.h"
#include "common/rpc/config.h"
#include "common/rpc/upload.h"

// Configurations of programs that packages are sent to: they have `upload_dir` and
// `max_upload_mib`.
namespace ccoe::rpc {

template <typename Config>
concept HasUploads = requires(Config& config) {
  config.max_upload_mib();
};

// Sets what is unset, and checks it. INVALID_ARGUMENT names the key.
template <HasUploads Config>
absl::Status CompleteUploads(Config* config) {
  if (!config->upload_dir().empty()) {
    CCOE_RETURN_IF_ERROR(CheckExists("upload_dir", config->upload_dir()));
  }
  if (!config->has_max_upload_mib()) config->set_max_upload_mib(2048);
  return CheckRange("max_upload_mib", config->max_upload_mib(), 1, 1 << 20);
}

// Of a completed configuration.
template <HasUploads Config>
UploadOptions UploadsOf(const Config& config) {
  return {config.upload_dir(), static_cast<int64_t>(config.max_upload_mib()) << 20};
}

}  // namespace ccoe::rpc
