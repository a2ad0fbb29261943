// SPDX-License-Identifier: MIT
#include "policy/diff/diff.hpp"

#include <algorithm>
#include <stdexcept>

#include "policy/diff/name_classes.hpp"
#include "policy/diff/pattern_trie.hpp"
#include "policy/diff/peers.hpp"
#include "policy/diff/search.hpp"
#include "policy/explain/explain.hpp"
#include "policy/matching/compiled.hpp"
#include "policy/matching/matcher_walk.hpp"

namespace fdbroker::policy {
namespace {

// Notes for every operation which rules decide.
class VerdictVisitor {
  public:
    VerdictVisitor(const RoleSets& roles, const Peer& peer) : roles_(roles), peer_(peer) {}
    void deny(std::span<const Entry> entries, OperationSet operations) { note(entries, false, operations); }
    void allow(std::span<const Entry> entries, OperationSet operations) { note(entries, true, operations); }
    Verdict take() && { return verdict_; }

  private:
    void note(std::span<const Entry> entries, bool allows, OperationSet operations) {
        for (const Entry& entry : entries)
            if (roles_.holds(peer_, entry.roles))
                verdict_.note(entry.rule, allows, operations & OperationSet::from_bits(entry.operations));
    }

    const RoleSets& roles_;
    const Peer& peer_;
    Verdict verdict_{};
};

// The verdict of a policy's own matcher: one walk for all operations.
Verdict verdict_of(const Policy& policy, const PeerIdentity& identity, RequestPath path) {
    const Peer peer = policy.identify(identity);
    VerdictVisitor visitor(policy.compiled().role_sets, peer);
    walk(policy.compiled().matcher, path, peer.values(), visitor);
    Verdict verdict = std::move(visitor).take();
    if (const auto grant = policy.ancestor(peer, {Operation::stat}, path))
        verdict.note_ancestor(static_cast<std::uint32_t>(&grant->rule() - policy.rules().data()));
    return verdict;
}

// Where the search was given up: paths that the changed patterns match, one by one.
class Samples {
  public:
    Samples(const PolicyPair& policies, Peers& peers, SearchResult& result)
        : policies_(policies), peers_(peers), result_(result) {}

    std::size_t try_all() {
        for (const Side side : both_sides) {
            const Policy::Compiled& compiled = policies_[side].compiled();
            for (std::uint32_t index = 0; index < compiled.pattern_ends.size(); ++index) {
                const Selector selector{side, compiled.rule_roles[compiled.pattern_rules[index]]};
                const auto patterns = parse_pattern(compiled.pattern(index));
                for (const PeerClass& peer : peers_.classes({selector}, nullptr, 0).classes)
                    for (const Pattern& pattern : patterns.value())
                        for (const std::size_t depth : {0U, 1U, 2U})
                            try_path(example(pattern, depth, peer), peer);
            }
        }
        return paths_.size();
    }

  private:
    std::string example(const Pattern& pattern, std::size_t depth, const PeerClass& peer) const {
        const PeerValues values = policies_.before->identify(peer.identity).values();
        std::string path;
        for (const Component& component : pattern.components) {
            if (component.any_depth) {
                for (std::size_t count = 0; count < depth; ++count) path += "/a";
                continue;
            }
            path += '/';
            const std::string_view programs[] = {component.glob.program()};
            const NameClasses names = name_classes(programs, {}, values);
            for (const NameClass& one : names.classes) {
                if (one.globs.empty()) continue;
                path += one.example;
                break;
            }
        }
        return path.empty() ? "/" : path;
    }

    void try_path(const std::string& text, const PeerClass& peer) {
        const auto path = RequestPath::parse(text);
        if (!path || !tried_.emplace(text, peer.labels.front()).second) return;
        paths_.insert(text);
        const Verdict before = verdict_of(*policies_.before, peer.identity, *path);
        const Verdict after = verdict_of(*policies_.after, peer.identity, *path);
        for (const Change& change : changes(policies_, peer.identity, before, after))
            result_.findings.push_back(
                {.change = change, .path = text, .peer = peer.identity, .peers = peer.labels});
    }

