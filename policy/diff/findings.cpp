// SPDX-License-Identifier: MIT
#include "policy/diff/findings.hpp"

#include <algorithm>
#include <array>

#include "policy/matching/compiled.hpp"

namespace fdbroker::policy {

Findings::ChangeKey Findings::key_of(const Change& change) noexcept {
    return {change.kind, change.before, change.after, change.settings, change.operations.bits()};
}

Selector Findings::selector_of(const MatchedRule& match) const {
    return {match.side, policies_[match.side].compiled().rule_roles[match.rule]};
}

std::vector<Selector> Findings::selectors_of(const std::vector<MatchedRule>& matches) const {
    std::vector<Selector> selectors;
    for (const MatchedRule& match : matches)
        if (selector_of(match).selector != RoleSets::every_peer) selectors.push_back(selector_of(match));
    std::ranges::sort(selectors);
    const auto repeated = std::ranges::unique(selectors);
    selectors.erase(repeated.begin(), repeated.end());
    return selectors;
}

std::vector<Change> Findings::changes_for(const PeerClass& peer, const std::vector<MatchedRule>& matches,
                                          const std::vector<Selector>& selectors) const {
    std::array<Verdict, 2> verdicts;
    for (const MatchedRule& match : matches) {
        const Selector selector = selector_of(match);
        if (selector.selector != RoleSets::every_peer) {
            const auto place = std::ranges::lower_bound(selectors, selector) - selectors.begin();
            if (!peer.holds[static_cast<std::size_t>(place)]) continue;
        }
        Verdict& verdict = verdicts[static_cast<std::size_t>(match.side)];
        if (match.ancestor) {
            verdict.note_ancestor(match.rule);
        } else {
            verdict.note(match.rule, policies_[match.side].rules()[match.rule].allows,
                         OperationSet::from_bits(match.operations));
        }
    }
    return changes(policies_, peer.identity, verdicts[0], verdicts[1]);
}

void Findings::compare(const std::vector<MatchedRule>& matches, std::uint32_t binding_index, bool apart,
                       const std::function<std::string()>& path) {
    if (!compared_.emplace(binding_index, apart, matches).second) return;
    const std::vector<Selector> selectors = selectors_of(matches);
    const bool bound = binding_index != unbound;
    const Binding* const binding = bound ? &bindings_[binding_index] : only_;
    // The first keys are those of all peers and of only_.
    const std::size_t unbound_key = binding != nullptr ? 1 : 0;
    const std::size_t key = bound ? std::size_t{binding_index} + 2 : unbound_key;
    const PeerClasses& peers = peers_.classes(selectors, binding, key);
    all_peers_ = all_peers_ && peers.complete;

    std::map<ChangeKey, std::pair<Change, std::vector<std::size_t>>> found;
    for (std::size_t peer = 0; peer < peers.classes.size(); ++peer) {
        for (const Change& change : changes_for(peers.classes[peer], matches, selectors)) {
            auto& [first, who] = found[key_of(change)];
            first = change;
            who.push_back(peer);
        }
    }
    for (const auto& [ignored, one] : found) note(one.first, one.second, peers, bound, apart, path);
}

void Findings::note(const Change& change, const std::vector<std::size_t>& who, const PeerClasses& peers,
                    bool bound, bool apart, const std::function<std::string()>& path) {
    const bool every = who.size() == peers.classes.size() && !bound;
    std::vector<std::string> labels;
    std::string key;
    for (const std::size_t peer : who)
        labels.insert(labels.end(), peers.classes[peer].labels.begin(), peers.classes[peer].labels.end());
    // A difference that several bindings share is told once, with all their labels.
    if (bound) {
        key = "bound";
    } else if (!every) {
        for (const std::string& label : labels) key += label + '\n';
    }
    if (apart) key += "apart";
    const auto [place, is_new] = noted_.try_emplace({key_of(change), key}, findings_.size());
    if (is_new)
        findings_.push_back({.change = change,
                             .path = path(),
                             .peer = peers.classes[who.front()].identity,
                             .every_peer = every});
    if (every) return;
    FoundChange& finding = findings_[place->second];
    for (std::string& label : labels)
        if (std::ranges::find(finding.peers, label) == finding.peers.end())
            finding.peers.push_back(std::move(label));
}

}  // namespace fdbroker::policy
