#include "common/rpc/address.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ccoe::rpc {
namespace {

constexpr absl::string_view kUnix = "unix:";
constexpr int kMaxPort = 65535;

// The port after the last colon; -1: there is none.
int PortOf(absl::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos) return -1;
  const absl::string_view digits = address.substr(colon + 1);
  int port = 0;
  if (!std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit)) return -1;
  return absl::SimpleAtoi(digits, &port) && port <= kMaxPort ? port : -1;
}

absl::string_view HostOf(absl::string_view address) {
  return address.substr(0, address.rfind(':'));
}

// A colon within a host would leave open where the port begins.
bool IsPlainHost(absl::string_view host) {
  const bool bracketed = absl::StartsWith(host, "[") && absl::EndsWith(host, "]");
  return bracketed || !absl::StrContains(host, ':');
}

}  // namespace

bool IsUnixAddress(absl::string_view address) {
  return absl::StartsWith(address, kUnix) && address.size() > kUnix.size();
}

absl::Status CheckListenAddress(absl::string_view address) {
  if (IsUnixAddress(address)) return absl::OkStatus();
  if (PortOf(address) >= 0 && IsPlainHost(HostOf(address))) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", address, "\" is no address to listen at: write HOST:PORT, :PORT for all ",
                   "addresses, or unix:PATH; a port is a number up to ", kMaxPort));
}

absl::Status CheckDialAddress(absl::string_view address) {
  if (IsUnixAddress(address)) return absl::OkStatus();
  if (PortOf(address) > 0 && !HostOf(address).empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", address, "\" is no address of a server: write HOST:PORT or unix:PATH; a ",
                   "port is a number from 1 to ", kMaxPort));
}

}  // namespace ccoe::rpc
