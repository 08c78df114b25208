#pragma once

namespace ccoe::rpc {

// Makes SIGTERM and SIGINT something to wait for. Create it in main before any thread starts:
// threads inherit the blocked signals.
class ShutdownSignals {
 public:
  ShutdownSignals();
  ShutdownSignals(const ShutdownSignals&) = delete;
  ShutdownSignals& operator=(const ShutdownSignals&) = delete;

  // Blocks until one arrives and returns its number. From then on the next one ends the process at
  // once.
  int Wait();
};

}  // namespace ccoe::rpc
