#include "services/router/api_keys.h"

#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/model/digest.h"
#include "common/rpc/config.h"

namespace ccoe::router {
namespace {

using internal::v1::ApiKey;
using internal::v1::ApiKeys;

constexpr size_t kMaxNameBytes = 64;
constexpr int kMaxKeyWeight = 100;
constexpr int kMaxLimit = 1'000'000'000;

absl::Status CheckName(const char* member, const std::string& name) {
  const bool good = !name.empty() && name.size() <= kMaxNameBytes &&
                    std::all_of(name.begin(), name.end(), [](unsigned char c) {
                      return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
                    });
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(member, " must be 1 to 64 of [A-Za-z0-9._-]"));
}

absl::Status CheckApiKey(const ApiKey& key) {
  CCOE_RETURN_IF_ERROR(CheckName("name", key.name()));
  if (!key.cache_group().empty()) {
    CCOE_RETURN_IF_ERROR(CheckName("cache_group", key.cache_group()));
  }
  if (!model::IsDigest(absl::StrCat("sha256:", key.sha256()))) {
    return absl::InvalidArgumentError("sha256 must be 64 lower-case hexadecimal digits");
  }
  if (key.has_weight()) {
    CCOE_RETURN_IF_ERROR(rpc::CheckRange("weight", key.weight(), 1, kMaxKeyWeight));
  }
  CCOE_RETURN_IF_ERROR(
      rpc::CheckRange("max_concurrent_requests", key.max_concurrent_requests(), 0, kMaxLimit));
  return rpc::CheckRange("tokens_per_minute", key.tokens_per_minute(), 0, kMaxLimit);
}

absl::Status CheckAll(const ApiKeys& keys, const std::string& where) {
  std::set<std::string> names;
  std::set<std::string> hashes;
  for (int i = 0; i < keys.keys_size(); ++i) {
    const ApiKey& key = keys.keys(i);
    absl::Status status = CheckApiKey(key);
    if (status.ok() && !names.insert(key.name()).second) {
      status = absl::InvalidArgumentError(absl::StrCat("another key is named ", key.name()));
    }
    if (status.ok() && !hashes.insert(key.sha256()).second) {
      status = absl::InvalidArgumentError("another name has the same sha256");
    }
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": keys[", i, "]: ", status.message()));
    }
  }
  return absl::OkStatus();
}

absl::Status SystemError(const char* what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

absl::Status WriteThrough(int file, const std::string& text, const std::string& path) {
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = write(file, text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError("cannot write", path);
    written += static_cast<size_t>(count);
  }
  return fsync(file) == 0 ? absl::OkStatus() : SystemError("cannot write", path);
}

}  // namespace

std::string MakeApiKey() {
  std::array<unsigned char, 32> bytes;
  CCOE_CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
  return absl::StrCat("ccoe_", absl::BytesToHexString(absl::string_view(
                                   reinterpret_cast<const char*>(bytes.data()), bytes.size())));
}

std::string HashApiKey(std::string_view key) { return model::Sha256Hex(key); }

absl::StatusOr<ApiKeys> LoadApiKeys(const std::string& path) {
  ApiKeys keys;
  CCOE_RETURN_IF_ERROR(rpc::LoadConfigFile(path, &keys));
  CCOE_RETURN_IF_ERROR(CheckAll(keys, path));
  return keys;
}

absl::StatusOr<ApiKeys> ParseApiKeys(const std::string& json, const std::string& where) {
  ApiKeys keys;
  CCOE_RETURN_IF_ERROR(rpc::ParseConfig(json, where, &keys));
  CCOE_RETURN_IF_ERROR(CheckAll(keys, where));
  return keys;
}

absl::Status CheckApiKeys(std::string_view key, const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  const absl::Status status = LoadApiKeys(path).status();
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(std::string(key), ": ", status.message()));
}

absl::Status SaveApiKeys(const ApiKeys& keys, const std::string& path) {
  CCOE_RETURN_IF_ERROR(CheckAll(keys, path));
  std::string staged = absl::StrCat(path, ".XXXXXX");
  const int file = mkstemp(staged.data());  // mode 0600
  if (file < 0) return SystemError("cannot write beside", path);
  absl::Status status = WriteThrough(file, rpc::ConfigToJson(keys), path);
  struct stat old = {};
  if (status.ok() && stat(path.c_str(), &old) == 0 &&
      (fchown(file, old.st_uid, old.st_gid) != 0 || fchmod(file, old.st_mode & 0777) != 0)) {
    status = SystemError("cannot keep the owner and the mode of", path);
  }
  close(file);
  if (status.ok() && rename(staged.c_str(), path.c_str()) != 0) {
    status = SystemError("cannot replace", path);
  }
  if (!status.ok()) unlink(staged.c_str());
  return status;
}

}  // namespace ccoe::router
