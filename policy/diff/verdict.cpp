// SPDX-License-Identifier: MIT
#include "policy/diff/verdict.hpp"

#include <algorithm>
#include <cerrno>
#include <set>

namespace fdbroker::policy {
namespace {

constexpr OperationSet delivering{Operation::read, Operation::write, Operation::append, Operation::create};

constexpr std::uint8_t bit(Setting setting) noexcept {
    return static_cast<std::uint8_t>(1U << static_cast<unsigned>(setting));
}

bool same_creation(const Creation& one, const Creation& other, Operation operation,
                   const PeerIdentity& peer) {
    const bool same_mode = operation == Operation::symlink || one.mode == other.mode;
    return same_mode && one.owner.value_or(peer.uid) == other.owner.value_or(peer.uid) &&
           one.group.value_or(peer.gid) == other.group.value_or(peer.gid) && one.parents == other.parents;
}

// Empty: any owner.
std::set<std::uint32_t> owners_of(const FileConditions& files, const PeerIdentity& peer) {
    std::set<std::uint32_t> owners(files.owners.begin(), files.owners.end());
    if (files.peer_owns) owners.insert(peer.uid);
    return owners;
}

// The links that the opener holds a file to: 1 is what it does by itself where a rule lets write.
std::optional<std::uint64_t> links_of(const Rule& rule) {
    if (rule.files.max_links) return rule.files.max_links;
    return rule.operations.intersects(content_changing_operations) ? std::optional<std::uint64_t>(1)
                                                                   : std::nullopt;
}

bool same_files(const Rule& one, const Rule& other, Operation operation, const PeerIdentity& peer) {
    if (owners_of(one.files, peer) != owners_of(other.files, peer) ||
        one.files.same_mount != other.files.same_mount)
        return false;
    if (name_operations.contains(operation)) return true;
    const bool regular = one.files.allows(FileType::regular) || other.files.allows(FileType::regular);
    return one.files.types == other.files.types &&
           (!regular || (one.files.max_size == other.files.max_size && links_of(one) == links_of(other)));
}

int told(const Policy& policy, const Verdict& verdict, unsigned operation) {
    if (verdict.allows(operation)) return 0;
    const std::uint32_t rule = verdict.denied_by[operation];
    return rule != no_rule && policy.rules()[rule].reveal == Reveal::enoent ? ENOENT : EACCES;
}

// The errno that a request for both operations is told; 0: it is allowed.
int told(const Policy& policy, const Verdict& verdict, unsigned one, unsigned other) {
    const bool first = verdict.denied_by[one] <= verdict.denied_by[other];
    const unsigned leading = first ? one : other;
    if (verdict.denied_by[leading] != no_rule) return told(policy, verdict, leading);
    return verdict.allows(one) && verdict.allows(other) ? 0 : EACCES;
}

// Which settings of the rules differ for the operation, bit per Setting.
std::uint8_t different(const Rule& before, const Rule& after, Operation operation, const PeerIdentity& peer) {
    std::uint8_t settings = 0;
    const auto note = [&](Setting setting, bool differs) {
        if (differs) settings = static_cast<std::uint8_t>(settings | bit(setting));
    };
    note(Setting::create, creating_operations.contains(operation) &&
                              !same_creation(before.create, after.create, operation, peer));
    note(Setting::deliver, delivering.contains(operation) && before.delivery != after.delivery);
    note(Setting::files, !same_files(before, after, operation, peer));
    note(Setting::symlinks, before.symlinks != after.symlinks);
    note(Setting::deadline, before.deadline != after.deadline);
    note(Setting::rename,
         operation == Operation::rename && before.rename_directories != after.rename_directories);
    return settings;
}

class Comparison {
  public:
    Comparison(const PolicyPair& policies, const Verdict& before, const Verdict& after)
        : policies_(policies), before_(before), after_(after) {}

