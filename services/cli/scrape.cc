#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "services/cli/exposition.h"

namespace ccoe::cli {
namespace {

constexpr size_t kMaxBytes = size_t{16} << 20;  // of an answer

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

  // Waits for `events` until the deadline.
  bool Await(short events, absl::Time deadline) const {
    pollfd waited{fd_, events, 0};
    for (;;) {
      const absl::Duration left = std::max(absl::ZeroDuration(), deadline - absl::Now());
      const int ready = poll(&waited, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
      if (ready > 0) return true;
      if (ready == 0 || errno != EINTR) return false;
    }
  }

 private:
  const int fd_;
};

absl::Status NobodyAt(const std::string& address) {
  return absl::UnavailableError(absl::StrCat("nobody answers at ", address));
}

absl::StatusOr<std::unique_ptr<Socket>> Connect(const std::string& address, absl::Time deadline) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("'", address, "': write HOST:PORT"));
  }
  std::string host = address.substr(0, colon);
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]")) {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found) != 0) {
    return absl::UnavailableError(absl::StrCat("there is no address ", address));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> list(found, freeaddrinfo);
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    auto stream = std::make_unique<Socket>(
        socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (stream->fd() < 0) continue;
    if (connect(stream->fd(), at->ai_addr, at->ai_addrlen) == 0) return stream;
    int error = errno;
    socklen_t size = sizeof error;
    if (error == EINPROGRESS && stream->Await(POLLOUT, deadline) &&
        getsockopt(stream->fd(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0) {
      return stream;
    }
  }
  return NobodyAt(address);
}

// Sends a request and reads to the end of the answer.
absl::StatusOr<std::string> Fetch(const std::string& address, absl::Time deadline) {
  CCOE_ASSIGN_OR_RETURN(const std::unique_ptr<Socket> stream, Connect(address, deadline));
  const std::string request =
      absl::StrCat("GET /metrics HTTP/1.0\r\nHost: ", address, "\r\n\r\n");  // fits any buffer
  if (send(stream->fd(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return NobodyAt(address);
  }
  std::string answer;
  std::array<char, 65536> piece;
  while (stream->Await(POLLIN, deadline)) {
    const ssize_t size = recv(stream->fd(), piece.data(), piece.size(), 0);
    if (size == 0) return answer;
    if (size < 0 && errno != EAGAIN && errno != EINTR) return NobodyAt(address);
    if (size > 0) answer.append(piece.data(), static_cast<size_t>(size));
    if (answer.size() > kMaxBytes) break;
  }
  return NobodyAt(address);
}

}  // namespace

absl::StatusOr<std::vector<Sample>> Scrape(const std::string& address, absl::Duration timeout) {
  CCOE_ASSIGN_OR_RETURN(const std::string answer, Fetch(address, absl::Now() + timeout));
  const size_t head = answer.find("\r\n\r\n");
  const std::string_view status = std::string_view(answer).substr(0, 13);  // "HTTP/1.1 200 "
  if (head != std::string::npos && status.size() == 13 && status.substr(0, 7) == "HTTP/1." &&
      status.substr(8) == " 200 ") {
    auto samples = ParseExposition(std::string_view(answer).substr(head + 4));
    if (samples.ok()) return samples;
  }
  return absl::FailedPreconditionError(
      absl::StrCat(address, " has no metrics: is it a process's --metrics-listen?"));
}

}  // namespace ccoe::cli
