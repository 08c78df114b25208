#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/byte_sink.h"

namespace ccoe::model {

// OK where a new folder may be made. ALREADY_EXISTS: something is there. NOT_FOUND: its parent is
// not.
absl::Status CheckNewFolder(const std::string& path);

// A folder that appears whole or not at all: it is filled in a folder of its own beside its place,
// ".NAME.XXXXXX", which a folder of packages passes over, and renamed at the end. Not thread-safe.
class StagedFolder {
 public:
  // Errors as of CheckNewFolder, and of the system.
  static absl::StatusOr<std::unique_ptr<StagedFolder>> Create(const std::string& path);
  // Removes what was not published.
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  // Where the files are until Publish.
  const std::string& staging() const { return staging_; }

  // Writes the file `name` through to the disk: what `fill` gives to the sink. Errors of `fill`;
  // RESOURCE_EXHAUSTED: the disk is full.
  absl::Status Write(std::string_view name,
                     const std::function<absl::Status(const ByteSink&)>& fill);
  absl::Status Write(std::string_view name, std::string_view content);

  // Puts the folder in its place; it is the last call. ALREADY_EXISTS: something came there
  // meanwhile.
  absl::Status Publish();

 private:
  StagedFolder(std::string path, std::string aside, std::string staging)
      : path_(std::move(path)), aside_(std::move(aside)), staging_(std::move(staging)) {}

  const std::string path_;
  const std::string aside_;
  const std::string staging_;  // in aside_
};

}  // namespace ccoe::model
