// SPDX-License-Identifier: MIT
#include "opener/request/decide.hpp"

#include <fmt/format.h>

#include <cerrno>

#include "opener/request/call_table.hpp"
#include "policy/matching/request_path.hpp"
#include "proto/payload.hpp"

namespace fdbroker::opener {

using policy::Operation;
using policy::OperationSet;
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

// nullptr: as PROTOCOL.md, "Calls", has it.
const char* fault_of(const proto::Request& request, const CallRow& row) {
    if ((request.flags & ~row.flags) != 0) return "a flag that the call does not take";
    if (row.find_fault != nullptr)
        if (const char* fault = row.find_fault(request)) return fault;
    if (row.mode == Mode::none && request.mode != 0) return "a mode for a call that takes none";
    return nullptr;
}

std::unexpected<Outcome> malformed(std::string_view why) {
    return std::unexpected(refused(Step::parse, EINVAL, why));
}

// For the operations, or for `otherwise` where that is more: to be told that a path leads somewhere does not count.
policy::Decision decide_either(const policy::Policy& policy, const policy::Peer& peer,
                               OperationSet operations, OperationSet otherwise, policy::RequestPath path) {
    policy::Decision decision = policy.decide(peer, operations, path);
    if (otherwise.empty() || (decision && !decision->is_ancestor())) return decision;
    policy::Decision other = policy.decide(peer, otherwise, path);
    return other ? other : decision;
}

std::expected<GrantedRequest, Outcome> granted(const RequestServices& services, const policy::Peer& peer,
                                               const proto::Request& request, OpenFlags flags,
                                               OperationSet operations, policy::RequestPath path) {
    services.metrics.done(Step::parse);
    const policy::Decision decision =
        decide_either(services.policy, peer, operations, row_of(request.call).otherwise, path);
    services.metrics.done(Step::decide);
    if (!decision) return std::unexpected(refused_by_policy(decision.error(), operations));
    return GrantedRequest{request, flags, *decision};
}

std::expected<GrantedRequest, Outcome> granted_rename(const RequestServices& services,
                                                      const policy::Peer& peer, const proto::Request& request,
                                                      OperationSet operations, policy::RequestPath from) {
    const auto to = policy::RequestPath::parse(proto::read_text(request.payload));
    if (!to) return malformed(fmt::format("the new name: {}", policy::to_string(to.error())));
    services.metrics.done(Step::parse);
    auto decision = policy::decide_rename(services.policy, peer, from, *to);
    services.metrics.done(Step::decide);
    if (decision) {
        const policy::Grant grant = decision->from;
        return GrantedRequest{request, OpenFlags::parse(0).value(), grant, *decision};
    }
    const policy::RenameRefusal& refusal = decision.error();
    if (refusal.gains.empty()) return std::unexpected(refused_by_policy(refusal.refusal, operations));
    Outcome outcome = refused(
        Step::decide, EACCES,
        fmt::format("the new name would allow {}, which the old one does not", names_of(refusal.gains)));
    outcome.operations = operations;
    return std::unexpected(std::move(outcome));
}

}  // namespace

std::expected<GrantedRequest, Outcome> decide(const RequestServices& services, const policy::Peer& peer,
                                              const proto::Request& request) {
    const auto path = policy::RequestPath::parse(request.path);
    if (!path) return malformed(policy::to_string(path.error()));
    const CallRow& row = row_of(request.call);
    if (row.asks == Asks::open_flags) {
        const auto flags = OpenFlags::parse(request.flags);
        if (!flags) return malformed(to_string(flags.error()));
        return granted(services, peer, request, *flags, flags->operations(), *path);
    }
    if (const char* fault = fault_of(request, row)) return malformed(fault);
    if (row.asks == Asks::two_names) return granted_rename(services, peer, request, row.operations, *path);
    return granted(services, peer, request, OpenFlags::parse(0).value(), row.operations, *path);
}

}  // namespace fdbroker::opener
