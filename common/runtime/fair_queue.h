#pragma once

#include <map>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "common/runtime/session.h"

namespace ccoe::runtime {

// Whether a flow that holds `held` places of a kind may take one more while `free` are. A flow that
// alone wants all of them gets four fifths with weight 1, and the more flows want some, the less
// each gets: nobody who comes is shut out. The dynamic threshold of Choudhury and Hahne ("Dynamic
// Queue Length Thresholds for Shared-Memory Packet Switches", IEEE/ACM ToN 1998). Sessions without
// a key have no threshold. Pure.
bool MayTakePlace(const Flow& flow, int held, int free);

// Whose turn it is: counts the rows that each flow has had computed, by key and, within a key, by
// domain; the least served comes first. A key's rows count by its weight. A flow that comes (back)
// to work has what it was served before, but at least as much as the least served of those that
// have work, and with each session that joins at least as much as the last whose turn it was (and
// as everybody, while nobody waits):
// idleness saves nothing up, and what was idle costs its user nothing later. So of two flows that
// always wait neither is ahead of the other by more than what is served at once. The virtual token
// counter of Sheng et al.
// ("Fairness in Serving Large Language Models", OSDI 2024), in two levels. Pure but for its state;
// thread-compatible.
class FairQueue {
 public:
  // The least goes first: of the key, then of the domain within it.
  using Rank = std::pair<double, double>;

  // A session of the flow comes, and goes again.
  void Join(const Flow& flow, absl::string_view domain);
  void Leave(const Flow& flow, absl::string_view domain);
  // It was the flow's turn. Requires a session that has joined.
  void Turn(const Flow& flow, absl::string_view domain);
  // `rows` were computed for it, or fewer than was thought where they are negative. Requires a
  // session that has joined.
  void Charge(const Flow& flow, absl::string_view domain, int rows);
  Rank RankOf(const Flow& flow, absl::string_view domain) const;

 private:
  struct Domain {
    int sessions = 0;
    double served = 0;
  };
  struct Key {
    int sessions = 0;
    double served = 0;  // rows, divided by the weight
    double turn = 0;    // of the domain whose turn it was last: what it had been served
    std::map<std::string, Domain, std::less<>> domains;
  };

  std::map<std::string, Key, std::less<>> keys_;
  double turn_ = 0;  // of the key whose turn it was last: what it had been served
};

}  // namespace ccoe::runtime
