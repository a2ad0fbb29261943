// SPDX-License-Identifier: MIT
// What two policies decide differently about one path and one peer, given the rules that match.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "policy/diff/pattern_trie.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

enum class ChangeKind : std::uint8_t {
    gained,    // was refused, is allowed
    lost,      // was allowed, is refused
    settings,  // is allowed by a rule with other settings
    reveal,    // is refused with another errno
};

// The settings of allow rules. Bits of Change::settings.
enum class Setting : std::uint8_t { create, deliver, files, symlinks, deadline, rename, ancestors };
inline constexpr unsigned setting_count = 7;
std::string_view to_string(Setting setting) noexcept;  // the key of the policy language

inline constexpr std::uint32_t no_rule = UINT32_MAX;

// The operations that change in the same way by the same rules. For `reveal` they may be a pair of which each alone is
// refused as before, and both together are not.
struct Change {
    ChangeKind kind{};
    std::uint32_t before = no_rule;  // the rule that decided; no_rule: no rule allowed it
    std::uint32_t after = no_rule;
    // Bit per Setting that differs. `ancestors` also where that is what is gained or lost.
    std::uint8_t settings = 0;
    OperationSet operations{};
};

// For each operation the first rule in file order that denies it, and the first that allows it.
struct Verdict {
    std::array<std::uint32_t, operation_count> denied_by{};
    std::array<std::uint32_t, operation_count> allowed_by{};
    // The first rule with `ancestors: stat` to whose paths the path leads. It counts where no rule allows stat.
    std::uint32_t leads_by = no_rule;

    Verdict() noexcept;
    void note(std::uint32_t rule, bool allows, OperationSet operations) noexcept;
    void note_ancestor(std::uint32_t rule) noexcept;
    // The rule that decides; no_rule: nothing allows the operation.
    std::uint32_t rule(unsigned operation) const noexcept;
    bool allows(unsigned operation) const noexcept;
    // The operation is stat, and all that is told is that the path is a directory.
    bool is_ancestor(OperationSet operations) const noexcept;
};

// Settings that have no effect on an operation are not compared; owners and groups are what they come to for the peer.
std::vector<Change> changes(const PolicyPair& policies, const PeerIdentity& peer, const Verdict& before,
                            const Verdict& after);

}  // namespace fdbroker::policy
