// SPDX-License-Identifier: MIT
// What users share: who gives way to others, and who is slowed.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <unordered_map>

#include "opener/base/log_stderr.hpp"
#include "opener/broker/broker.hpp"
#include "opener/quota/user_quota.hpp"

namespace fdbroker::opener {

// Every session being served needs an in-flight entry; a session with parked replies keeps one. When all entries are taken,
// a peer that does not read has to go: the peer of that user that waits longest.
void Broker::make_room_for_waiting() {
    // More than one, where answers of helpers have joined those that wait.
    while (waiting_.size() >= InflightLog::max_parked) {
        // The user who has the most of them is chosen: else a user's peers could drive out another's.
        std::unordered_map<const UserQuota*, std::size_t> of_user;
        for (const Session* session : waiting_) ++of_user[&session->quota()];
        Session& longest = **std::ranges::max_element(
            waiting_, {}, [&](const Session* session) { return of_user[&session->quota()]; });
        longest.end(ETIMEDOUT, "the peer does not read its replies, and others need their place");
        end_session(longest);
    }
}

// The user who has most connections loses the one that has been silent for longest; one that helpers work for comes last.
void Broker::make_room_for_newcomer() {
    const auto rank = [this](const Session& session) {
        const bool is_at_work = session.tasks() != 0 || service_.helpers.works_for(session.connection_id());
        return std::tuple(session.quota().sessions, !is_at_work, -session.last_used().time_since_epoch());
    };
    Session* silent = nullptr;
    for (const auto& [connection_id, session] : sessions_)
        if (silent == nullptr || rank(*session) > rank(*silent)) silent = session.get();
    if (silent == nullptr) return;
    const ConnectionId connection_id = silent->connection_id();
    silent->end(ETIMEDOUT, "of its user's connections it was silent for longest, and others need the place");
    end_session(*silent);
    // The place is free at once; descriptors that the peer leaves unread are counted here until it takes them.
    release(connection_id);
}

// ---- who is slowed -------------------------------------------------------------------------------------

std::vector<SlowedUser> Broker::slowed_users() const {
    std::vector<SlowedUser> slowed;
    const auto now = Clock::now();
    for (const auto& [connection_id, session] : sessions_) {
        if (!session->quota().is_slowed(now)) continue;
        const policy::PeerIdentity& peer = *session->facts().identity;
        slowed.push_back({peer.uid, peer.user, session->quota().slowed_since()});
    }
    std::ranges::sort(slowed, {}, &SlowedUser::uid);
    const auto repeated = std::ranges::unique(slowed, {}, &SlowedUser::uid);
    slowed.erase(repeated.begin(), repeated.end());
    return slowed;
}

void Broker::tell_slowed(const Session& session) {
    const auto now = Clock::now();
    if (!session.quota().is_slowed(now)) return;
    const policy::PeerIdentity& peer = *session.facts().identity;
    if (!slowed_told_.stands_alone(peer.uid, now, [](const RepeatedUid&, std::uint64_t) {})) return;
    log_stderr(fmt::format("uid {} ({}) is slowed: its audit records exceed limits: record_bytes_per_second",
                           peer.uid, peer.user.empty() ? "no name" : peer.user));
}

}  // namespace fdbroker::opener