    const PolicyPair& policies_;
    Peers& peers_;
    SearchResult& result_;
    std::set<std::string> paths_{};
    std::set<std::pair<std::string, std::string>> tried_{};  // path, label of a peer
};

bool same_but_for_operations(const FoundChange& one, const FoundChange& other) {
    return one.change.kind == other.change.kind && one.change.before == other.change.before &&
           one.change.after == other.change.after && one.change.settings == other.change.settings &&
           one.every_peer == other.every_peer && one.peers == other.peers;
}

// `/dir` itself for stat and list goes without saying beside what is below it.
std::vector<FoundChange> without_parts(std::vector<FoundChange> findings, const std::string& apart) {
    std::vector<FoundChange> kept;
    std::ranges::stable_sort(findings, [](const FoundChange& one, const FoundChange& other) {
        return one.change.operations.size() > other.change.operations.size();
    });
    std::map<std::tuple<ChangeKind, std::uint32_t, std::uint32_t, std::uint8_t>, std::vector<std::size_t>>
        alike;
    for (FoundChange& one : findings) {
        auto& known = alike[{one.change.kind, one.change.before, one.change.after, one.change.settings}];
        const bool part = std::ranges::any_of(known, [&](std::size_t index) {
            return kept[index].change.operations.contains_all(one.change.operations) &&
                   same_but_for_operations(kept[index], one) && kept[index].path != apart &&
                   one.path != apart;
        });
        if (part) continue;
        known.push_back(kept.size());
        kept.push_back(std::move(one));
    }
    return kept;
}

std::string pattern_that_reaches(const Policy& policy, const Rule* rule, const Peer& peer,
                                 OperationSet operations, RequestPath path) {
    if (rule == nullptr) return {};
    // `ancestors: stat` comes last.
    const std::vector<RuleStep> steps = explain(policy, peer, operations, path).rules;
    const auto step = std::ranges::find(steps.rbegin(), steps.rend(), rule, &RuleStep::rule);
    return step == steps.rend() ? std::string() : step->pattern;
}

const Rule* rule_at(const Policy& policy, std::uint32_t index) {
    return index == no_rule ? nullptr : &policy.rules()[index];
}

// Both policies' own decisions must differ as the finding says; anything else is a bug of the search.
Difference checked(const PolicyPair& policies, FoundChange finding) {
    const auto path = RequestPath::parse(finding.path);
    if (!path) throw std::logic_error("policy diff: \"" + finding.path + "\" is no path");
    const Verdict before = verdict_of(*policies.before, finding.peer, *path);
    const Verdict after = verdict_of(*policies.after, finding.peer, *path);
    const auto found = changes(policies, finding.peer, before, after);
    const Change& change = finding.change;
    const bool real = std::ranges::any_of(found, [&](const Change& one) {
        return one.kind == change.kind && one.before == change.before && one.after == change.after &&
               one.settings == change.settings && one.operations == change.operations;
    });
    if (!real) throw std::logic_error("policy diff: the policies decide alike on \"" + finding.path + '"');

    Difference difference{.kind = change.kind,
                          .operations = change.operations,
                          .before = rule_at(*policies.before, change.before),
                          .after = rule_at(*policies.after, change.after),
                          .was_ancestor = before.is_ancestor(change.operations),
                          .is_ancestor = after.is_ancestor(change.operations),
                          .path = finding.path,
                          .peer = finding.peer,
                          .every_peer = finding.every_peer,
                          .peers = std::move(finding.peers)};
    difference.pattern_before =
        pattern_that_reaches(*policies.before, difference.before, policies.before->identify(finding.peer),
                             change.operations, *path);
    difference.pattern_after = pattern_that_reaches(
        *policies.after, difference.after, policies.after->identify(finding.peer), change.operations, *path);
    for (unsigned setting = 0; setting < setting_count; ++setting)
        if (change.kind == ChangeKind::settings && (change.settings >> setting & 1U) != 0)
            difference.settings.push_back(static_cast<Setting>(setting));
    return difference;
}

// Effects that depend on more than one path at a time.
std::vector<std::string> not_compared(const PolicyPair& policies) {
    bool parents = false;
    bool directories = false;
    for (const Side side : both_sides) {
        for (const Rule& rule : policies[side].rules()) {
            parents = parents || (rule.create.parents && rule.operations.intersects(creating_operations));
            directories =
                directories || (rule.rename_directories && rule.operations.contains(Operation::rename));
        }
    }
    std::vector<std::string> notes;
    if (parents)
        notes.emplace_back(
            "which missing directories \"create: parents\" makes where rules were divided or joined");
    if (directories) notes.emplace_back("between which places \"rename: directories\" lets directories move");
    return notes;
}

SearchResult search_all(const PolicyPair& policies, Peers& peers, const DiffOptions& options, Proof& proof) {
    const PatternTrie trie(policies, options.apart);
    const SearchOptions search_options{.max_states = options.max_states, .progress = options.progress};
    SearchResult result = search(policies, trie, peers, Variables::match_freely, {}, search_options);
    proof.states = result.states;
    const bool settled = !result.variables_met || (result.findings.empty() && result.all_paths);
    bool unnamed_alike = settled;
    if (!settled) {
        // Those whom roles name are tried one by one. For all others this holds whatever their variables are.
        const Binding unnamed = peers.unnamed();
        const SearchOptions of_unnamed{.max_states = options.max_states,
                                       .progress = options.progress,
                                       .only = &unnamed,
                                       .first_only = true};
        const SearchResult others = search(policies, trie, peers, Variables::match_freely, {}, of_unnamed);
        unnamed_alike = others.findings.empty() && others.all_paths && !result.groups_met;
        const Bindings bindings = peers.bindings(result.values, result.groups_met);
        unnamed_alike = unnamed_alike && bindings.complete;
        result = search(policies, trie, peers, Variables::are_bound, bindings.list, search_options);
        proof.states += result.states;
        proof.values_tried = bindings.list.size();
    }
    proof.all_paths = result.all_paths;
    proof.all_peers = result.all_peers && unnamed_alike;
    return result;
}

}  // namespace

PolicyDiff diff(const Policy& before, const Policy& after, const Accounts& accounts,
                const DiffOptions& options) {
    const PolicyPair policies{&before, &after};
    Peers peers(policies, accounts);
    PolicyDiff found{.values = value_differences(before, after)};
    SearchResult result = search_all(policies, peers, options, found.proof);
    if (!result.all_paths) found.proof.sampled = Samples(policies, peers, result).try_all();
    for (FoundChange& finding : without_parts(std::move(result.findings), options.apart))
        found.differences.push_back(checked(policies, std::move(finding)));
    std::ranges::stable_sort(found.differences, [](const Difference& one, const Difference& other) {
        return std::pair(one.kind, one.path.size()) < std::pair(other.kind, other.path.size());
    });
    found.proof.not_compared = not_compared(policies);
    return found;
}

}  // namespace fdbroker::policy