    void note(ChangeKind kind, unsigned operation, std::uint8_t settings = 0) {
        note(kind, OperationSet{static_cast<Operation>(operation)}, before_.rule(operation),
             after_.rule(operation), settings);
    }
    void note_ruling(ChangeKind kind, unsigned operation) {
        const OperationSet only{static_cast<Operation>(operation)};
        const bool ancestor = before_.is_ancestor(only) || after_.is_ancestor(only);
        note(kind, operation, ancestor ? bit(Setting::ancestors) : std::uint8_t{0});
    }
    void note_pair(unsigned one, unsigned other) {
        const auto leading = [&](const Verdict& verdict) {
            return std::min(verdict.denied_by[one], verdict.denied_by[other]);
        };
        note(ChangeKind::reveal, {static_cast<Operation>(one), static_cast<Operation>(other)},
             leading(before_), leading(after_), 0);
    }
    bool pair_differs(unsigned one, unsigned other) const {
        return told(*policies_.before, before_, one, other) != told(*policies_.after, after_, one, other);
    }
    std::uint8_t different_settings(unsigned operation, const PeerIdentity& peer) const {
        const bool was_ancestor = before_.is_ancestor({static_cast<Operation>(operation)});
        const bool is_ancestor = after_.is_ancestor({static_cast<Operation>(operation)});
        // No other setting counts for a directory that only says it is one.
        if (was_ancestor != is_ancestor) return bit(Setting::ancestors);
        if (is_ancestor) return 0;
        return different(policies_.before->rules()[before_.rule(operation)],
                         policies_.after->rules()[after_.rule(operation)], static_cast<Operation>(operation),
                         peer);
    }
    std::vector<Change> take() && { return std::move(found_); }

  private:
    void note(ChangeKind kind, OperationSet operations, std::uint32_t before, std::uint32_t after,
              std::uint8_t settings) {
        const auto alike = [&](const Change& one) {
            return one.kind == kind && one.before == before && one.after == after && one.settings == settings;
        };
        if (const auto known = std::ranges::find_if(found_, alike); known != found_.end()) {
            known->operations = known->operations | operations;
        } else {
            found_.push_back({kind, before, after, settings, operations});
        }
    }

    const PolicyPair& policies_;
    const Verdict& before_;
    const Verdict& after_;
    std::vector<Change> found_{};
};

}  // namespace

std::string_view to_string(Setting setting) noexcept {
    static constexpr std::array<std::string_view, setting_count> words{
        "create", "deliver", "files", "symlinks", "deadline", "rename", "ancestors"};
    return words[static_cast<std::size_t>(setting)];
}

Verdict::Verdict() noexcept {
    denied_by.fill(no_rule);
    allowed_by.fill(no_rule);
}

void Verdict::note(std::uint32_t rule, bool allows, OperationSet operations) noexcept {
    auto& decided_by = allows ? allowed_by : denied_by;
    for (unsigned bits = operations.bits(); bits != 0; bits &= bits - 1) {
        std::uint32_t& first = decided_by[static_cast<std::size_t>(std::countr_zero(bits))];
        first = std::min(first, rule);
    }
}

void Verdict::note_ancestor(std::uint32_t rule) noexcept {
    leads_by = std::min(leads_by, rule);
}

std::uint32_t Verdict::rule(unsigned operation) const noexcept {
    if (denied_by[operation] != no_rule) return denied_by[operation];
    return is_ancestor({static_cast<Operation>(operation)}) ? leads_by : allowed_by[operation];
}

bool Verdict::allows(unsigned operation) const noexcept {
    return denied_by[operation] == no_rule && rule(operation) != no_rule;
}

bool Verdict::is_ancestor(OperationSet operations) const noexcept {
    constexpr auto stat = static_cast<unsigned>(Operation::stat);
    return operations == OperationSet{Operation::stat} && leads_by != no_rule && denied_by[stat] == no_rule &&
           allowed_by[stat] == no_rule;
}

std::vector<Change> changes(const PolicyPair& policies, const PeerIdentity& peer, const Verdict& before,
                            const Verdict& after) {
    Comparison comparison(policies, before, after);
    bool refusals_differ = false;
    for (unsigned operation = 0; operation < operation_count; ++operation) {
        const bool was = before.allows(operation);
        const bool is = after.allows(operation);
        if (was != is) {
            comparison.note_ruling(is ? ChangeKind::gained : ChangeKind::lost, operation);
        } else if (is) {
            const std::uint8_t settings = comparison.different_settings(operation, peer);
            if (settings != 0) comparison.note(ChangeKind::settings, operation, settings);
        } else if (told(*policies.before, before, operation) != told(*policies.after, after, operation)) {
            comparison.note(ChangeKind::reveal, operation);
            refusals_differ = true;
        }
    }
    // A request for several operations is told what the first of the rules says that deny one of them. Pairs suffice: it
    // is ENOENT when one that reveals it comes before all that do not.
    if (refusals_differ) return std::move(comparison).take();
    for (unsigned one = 0; one < operation_count; ++one)
        for (unsigned other = one + 1; other < operation_count; ++other)
            if (!before.allows(one) && !before.allows(other) && !after.allows(one) && !after.allows(other) &&
                comparison.pair_differs(one, other))
                comparison.note_pair(one, other);
    return std::move(comparison).take();
}

}  // namespace fdbroker::policy
