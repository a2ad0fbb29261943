// SPDX-License-Identifier: MIT
// The differences that a search comes by: the rules that match a path, compared for every class of peers.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "policy/diff/peers.hpp"
#include "policy/diff/verdict.hpp"

namespace fdbroker::policy {

struct FoundChange {
    Change change{};
    std::string path{};   // a shortest one
    PeerIdentity peer{};  // an example
    bool every_peer = false;
    std::vector<std::string> peers{};  // the labels of all classes
};

// A rule that matches, and the operations for which it does.
struct MatchedRule {
    Side side{};
    std::uint32_t rule = 0;
    bool ancestor = false;         // TrieEntry::ancestor
    std::uint16_t operations = 0;  // OperationSet::bits()
    auto operator<=>(const MatchedRule&) const = default;
};

class Findings {
  public:
    static constexpr std::uint32_t unbound = UINT32_MAX;

    // `bindings` are those that indices name; `only`, unless null, is the one peer that is compared where nothing is bound.
    Findings(const PolicyPair& policies, Peers& peers, const std::vector<Binding>& bindings,
             const Binding* only)
        : policies_(policies), peers_(peers), bindings_(bindings), only_(only) {}

    // The first path with these matches is the example of what differs. `apart`: the path is one that is compared apart.
    void compare(const std::vector<MatchedRule>& matches, std::uint32_t binding, bool apart,
                 const std::function<std::string()>& path);
    bool empty() const noexcept { return findings_.empty(); }
    bool all_peers() const noexcept { return all_peers_; }
    std::vector<FoundChange> take() && { return std::move(findings_); }

  private:
    using ChangeKey = std::tuple<ChangeKind, std::uint32_t, std::uint32_t, std::uint8_t, std::uint16_t>;
    static ChangeKey key_of(const Change& change) noexcept;

    Selector selector_of(const MatchedRule& match) const;
    std::vector<Selector> selectors_of(const std::vector<MatchedRule>& matches) const;
    std::vector<Change> changes_for(const PeerClass& peer, const std::vector<MatchedRule>& matches,
                                    const std::vector<Selector>& selectors) const;
    void note(const Change& change, const std::vector<std::size_t>& who, const PeerClasses& peers, bool bound,
              bool apart, const std::function<std::string()>& path);

    const PolicyPair& policies_;
    Peers& peers_;
    const std::vector<Binding>& bindings_;
    const Binding* only_;
    bool all_peers_ = true;
    std::vector<FoundChange> findings_{};
    std::set<std::tuple<std::uint32_t, bool, std::vector<MatchedRule>>> compared_{};
    std::map<std::pair<ChangeKey, std::string>, std::size_t> noted_{};
};

}  // namespace fdbroker::policy
