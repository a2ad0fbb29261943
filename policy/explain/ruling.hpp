// SPDX-License-Identifier: MIT
// A request that one policy has decided, decided by another: for recorded requests and for candidates.
#pragma once

#include <string>
#include <string_view>

#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

// The parts of a request that a policy looks at. The texts need no NUL behind them.
struct DecidedRequest {
    OperationSet operations{};
    std::string_view path{};
    std::string_view final_path{};  // where links led; empty: the path itself
    std::string_view new_path{};    // the new name in a rename
    bool renames = false;
};

struct Ruling {
    enum class Basis : std::uint8_t {
        rule,       // `rule` allows or denies it; null: no rule allows it
        links,      // `rule` would allow it but follows no symbolic link, and one was followed
        gains,      // the new name would allow what the old one does not
        undecided,  // a path or the operations are missing, or no request could have them
    };
    bool allowed = false;
    Basis basis = Basis::rule;
    const Rule* rule = nullptr;
};

// Says what a policy rules. Keeps room for paths, so that in the long run nothing is allocated.
class Judgement {
  public:
    // Pure. Names between `path` and `final_path` are not known, and not decided on.
    Ruling rule(const Policy& policy, const Peer& peer, const DecidedRequest& request);

  private:
    Ruling rule_rename(const Policy& policy, const Peer& peer);
    std::string path_{}, other_path_{};  // as decisions borrow them
};

// In words: rule "site" allows it (policy.yaml:7); no rule allows it.
std::string to_text(const Ruling& ruling);

}  // namespace fdbroker::policy
