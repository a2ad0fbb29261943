// SPDX-License-Identifier: MIT
#include <linux/capability.h>

#include <algorithm>
#include <map>

#include "opener/confinement/capability_names.hpp"
#include "opener/confinement/confinement.hpp"
#include "opener/confinement/paths.hpp"
#include "opener/confinement/widen.hpp"

namespace fdbroker::opener {

namespace {

using policy::Operation;
using policy::OperationSet;

// setattr is not among them: it asks who owns the file (CAP_FOWNER), not what its mode permits.
constexpr OperationSet needing_write_permission =
    policy::changing_operations - OperationSet{Operation::setattr};

struct Attributes {
    OperationSet operations{};
    bool devices = false;
    bool operator==(const Attributes&) const noexcept = default;
};

using AttributesByPath = std::map<std::string, Attributes, std::less<>>;

AttributesByPath collect(std::span<const policy::Directory> directories) {
    AttributesByPath collected;
    for (const policy::Directory& directory : directories) {
        Attributes& attributes = collected[directory.path];
        attributes.operations = attributes.operations | directory.operations;
        // Making a missing directory above a file takes the same rights as a mkdir.
        if (directory.makes_parents) attributes.operations.insert(Operation::mkdir);
        attributes.devices = attributes.devices || directory.devices;
    }
    return collected;
}

// The nearest directory of `directories` above `path`; null: none.
const Attributes* enclosing(const AttributesByPath& directories, std::string_view path) {
    while (path.size() > 1) {
        path = parent_of(path);
        if (const auto found = directories.find(path); found != directories.end()) return &found->second;
    }
    return nullptr;
}

PlannedDirectory planned(const std::string& path, const Attributes& attributes) {
    return {.path = path,
            .writable = attributes.operations.intersects(policy::changing_operations),
            .executable = attributes.operations.contains(Operation::execute),
            .devices = attributes.devices};
}

std::uint64_t capabilities_for(OperationSet operations, bool create_owners) noexcept {
    std::uint64_t capabilities = 0;
    if (operations.intersects(OperationSet::all() - policy::changing_operations) ||
        operations.contains(Operation::create)) {
        // create: linkat(2) of an O_TMPFILE by AT_EMPTY_PATH asks for it.
        capabilities |= capability_bit(CAP_DAC_READ_SEARCH);
    }
    if (operations.contains(Operation::setattr))
        capabilities |= capability_bit(CAP_DAC_READ_SEARCH) | capability_bit(CAP_FOWNER);
    if (operations.intersects(needing_write_permission)) capabilities |= capability_bit(CAP_DAC_OVERRIDE);
    // Others' files in sticky directories. A directory or link that is made is its owner's before it gets its name.
    if (operations.intersects({Operation::remove, Operation::rename, Operation::mkdir, Operation::symlink}))
        capabilities |= capability_bit(CAP_FOWNER);
    if (create_owners) capabilities |= capability_bit(CAP_CHOWN);
    return capabilities;
}

ModifyingCalls calls_for(OperationSet operations, bool create_owners, bool snapshots, bool streams) noexcept {
    // A made object has a temporary name at first, a removed one at last.
    constexpr OperationSet by_another_name{Operation::create, Operation::mkdir, Operation::symlink,
                                           Operation::remove};
    return {
        .truncate = operations.intersects({Operation::truncate, Operation::create}),
        .create = operations.contains(Operation::create),
        .give_away = create_owners,
        .set_attributes = operations.intersects({Operation::setattr, Operation::create, Operation::mkdir}),
        .make_directories = operations.contains(Operation::mkdir),
        // remove: for what was left unfinished in a directory.
        .list = operations.intersects({Operation::list, Operation::remove}),
        .snapshot = snapshots,
        .stream = streams,
        .remove = operations.intersects(by_another_name),
        .rename = operations.contains(Operation::rename) || operations.intersects(by_another_name),
        .symlink = operations.contains(Operation::symlink),
        .extended_attributes = operations.contains(Operation::xattr),
        .put = operations.contains_all({Operation::write, Operation::create, Operation::truncate}),
        .watch = operations.intersects({Operation::stat, Operation::read})};
}

}  // namespace

ConfinementPlan plan_confinement(std::span<const policy::Directory> directories,
                                 const BrokerAccount& account) {
    ConfinementPlan plan;
    plan.account = account;
    AttributesByPath attributes = collect(directories);
    OperationSet operations;
    // Ancestors come first in this order and are already complete.
    for (auto& [path, own] : attributes) {
        operations = operations | own.operations;
        plan.named.push_back({path, own.operations, own.devices});
        const Attributes* const around = enclosing(attributes, path);
        // A rule of the directory around it may reach in here, and what it allows must work.
        if (around != nullptr) {
            own.operations = own.operations | around->operations;
            own.devices = own.devices || around->devices;
        }
        const PlannedDirectory candidate = planned(path, own);
        if (around == nullptr || !candidate.same_attributes(planned(path, *around))) {
            plan.directories.push_back(candidate);
        }
    }
    const bool create_owners = std::ranges::any_of(directories, &policy::Directory::create_owners);
    const bool snapshots = std::ranges::any_of(directories, &policy::Directory::snapshots);
    const bool streams = std::ranges::any_of(directories, &policy::Directory::streams);
    if (account.changes) plan.capabilities = capabilities_for(operations, create_owners);
    // A lease on what is another's (fcntl(2), F_SETLEASE).
    if (account.changes && snapshots) plan.capabilities |= capability_bit(CAP_LEASE);
    plan.calls = calls_for(operations, create_owners, snapshots, streams);
    widen(plan);
    return plan;
}

}  // namespace fdbroker::opener
