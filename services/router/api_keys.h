#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ccoe/internal/v1/config.pb.h"

// The keys that clients show. A key is 256 random bits, so that its SHA-256 is all a server has to
// keep: there is nothing to guess by trial, as there is with passwords.
namespace ccoe::router {

// A new key: "ccoe_" and 64 hexadecimal digits.
std::string MakeApiKey();
// As the keys file has it.
std::string HashApiKey(std::string_view key);

// The keys of a file. NOT_FOUND: there is none. INVALID_ARGUMENT names the file and the place: it
// is not JSON, a member is not known or out of its range, two keys are the same or have one name.
absl::StatusOr<internal::v1::ApiKeys> LoadApiKeys(const std::string& path);
// As LoadApiKeys, of a text; `where` begins every message.
absl::StatusOr<internal::v1::ApiKeys> ParseApiKeys(const std::string& json,
                                                   const std::string& where);
// As LoadApiKeys, of a configuration's value; empty is good too. INVALID_ARGUMENT names `key`.
absl::Status CheckApiKeys(std::string_view key, const std::string& path);
// Replaces the file as a whole, which keeps its owner and mode; a new one only its owner may read.
// INVALID_ARGUMENT as of LoadApiKeys.
absl::Status SaveApiKeys(const internal::v1::ApiKeys& keys, const std::string& path);

}  // namespace ccoe::router
