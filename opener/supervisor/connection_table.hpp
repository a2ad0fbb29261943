// SPDX-License-Identifier: MIT
// The supervisor's duplicates of all connections, and how many each uid has.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <utility>

#include "opener/identity/peer_names.hpp"
#include "opener/link/link.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

struct Connection {
    enum class Purpose : std::uint8_t { requests, control };

    proto::UniqueFd socket{};
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t listener = 0;  // of those for requests
    Purpose purpose = Purpose::requests;
    std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
    std::uint64_t note = 0;  // LinkType::note
    std::uint32_t refused = 0;
    // Of the peer when it connected. None: they are being looked up, and no generation has the connection; one for control
    // needs none.
    std::optional<PeerNames> names{};
    bool is_new = true;  // no generation has had it
    // It came to a full table: whoever adopts it first has another give way, and not before, since those that are to give
    // way may wait for their names as well.
    bool needs_room = false;

    bool is_identified() const noexcept { return names || purpose == Purpose::control; }
};

class ConnectionTable {
  public:
    // Takes the connection in under a token of its own.
    ConnectionId add(Connection connection) {
        const ConnectionId token = next_++;
        insert(token, std::move(connection));
        return token;
    }

    // Takes in what another opener has left, under the token that it had there; next() of that comes after all of them.
    void inherit(ConnectionId token, Connection connection) { insert(token, std::move(connection)); }
    void continue_at(ConnectionId next) noexcept { next_ = next; }
    ConnectionId next() const noexcept { return next_; }

    // Closes this process's duplicate. A token that is not there is ignored: it comes from the broker.
    void release(ConnectionId token) {
        const auto found = connections_.find(token);
        if (found == connections_.end()) return;
        const Connection& connection = found->second;
        auto& per_uid = counts(connection);
        if (const auto uid = per_uid.find(connection.uid); --uid->second == 0) per_uid.erase(uid);
        --(connection.purpose == Purpose::control ? controls_ : requests_);
        connections_.erase(found);
    }

    // As release() for a token that is not there.
    void note(const LinkMessage& message) {
        const auto found = connections_.find(message.token);
        if (found == connections_.end()) return;
        found->second.note = message.note;
        found->second.refused = message.keep;
    }

    // Those for requests, and those for control, which take nobody's place.
    std::size_t requests() const noexcept { return requests_; }
    std::size_t controls() const noexcept { return controls_; }
    unsigned of_uid(std::uint32_t uid) const { return count_of(requests_per_uid_, uid); }
    unsigned controls_of(std::uint32_t uid) const { return count_of(controls_per_uid_, uid); }

    // The message that hands the connection, which must be there and identified, to a generation that gets it.
    LinkMessage adoption(ConnectionId token) {
        Connection& connection = connections_.at(token);
        return {.type = connection.purpose == Connection::Purpose::control ? LinkType::adopt_control
                                                                           : LinkType::adopt,
                .value = connection.listener,
                .total = std::exchange(connection.is_new, false) ? 1U : 0U,
                .keep = connection.refused,
                .token = token,
                .note = connection.note,
                .since = connection.since.time_since_epoch().count(),
                .names = connection.names.value_or(PeerNames())};
    }

    // Nothing: the connection has gone.
    Connection* find(ConnectionId token) noexcept {
        const auto found = connections_.find(token);
        return found == connections_.end() ? nullptr : &found->second;
    }

    bool is_control(ConnectionId token) const {
        const auto found = connections_.find(token);
        return found != connections_.end() && found->second.purpose == Connection::Purpose::control;
    }

    const std::unordered_map<ConnectionId, Connection>& all() const noexcept { return connections_; }

  private:
    using Purpose = Connection::Purpose;
    using Counts = std::unordered_map<std::uint32_t, unsigned>;
    void insert(ConnectionId token, Connection connection) {
        ++counts(connection)[connection.uid];
        ++(connection.purpose == Purpose::control ? controls_ : requests_);
        connections_.emplace(token, std::move(connection));
    }
    Counts& counts(const Connection& connection) noexcept {
        return connection.purpose == Purpose::control ? controls_per_uid_ : requests_per_uid_;
    }
    static unsigned count_of(const Counts& counts, std::uint32_t uid) {
        const auto found = counts.find(uid);
        return found == counts.end() ? 0 : found->second;
    }

    std::unordered_map<ConnectionId, Connection> connections_{};
    Counts requests_per_uid_{};
    Counts controls_per_uid_{};
    std::size_t requests_ = 0;
    std::size_t controls_ = 0;
    ConnectionId next_ = 1;
};

}  // namespace fdbroker::opener
