#include "common/rpc/upload.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/error.h"
#include "common/base/status_macros.h"

namespace ccoe::rpc {
namespace {

namespace fs = std::filesystem;

absl::Status Invalid(const std::string& why) {
  return base::MakeError(base::Reason::kInvalidRequest, why,
                         {.metadata = {{"field", "files"}}, .retry_after = {}});
}

absl::Status DiskError(int error, absl::string_view what) {
  const std::string message = absl::StrCat(what, ": ", std::strerror(error));
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return full ? absl::ResourceExhaustedError(message) : absl::FailedPreconditionError(message);
}

bool IsPlainName(const std::string& name) {
  return !name.empty() && name.size() <= 255 && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' ||
                  c == '-';
         });
}

}  // namespace

absl::Status CheckUpload(const std::vector<UploadFile>& files, int64_t max_bytes) {
  if (files.empty() || files.size() > kMaxUploadFiles) {
    return Invalid(
        absl::StrCat("an upload has 1 to ", kMaxUploadFiles, " files, not ", files.size()));
  }
  std::set<std::string> names;
  int64_t left = max_bytes;
  for (const UploadFile& file : files) {
    if (!IsPlainName(file.name)) {
      return Invalid("a file's name is 1 to 255 of [A-Za-z0-9._-] and begins with no dot");
    }
    if (!names.insert(file.name).second) return Invalid(absl::StrCat(file.name, " comes twice"));
    if (file.bytes < 1) return Invalid(absl::StrCat(file.name, " is empty"));
    if (file.bytes > left) {
      return Invalid(absl::StrCat("the files have more than the ", max_bytes,
                                  " bytes that the server takes (--max-upload-mib)"));
    }
    left -= file.bytes;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Upload>> Upload::Begin(const UploadOptions& options,
                                                      std::vector<UploadFile> files) {
  CCOE_RETURN_IF_ERROR(CheckUpload(files, options.max_bytes));
  std::error_code ignored;
  const fs::path parent =
      options.folder.empty() ? fs::temp_directory_path(ignored) : fs::path(options.folder);
  std::string folder = (parent / "ccoe-upload-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) {
    return DiskError(errno, absl::StrCat("cannot make a folder in ", parent.string(),
                                         " (--upload-dir names another)"));
  }
  std::unique_ptr<Upload> upload(new Upload(std::move(folder), std::move(files)));
  CCOE_RETURN_IF_ERROR(upload->OpenNext());
  return upload;
}

Upload::Upload(std::string folder, std::vector<UploadFile> files)
    : folder_(std::move(folder)), files_(std::move(files)) {}

Upload::~Upload() {
  if (fd_ >= 0) close(fd_);
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

absl::Status Upload::OpenNext() {
  if (fd_ >= 0) {
    const int fd = std::exchange(fd_, -1);
    if (close(fd) != 0) return DiskError(errno, "cannot write " + files_[current_].name);
    ++current_;
  }
  if (current_ == files_.size()) return absl::OkStatus();
  const UploadFile& file = files_[current_];
  missing_ = file.bytes;
  fd_ =
      open((fs::path(folder_) / file.name).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd_ < 0) return DiskError(errno, "cannot write " + file.name);
  return absl::OkStatus();
}

absl::Status Upload::Append(std::string_view bytes) {
  while (!bytes.empty()) {
    if (current_ == files_.size()) return Invalid("more bytes came than the files have");
    const auto piece = bytes.substr(0, static_cast<size_t>(missing_));
    CCOE_RETURN_IF_ERROR(Write(piece));
    bytes.remove_prefix(piece.size());
    missing_ -= static_cast<int64_t>(piece.size());
    if (missing_ == 0) CCOE_RETURN_IF_ERROR(OpenNext());
  }
  return absl::OkStatus();
}

absl::Status Upload::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return DiskError(errno, "cannot write " + files_[current_].name);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status Upload::Finish() {
  if (current_ == files_.size()) return absl::OkStatus();
  return Invalid(absl::StrCat("the upload ended early: ", missing_, " bytes of ",
                              files_[current_].name, " are missing"));
}

absl::Status Upload::WithoutFolder(const absl::Status& status) const {
  absl::Status named(status.code(),
                     absl::StrReplaceAll(status.message(), {{absl::StrCat(folder_, "/"), ""}}));
  status.ForEachPayload(
      [&](absl::string_view type, const absl::Cord& payload) { named.SetPayload(type, payload); });
  return named;
}

}  // namespace ccoe::rpc
