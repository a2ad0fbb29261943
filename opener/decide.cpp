#include "opener/decide.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "policy/request_path.hpp"

namespace fdbroker::opener {

using policy::OperationSet;
using proto::Step;

namespace {

std::string_view explain(const policy::Refusal& refusal, ReasonBuffer& buffer) {
    std::size_t length = 0;
    if (refusal.denied_by != nullptr) {
        length =
            fmt::format_to_n(buffer.data(), buffer.size(), "rule \"{}\" denies it", refusal.denied_by->name)
                .size;
    } else {
        auto* end = fmt::format_to_n(buffer.data(), buffer.size(), "no rule allows ").out;
        for (unsigned bit = 0; bit < policy::operation_count; ++bit) {
            const auto operation = static_cast<policy::Operation>(bit);
            if (!refusal.operations.contains(operation)) continue;
            const auto left = static_cast<std::size_t>(buffer.data() + buffer.size() - end);
            end = fmt::format_to_n(end, left, "{}{}", end[-1] == ' ' ? "" : "+", policy::to_string(operation))
                      .out;
        }
        length = static_cast<std::size_t>(end - buffer.data());
    }
    return {buffer.data(), std::min(length, buffer.size())};
}

Outcome refused_by_policy(const policy::Refusal& refusal, OperationSet requested, ReasonBuffer& reason) {
    Outcome outcome = refused(Step::decide, refusal.errno_value, explain(refusal, reason));
    outcome.operations = requested;
    outcome.rule = refusal.denied_by;
    if (refusal.errno_value == ENOENT) {
        // `reveal: ENOENT`: the peer must see what it sees where there is no file.
        outcome.step = Step::resolve;
        outcome.reason = explain_open_failure(ENOENT);
    }
    return outcome;
}

}  // namespace

std::expected<GrantedRequest, Outcome> decide(const Tools& tools, const policy::Peer& peer,
                                              const proto::Request& request, ReasonBuffer& reason) {
    const auto path = policy::RequestPath::parse(request.path);
    if (!path) return std::unexpected(refused(Step::parse, EINVAL, policy::to_string(path.error())));
    if (request.call != proto::Call::open)
        return std::unexpected(refused(Step::parse, EOPNOTSUPP, "this version serves open alone"));
    const auto flags = OpenFlags::parse(request.flags);
    if (!flags) return std::unexpected(refused(Step::parse, EINVAL, to_string(flags.error())));

    tools.metrics.done(Step::parse);
    const policy::Decision decision = tools.policy.decide(peer, flags->operations(), *path);
    tools.metrics.done(Step::decide);
    if (!decision) return std::unexpected(refused_by_policy(decision.error(), flags->operations(), reason));
    return GrantedRequest{request, *flags, *decision};
}

}  // namespace fdbroker::opener
