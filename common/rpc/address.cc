#include "common/rpc/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <string>

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

bool IsLocalAddress(absl::string_view address) {
  if (IsUnixAddress(address)) return true;
  std::string host(HostOf(address));
  if (host == "localhost") return true;
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]"))
    host = host.substr(1, host.size() - 2);
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
  in6_addr v6;
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
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
