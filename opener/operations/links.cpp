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

Stop loop(std::string reason) {
    return {Step::resolve, ELOOP, std::move(reason)};
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

bool met_a_link(const Stop& stop) {
    return stop.step == Step::resolve && stop.errno_value == ELOOP;
}

}  // namespace

std::unexpected<Stop> name_link(const FindLink& find, const policy::Grant& grant,
                                std::unexpected<Stop> stop) {
    if (!met_a_link(stop.error())) return stop;
    const auto link = find(grant);
    return link ? std::unexpected(loop(fmt::format("\"{}\" is a symbolic link", printable_path(link->path))))
                : stop;
}

Done<Answer> with_links(const LinkWalk& walk, policy::Grant grant, const FindLink& find,
                        const Attempted& attempt) {
    std::string text;  // storage that `grant` borrows, once a link has been followed
    for (unsigned followed = 0;; ++followed) {
        auto done = attempt(grant);
        if (done || !met_a_link(done.error())) {
            LedTo& led_to = done ? done->led_to : done.error().led_to;
            if (followed != 0) led_to = LedTo{std::move(text), &grant.rule()};
            return done;
        }
        const auto link = find(grant);
        if (!link) return done;
        if (link->magic)
            return std::unexpected(
                loop(fmt::format("\"{}\" is a magic link of procfs", printable_path(link->path))));
        const bool is_last = link->path.size() == grant.path().text().size();
        if ((is_last && walk.last == LastLink::keep) || !follows(grant))
            return std::unexpected(
                loop(fmt::format("\"{}\" is a symbolic link", printable_path(link->path))));
        if (!walk.execution.may_block()) return not_here();
        if (followed == max_links) return std::unexpected(loop("more than 40 symbolic links are on the way"));

        text = rewritten(grant.path().text(), *link);
        const auto path = policy::RequestPath::parse(text);
        if (!path)
            return std::unexpected(
                loop(fmt::format("\"{}\" is a symbolic link, where it leads {}", printable_path(link->path),
                                 policy::to_string(path.error()))));
        const policy::Decision decision = walk.policy.decide(walk.peer, grant.operations(), *path);
        if (!decision)
            // Where it leads is told to those who may see it: the link can be read by whoever lists the directory, what
            // lies behind it is not looked at.
            return std::unexpected(
                Stop{Step::decide,
                     decision.error().errno_value,
                     fmt::format("\"{}\" is a symbolic link that leads to what no rule allows",
                                 printable_path(link->path)),
                     {std::move(text), decision.error().denied_by}});
        grant = *decision;
    }
}

Done<Answer> with_links(const OperationContext& context, LastLink last, const Attempted& attempt) {
    const auto find = [&context](const policy::Grant& grant) {
        return context.services.resolver.find_link(grant, context.execution);
    };
    return with_links(LinkWalk{context.services.policy, context.peer, context.execution, last},
                      context.granted.grant, find, attempt);
}

}  // namespace fdbroker::opener
