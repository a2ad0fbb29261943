// SPDX-License-Identifier: MIT
#include "opener/operations/links.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "policy/matching/request_path.hpp"
#include "proto/printable.hpp"

namespace fdbroker::opener {

using proto::Step;

namespace {

bool follows(const policy::Grant& grant) {
    return std::ranges::all_of(
        grant.rules(), [](const policy::Rule* rule) { return rule->symlinks == policy::Symlinks::follow; });
}

// A reason is text for records and terminals, whatever bytes a name is made of.
std::string printable_path(std::string_view path) {
    return proto::printable(path, proto::LineFeeds::escaped);
}

Outcome loop(std::string reason) {
    return refused(Step::resolve, ELOOP, std::move(reason));
}

Outcome loop_at(const FoundLink& link) {
    return loop(fmt::format("\"{}\" is a symbolic link", printable_path(link.path)));
}

// The path that `path` becomes when the link on its way is replaced by the link's text. Nothing in front of the link is a
// link, so `..` may be taken from the text. A `..` behind a name of the target takes that name away whatever it is.
std::string rewritten(std::string_view path, const FoundLink& link) {
    const std::filesystem::path directory = std::filesystem::path(link.path).parent_path();
    std::string whole = (directory / link.target).string();
    whole += path.substr(link.path.size());
    std::string text = std::filesystem::path(whole).lexically_normal().string();
    if (text.size() > 1 && text.back() == '/') text.pop_back();
    return text;
}

bool met_a_link(const Obstacle& obstacle) {
    return obstacle.step == Step::resolve && obstacle.errno_value == ELOOP;
}

// The link's target, which the policy refuses. Where it leads is told to those who may see it: the link can be read by
// whoever lists the directory, what lies behind it is not looked at.
Outcome refused_target(const FoundLink& link, const policy::Refusal& refusal, std::string target) {
    Outcome outcome = refused(Step::decide, refusal.errno_value,
                              fmt::format("\"{}\" is a symbolic link that leads to what no rule allows",
                                          printable_path(link.path)));
    // As where the name that was asked for is told not to exist.
    if (refusal.errno_value == ENOENT) tell_instead(outcome, Step::resolve, explain_open_failure(ENOENT));
    outcome.final_path = std::move(target);
    outcome.rule = refusal.denied_by;
    return outcome;
}

}  // namespace

Outcome name_link(const FindLink& find, const policy::Grant& grant, const Obstacle& obstacle) {
    const auto link = met_a_link(obstacle) ? find(grant) : std::nullopt;
    return link ? loop_at(*link) : refused(obstacle);
}

Outcome with_links(const LinkWalk& walk, policy::Grant grant, const FindLink& find,
                   const Attempted& attempt) {
    std::string text;  // storage that `grant` borrows, once a link has been followed
    for (unsigned followed = 0;; ++followed) {
        auto attempted = attempt(grant);
        if (attempted || !met_a_link(attempted.error())) {
            if (followed == 0) return outcome_of(std::move(attempted));
            Outcome outcome = outcome_of(std::move(attempted));
            outcome.rule = &grant.rule();
            outcome.final_path = std::move(text);
            return outcome;
        }
        const auto link = find(grant);
        if (!link) return outcome_of(std::move(attempted));
        if (link->magic)
            return loop(fmt::format("\"{}\" is a magic link of procfs", printable_path(link->path)));
        const bool is_last = link->path.size() == grant.path().text().size();
        if ((is_last && walk.last == LastLink::keep) || !follows(grant)) return loop_at(*link);
        if (!walk.execution.may_block()) return refused(only_in_a_helper);
        if (followed == max_links) return loop("more than 40 symbolic links are on the way");

        text = rewritten(grant.path().text(), *link);
        const auto path = policy::RequestPath::parse(text);
        if (!path)
            return loop(fmt::format("\"{}\" is a symbolic link, where it leads {}",
                                    printable_path(link->path), policy::to_string(path.error())));
        const policy::Decision decision = walk.policy.decide(walk.peer, grant.operations(), *path);
        if (!decision) return refused_target(*link, decision.error(), std::move(text));
        grant = *decision;
    }
}

Outcome with_links(const OperationContext& context, LastLink last, const Attempted& attempt) {
    const auto find = [&context](const policy::Grant& grant) {
        return context.services.resolver.find_link(grant, context.execution);
    };
    return with_links(LinkWalk{context.services.policy, context.peer, context.execution, last},
                      context.granted.grant, find, attempt);
}

}  // namespace fdbroker::opener
