// SPDX-License-Identifier: MIT
#include "opener/request/shadow.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace fdbroker::opener {

std::optional<policy::Ruling> Shadow::compare(const policy::Peer& peer, const Made& made) {
    const policy::Ruling ruling = judgement_.rule(candidate_.policy, peer, made.request);
    if (ruling.basis == policy::Ruling::Basis::undecided) return std::nullopt;
    ++counts_.decisions;
    if (ruling.allowed == made.granted) return std::nullopt;
    count(made, ruling);
    return ruling;
}

void Shadow::count(const Made& made, const policy::Ruling& ruling) {
    ++(ruling.allowed ? counts_.would_be_allowed : counts_.would_be_refused);
    last_difference_ = std::chrono::system_clock::now();
    const std::string_view before =
        made.rule != nullptr ? std::string_view(made.rule->name) : std::string_view();
    // Rules of both policies live longer than this.
    const Key key{made.granted, before, ruling.rule, ruling.basis};
    auto found = groups_.find(key);
    if (found == groups_.end()) {
        if (groups_.size() >= max_groups) {
            ++other_groups_;
            return;
        }
        found =
            groups_
                .emplace(key, Group{.granted = made.granted, .before = std::string(before), .after = ruling})
                .first;
    }
    Group& group = found->second;
    ++group.requests;
    std::string path(made.request.path);
    if (!made.request.new_path.empty()) path.append(" to ").append(made.request.new_path);
    const auto known = group.paths.find(path);
    if (known != group.paths.end()) {
        ++known->second.requests;
    } else if (group.paths.size() < max_paths) {
        group.paths.emplace(std::move(path), Path{.requests = 1, .user = std::string(made.user)});
    } else {
        ++group.other_paths;
    }
}

std::vector<const Shadow::Group*> Shadow::groups() const {
    std::vector<const Group*> all;
    for (const auto& [key, group] : groups_) all.push_back(&group);
    std::ranges::stable_sort(all, std::ranges::greater(), &Group::requests);
    return all;
}

std::string shadow_cause(const Shadow::Made& made, const policy::Ruling& ruling) {
    const std::string before =
        made.rule != nullptr ? fmt::format("rule \"{}\"", made.rule->name) : std::string("no rule");
    return made.granted ? fmt::format("would be refused: {}; {} granted it", policy::to_text(ruling), before)
                        : fmt::format("would be allowed: {}; {} refused it", policy::to_text(ruling),
                                      made.rule != nullptr ? before : std::string("the policy in force"));
}

}  // namespace fdbroker::opener
