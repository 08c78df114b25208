#include "common/model/staged_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "common/base/status_macros.h"
#include "common/model/text.h"

namespace ccoe::model {
namespace {

namespace fs = std::filesystem;

absl::Status SystemError(const std::string& path) {
  return absl::ErrnoToStatus(errno, Cat("cannot write ", path));
}

// Without a slash at its end, which would hide the folder's name.
fs::path Normal(const std::string& path) {
  const fs::path normal = fs::path(path).lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

fs::path ParentOf(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

absl::Status WriteAll(int fd, const std::string& path, absl::Span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError(path);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckNewFolder(const std::string& path) {
  const fs::path normal = Normal(path);
  std::error_code error;
  if (fs::exists(fs::symlink_status(normal, error))) {
    return absl::AlreadyExistsError(Cat(path, " is there already; give a folder that is not"));
  }
  if (!fs::is_directory(ParentOf(normal), error)) {
    return absl::NotFoundError(
        Cat("there is no folder ", ParentOf(normal).string(), " to make ", path, " in"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<StagedFolder>> StagedFolder::Create(const std::string& path) {
  CCOE_RETURN_IF_ERROR(CheckNewFolder(path));
  const fs::path normal = Normal(path);
  const std::string name = normal.filename().string();
  std::string aside = (ParentOf(normal) / Cat(".", name, ".XXXXXX")).string();
  if (mkdtemp(aside.data()) == nullptr) return SystemError(path);
  std::string staging = Cat(aside, "/", name);
  std::unique_ptr<StagedFolder> folder(
      new StagedFolder(normal.string(), std::move(aside), std::move(staging)));
  if (mkdir(folder->staging_.c_str(), 0777) != 0) return SystemError(path);
  return folder;
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  fs::remove_all(aside_, ignored);
}

absl::Status StagedFolder::Write(std::string_view name,
                                 const std::function<absl::Status(const ByteSink&)>& fill) {
  const std::string path = Cat(path_, "/", name);  // as people know it
  const int fd =
      open(Cat(staging_, "/", name).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return SystemError(path);
  absl::Status status =
      fill([&](absl::Span<const std::byte> bytes) { return WriteAll(fd, path, bytes); });
  if (status.ok() && fsync(fd) != 0) status = SystemError(path);
  if (close(fd) != 0 && status.ok()) status = SystemError(path);
  return status;
}

absl::Status StagedFolder::Write(std::string_view name, std::string_view content) {
  return Write(name, [content](const ByteSink& sink) {
    return sink({reinterpret_cast<const std::byte*>(content.data()), content.size()});
  });
}

absl::Status StagedFolder::Publish() {
  const char* from = staging_.c_str();
  const char* to = path_.c_str();
  if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return absl::OkStatus();
  if (errno != EINVAL) return SystemError(path_);
  // A file system that cannot tell whether something is in the way.
  CCOE_RETURN_IF_ERROR(CheckNewFolder(path_));
  return rename(from, to) == 0 ? absl::OkStatus() : SystemError(path_);
}

}  // namespace ccoe::model
