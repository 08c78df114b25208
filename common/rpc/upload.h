#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace ccoe::rpc {

// Where uploads go, and how large they may be.
struct UploadOptions {
  std::string folder;                       // empty: the system's for temporary files
  int64_t max_bytes = int64_t{2048} << 20;  // of all files of one upload
};

struct UploadFile {
  std::string name;
  int64_t bytes = 0;
};

inline constexpr size_t kMaxUploadFiles = 16;

// OK for files that an upload may have. INVALID_ARGUMENT: none or too many, a name that is not 1 to
// 255 of [A-Za-z0-9._-] or begins with a dot, a name that comes twice, no bytes or too many of
// them.
absl::Status CheckUpload(const std::vector<UploadFile>& files, int64_t max_bytes);

// Files that arrive piece by piece, in a folder of their own that only this user can read; it goes
// with this. Not thread-safe.
class Upload {
 public:
  // Errors as of CheckUpload; FAILED_PRECONDITION when there can be no such folder;
  // RESOURCE_EXHAUSTED when the disk is full.
  static absl::StatusOr<std::unique_ptr<Upload>> Begin(const UploadOptions& options,
                                                       std::vector<UploadFile> files);
  ~Upload();
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  // Takes the next bytes of the files, which follow each other without a gap. INVALID_ARGUMENT:
  // more than all files hold; others as of Begin.
  absl::Status Append(std::string_view bytes);
  // OK when all files are there; otherwise INVALID_ARGUMENT.
  absl::Status Finish();

  const std::string& folder() const { return folder_; }
  // A status that names files by themselves: the folder says nothing to who sent them.
  absl::Status WithoutFolder(const absl::Status& status) const;

 private:
  Upload(std::string folder, std::vector<UploadFile> files);
  // Goes on to the file that the next byte belongs to, if there is one.
  absl::Status OpenNext();
  absl::Status Write(std::string_view bytes);

  const std::string folder_;
  const std::vector<UploadFile> files_;
  size_t current_ = 0;   // index of the open file; files_.size() at the end
  int64_t missing_ = 0;  // bytes of the open file
  int fd_ = -1;
};

}  // namespace ccoe::rpc
