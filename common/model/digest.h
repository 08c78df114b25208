#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/types/span.h"

struct evp_md_ctx_st;

namespace ccoe::model {

// SHA-256, fed piece by piece. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(std::string_view bytes);
  void Update(absl::Span<const std::byte> bytes);
  // 64 hexadecimal digits, lower case. Ends the use of this object.
  std::string FinishHex();

 private:
  evp_md_ctx_st* const context_;
};

std::string Sha256Hex(std::string_view bytes);
std::string Sha256Hex(absl::Span<const std::byte> bytes);

// Whether `text` is "sha256:" and 64 lower-case hexadecimal digits.
bool IsDigest(std::string_view text);

}  // namespace ccoe::model
