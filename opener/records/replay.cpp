// SPDX-License-Identifier: MIT
#include "opener/records/replay.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "policy/explain/explain.hpp"

namespace fdbroker::records {

using policy::Peer;

namespace {

template <typename Value>
std::optional<Value> if_told(const Value& value, bool told) {
    return told ? std::optional<Value>(value) : std::nullopt;
}

policy::KnownPeer known_of(const RecordedPeer& peer) {
    return {.uid = peer.uid,
            .gid = peer.gid,
            .groups = peer.groups,
            .user = peer.user,
            .group = peer.group,
            .listener = if_told(peer.listener, !peer.listener.empty())};
}

std::string name_of(const RecordedPeer& peer) {
    if (peer.user && !peer.user->empty()) return *peer.user;
    return peer.uid ? fmt::format("uid {}", *peer.uid) : "unknown";
}

std::string words_of(const Record& record) {
    std::string operations = policy::to_text(record.operations);
    return operations == record.call || record.call.empty() ? operations
                                                            : fmt::format("{} {}", record.call, operations);
}

std::string words_of(std::string_view rule, bool allowed, std::string_view place) {
    if (rule.empty()) return "no rule allows it";
    std::string text = fmt::format("rule \"{}\" {} it", rule, allowed ? "allows" : "denies");
    if (!place.empty()) text += fmt::format(" ({})", place);
    return text;
}

}  // namespace

// ---- one decision --------------------------------------------------------------------------------------

policy::Ruling Replay::decide(const Record& record, const Peer& peer) {
    if (record.unknown_operation) return {.basis = policy::Ruling::Basis::undecided};
    return judgement_.rule(policy_, peer,
                           {.operations = record.operations,
                            .path = record.path,
                            .final_path = record.final_path,
                            .new_path = record.new_path,
                            .renames = record.call == "rename"});
}

// ---- all of them ---------------------------------------------------------------------------------------

const Replay::Peers& Replay::peers_of(const RecordedPeer& peer) {
    const auto found = peers_.find(peer.id);
    if (found != peers_.end()) return found->second;
    // As many as the parser remembers: ids do not come again.
    if (peers_.size() >= RecordParser::max_peers) peers_.clear();
    return peers_.emplace(peer.id, policy::possible_peers(policy_, known_of(peer))).first->second;
}

void Replay::add(const Record& record) {
    ++totals_.records;
    if (!record.is_request()) {
        ++totals_.events;
        return;
    }
    if (!record.is_decided()) {
        ++totals_.undecided;
        return;
    }
    static const RecordedPeer nobody{};
    const Peers& peers = peers_of(record.peer != nullptr ? *record.peer : nobody);
    if (!peers) {
        ++totals_.unknown[static_cast<std::size_t>(peers.error())];
        return;
    }
    const policy::Ruling ruling = decide(record, peers->front());
    if (ruling.basis == policy::Ruling::Basis::undecided) {
        ++totals_.without_path;
        return;
    }
    for (std::size_t i = 1; i < peers->size(); ++i)
        if (decide(record, (*peers)[i]).allowed != ruling.allowed) {
            ++totals_.unknown[static_cast<std::size_t>(policy::UnknownFact::groups)];
            return;
        }
    ++totals_.decisions;
    totals_.requests += record.count;
    if (record.count > 1) ++totals_.collapsed;
    if (ruling.allowed == record.is_refused_by_policy()) note_flip(record, ruling);
}

// ---- flips ---------------------------------------------------------------------------------------------

FlipGroup* Replay::group_of(const Record& record, const policy::Ruling& ruling) {
    const std::string_view after_name = ruling.rule != nullptr ? std::string_view(ruling.rule->name) : "";
    std::string key = fmt::format("{}\n{}\n{}\n{}", ruling.allowed ? '+' : '-', record.rule, after_name,
                                  static_cast<unsigned>(ruling.basis));
    const auto found = groups_.find(key);
    if (found != groups_.end()) return &found->second;
    if (groups_.size() >= max_flip_groups) return nullptr;
    FlipGroup group{.flip = ruling.allowed ? Flip::would_be_allowed : Flip::would_be_refused,
                    .before = words_of(record.rule, !ruling.allowed, record.at),
                    .after = policy::to_text(ruling),
                    .rule_before = std::string(record.rule),
                    .rule_after = std::string(after_name)};
    return &groups_.emplace(std::move(key), std::move(group)).first->second;
}

void Replay::note_flip(const Record& record, const policy::Ruling& ruling) {
    ++totals_.flips;
    totals_.flipped_requests += record.count;
    FlipGroup* const group = group_of(record, ruling);
    if (group == nullptr) {
        ++totals_.other_groups;
        return;
    }
    ++group->records;
    group->requests += record.count;
    const std::string path = record.new_path.empty() ? std::string(record.path)
                                                     : fmt::format("{} to {}", record.path, record.new_path);
    std::string operations = words_of(record);
    auto found = group->paths.find({path, operations});
    if (found == group->paths.end()) {
        if (group->paths.size() >= max_flip_paths) {
            ++group->other_paths;
            return;
        }
        found = group->paths.emplace(std::pair(path, operations), FlippedPath{}).first;
        found->second.operations = std::move(operations);
        found->second.first = fmt::format("{}:{}", record.file, record.line);
    }
    FlippedPath& flipped = found->second;
    ++flipped.records;
    flipped.requests += record.count;
    if (record.peer == nullptr) return;
    const std::string user = name_of(*record.peer);
    if (flipped.users.contains(user)) return;
    if (flipped.users.size() < max_flip_users)
        flipped.users.insert(user);
    else
        ++flipped.more_users;
}

std::vector<const FlipGroup*> Replay::groups() const {
    std::vector<const FlipGroup*> groups;
    for (const auto& [key, group] : groups_) groups.push_back(&group);
    std::ranges::stable_sort(groups, [](const FlipGroup* left, const FlipGroup* right) {
        if (left->flip != right->flip) return left->flip > right->flip;
        return left->requests > right->requests;
    });
    return groups;
}

}  // namespace fdbroker::records
