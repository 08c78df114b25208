#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ccoe::rpc {

// "unix:PATH", a Unix socket.
bool IsUnixAddress(absl::string_view address);

// Whether only this machine reaches what listens there: a Unix socket, localhost, 127.0.0.0/8, ::1.
// Requires CheckListenAddress.
bool IsLocalAddress(absl::string_view address);

// OK for "HOST:PORT", ":PORT" (all addresses), "[IPV6]:PORT" and "unix:PATH"; port 0 takes a free
// one. INVALID_ARGUMENT says what to write.
absl::Status CheckListenAddress(absl::string_view address);

// OK for what a channel can reach: "HOST:PORT" (the host may carry a resolver's scheme) and
// "unix:PATH". INVALID_ARGUMENT says what to write.
absl::Status CheckDialAddress(absl::string_view address);

}  // namespace ccoe::rpc
