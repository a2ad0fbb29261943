// SPDX-License-Identifier: MIT
#include "opener/request/decide.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "policy/matching/request_path.hpp"
#include "proto/payload.hpp"

namespace fdbroker::opener {

using policy::Operation;
using policy::OperationSet;
using proto::Call;
using proto::Step;

namespace {

// "read+write"
std::string names_of(OperationSet operations) {
    std::string names;
    for (unsigned bit = 0; bit < policy::operation_count; ++bit) {
        const auto operation = static_cast<Operation>(bit);
        if (!operations.contains(operation)) continue;
        if (!names.empty()) names += '+';
        names += policy::to_string(operation);
    }
    return names;
}

Outcome refused_by_policy(const policy::Refusal& refusal, OperationSet requested) {
    Outcome outcome =
        refused(Step::decide, refusal.errno_value,
                refusal.denied_by != nullptr ? fmt::format("rule \"{}\" denies it", refusal.denied_by->name)
                                             : "no rule allows " + names_of(refusal.operations));
    outcome.operations = requested;
    outcome.rule = refusal.denied_by;
    if (refusal.errno_value == ENOENT) {
        // `reveal: ENOENT`: the peer must see what it sees where there is no file.
        tell_instead(outcome, Step::resolve, explain_open_failure(ENOENT));
    }
    return outcome;
}

struct CallFlags {
    proto::Call call;
    OperationSet operations;
    std::uint32_t flags;  // those that the call takes
};

// As to open a file for writing that is created where it is missing and truncated where it is there.
constexpr OperationSet putting{Operation::write, Operation::create, Operation::truncate};

// PROTOCOL.md, "Calls". open has its own flags, rename its own decision.
constexpr CallFlags calls[] = {
    {Call::stat, {Operation::stat}, AT_SYMLINK_NOFOLLOW},
    {Call::list, {Operation::list}, 0},
    {Call::readlink, {Operation::readlink}, 0},
    {Call::mkdir, {Operation::mkdir}, 0},
    {Call::remove, {Operation::remove}, AT_REMOVEDIR},
    {Call::symlink, {Operation::symlink}, 0},
    {Call::setattr, {Operation::setattr}, proto::setattr_mode | proto::setattr_times},
    {Call::xattr_read, {Operation::xattr}, 0},
    {Call::xattr_list, {Operation::xattr}, 0},
    {Call::xattr_write, {Operation::xattr, Operation::setattr}, XATTR_CREATE | XATTR_REPLACE},
    {Call::xattr_remove, {Operation::xattr, Operation::setattr}, 0},
    {Call::put, putting, 0},
    {Call::commit, putting, RENAME_NOREPLACE},
    {Call::discard, putting, 0},
};

constexpr std::uint32_t mode_bits = 07777;
constexpr std::uint32_t set_id_bits = 06000;

bool is_time(const proto::Timestamp& time) {
    return time.nanoseconds < 1'000'000'000 || time.nanoseconds == UTIME_NOW ||
           time.nanoseconds == UTIME_OMIT;
}

// nullptr: as PROTOCOL.md has them.
const char* fault_of_attributes(const proto::Request& request) {
    const bool mode = (request.flags & proto::setattr_mode) != 0;
    const bool times = (request.flags & proto::setattr_times) != 0;
    if (!mode && !times) return "neither mode nor times";
    if (!mode && request.mode != 0) return "a mode that is not to be set";
    if ((request.mode & set_id_bits) != 0) return "a mode with set-id bits";
    if ((request.mode & ~mode_bits) != 0) return "a mode of more than four octal digits";
    const auto given = proto::read_times(request.payload);
    if (times != given.has_value()) return "times that do not go with the flags";
    if (given && (!is_time(given->access) || !is_time(given->modification)))
        return "a time outside its range";
    return nullptr;
}

const char* fault_of(const proto::Request& request, const CallFlags& known) {
    if ((request.flags & ~known.flags) != 0) return "a flag that the call does not take";
    switch (request.call) {
        case Call::setattr:
            return fault_of_attributes(request);
        case Call::mkdir:
        case Call::put:
            return nullptr;
        case Call::symlink:
            // By its last NUL: what comes behind an earlier one the kernel would not see.
            if (proto::read_text(request.payload).find('\0') != std::string_view::npos)
                return "a NUL in the link's target";
            break;
        case Call::xattr_read:
        case Call::xattr_write:
        case Call::xattr_remove:
            if (!request.payload.starts_with(attribute_namespace))
                return "an attribute that is not of the namespace user";
            break;
        default:
            break;
    }
    return request.mode != 0 ? "a mode for a call that takes none" : nullptr;
}

std::unexpected<Outcome> malformed(std::string_view why) {
    return std::unexpected(refused(Step::parse, EINVAL, why));
}

std::expected<GrantedRequest, Outcome> granted(const RequestServices& tools, const policy::Peer& peer,
                                               const proto::Request& request, OpenFlags flags,
                                               OperationSet operations, policy::RequestPath path) {
    tools.metrics.done(Step::parse);
    const policy::Decision decision = tools.policy.decide(peer, operations, path);
    tools.metrics.done(Step::decide);
    if (!decision) return std::unexpected(refused_by_policy(decision.error(), operations));
    return GrantedRequest{request, flags, *decision};
}

std::expected<GrantedRequest, Outcome> granted_rename(const RequestServices& tools, const policy::Peer& peer,
                                                      const proto::Request& request,
                                                      policy::RequestPath from) {
    if ((request.flags & ~std::uint32_t{RENAME_NOREPLACE}) != 0 || request.mode != 0)
        return malformed("a flag or a mode that the call does not take");
    const auto to = policy::RequestPath::parse(proto::read_text(request.payload));
    if (!to) return malformed(fmt::format("the new name: {}", policy::to_string(to.error())));
    tools.metrics.done(Step::parse);
    auto decision = policy::decide_rename(tools.policy, peer, from, *to);
    tools.metrics.done(Step::decide);
    if (decision) {
        const policy::Grant grant = decision->from;
        return GrantedRequest{request, OpenFlags::parse(0).value(), grant, *decision};
    }
    const policy::RenameRefusal& refusal = decision.error();
    constexpr OperationSet renaming{Operation::rename};
    if (refusal.gains.empty()) return std::unexpected(refused_by_policy(refusal.refusal, renaming));
    Outcome outcome = refused(
        Step::decide, EACCES,
        fmt::format("the new name would allow {}, which the old one does not", names_of(refusal.gains)));
    outcome.operations = renaming;
    return std::unexpected(std::move(outcome));
}

}  // namespace

std::expected<GrantedRequest, Outcome> decide(const RequestServices& tools, const policy::Peer& peer,
                                              const proto::Request& request) {
    const auto path = policy::RequestPath::parse(request.path);
    if (!path) return malformed(policy::to_string(path.error()));
    if (request.call == Call::open) {
        const auto flags = OpenFlags::parse(request.flags);
        if (!flags) return malformed(to_string(flags.error()));
        return granted(tools, peer, request, *flags, flags->operations(), *path);
    }
    if (request.call == Call::rename) return granted_rename(tools, peer, request, *path);
    const auto* const known = std::ranges::find(calls, request.call, &CallFlags::call);
    if (known == std::end(calls))
        return std::unexpected(refused(Step::parse, EOPNOTSUPP, "a call that is not served"));
    if (const char* fault = fault_of(request, *known)) return malformed(fault);
    return granted(tools, peer, request, OpenFlags::parse(0).value(), known->operations, *path);
}

}  // namespace fdbroker::opener
