// SPDX-License-Identifier: MIT
#include "opener/link/orphaned_requests.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace fdbroker::opener {

namespace {

// Two generations name a request if the first died while it answered for the other, or before it forgot a noted message.
void name_each_once(OrphanedRequests::LostRequests& lost) {
    for (auto& [connection_id, of_session] : lost) {
        std::ranges::sort(of_session.ids);
        const auto rest = std::ranges::unique(of_session.ids);
        of_session.ids.erase(rest.begin(), rest.end());
    }
}

}  // namespace

OrphanedRequests::Known* OrphanedRequests::find(std::uint32_t generation) noexcept {
    const auto found = std::ranges::find(known_, generation, &Known::number);
    return found == known_.end() ? nullptr : &*found;
}

// A previous generation may have been taken over: its in-flight log is read with as little trust as a message.
void OrphanedRequests::take_gathered(Known& one, LostRequests& lost) {
    if (std::exchange(one.gathered_taken, true)) return;
    for (const InflightEntry& entry : one.inflight->entries()) {
        const ConnectionId connection_id = entry.connection_id.load();
        const std::size_t count = std::min<std::size_t>(entry.count.load(), entry.ids.size());
        if (connection_id == 0) continue;
        auto& ids = lost[connection_id].ids;
        ids.insert(ids.end(), entry.ids.begin(), entry.ids.begin() + static_cast<std::ptrdiff_t>(count));
    }
    const ConnectionId connection_id = one.inflight->intake().connection_id.load();
    // A copy: what is checked is what is used, whoever else can write there.
    const auto message = one.inflight->intake().message;
    if (connection_id == 0 || message[0] == std::byte{0}) return;
    const auto header = proto::read_header(message);
    std::array<proto::Request, proto::max_requests> room;
    if (const auto requests = proto::read_requests_within(message, room)) {
        for (const proto::Request& request : *requests) lost[connection_id].ids.push_back(request.id);
    } else {
        const bool is_hello = header && header->type == proto::MessageType::hello;
        const std::size_t size = is_hello ? proto::header_size : message.size();
        lost[connection_id].message.assign(message.begin(),
                                           message.begin() + static_cast<std::ptrdiff_t>(size));
    }
}

void OrphanedRequests::take_left(std::uint32_t generation, LostRequests& lost) {
    Known* const one = find(generation);
    if (one == nullptr) return;
    one->lives = true;
    take_gathered(*one, lost);
    name_each_once(lost);
}

void OrphanedRequests::take_lost(std::uint32_t generation, LostRequests& lost) {
    const auto one = std::ranges::find(known_, generation, &Known::number);
    if (one == known_.end()) return;
    take_gathered(*one, lost);
    for (const InflightSlot& slot : one->inflight->slots()) {
        if (const ConnectionId connection_id = slot.connection_id.load(); connection_id != 0)
            lost[connection_id].ids.push_back(slot.id);
    }
    name_each_once(lost);
    known_.erase(one);
}

bool OrphanedRequests::work_for(ConnectionId connection_id) const noexcept {
    const auto has = [connection_id](const InflightSlot& slot) {
        return slot.connection_id.load() == connection_id;
    };
    return std::ranges::any_of(known_, [&](const Known& one) {
        return one.lives && std::ranges::any_of(one.inflight->slots(), has);
    });
}

}  // namespace fdbroker::opener
