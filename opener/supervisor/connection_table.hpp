// SPDX-License-Identifier: MIT
// The supervisor's duplicates of all connections, and how many each uid has.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <utility>

#include "opener/identity/peer_names.hpp"
#include "opener/link/messages.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

struct Connection {
    enum class Purpose : std::uint8_t { requests, control };

    proto::UniqueFd socket{};
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t listener = 0;  // the index; for requests
    Purpose purpose = Purpose::requests;
    std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
    std::uint64_t requests = 0;  // to_supervisor::NoteUse, as the next
    std::uint64_t refused = 0;
    std::uint64_t control_note = 0;  // to_supervisor::NoteControl
    // The peer's when it connected. None: they are being looked up, and no generation has the connection; one for control
    // needs none.
    std::optional<PeerNames> names{};
    bool is_new = true;       // no generation has had it
    bool is_adopted = false;  // by the generation that serves

    bool is_identified() const noexcept { return names || purpose == Purpose::control; }
};

class ConnectionTable {
  public:
    // Takes the connection in under a new connection id.
    ConnectionId add(Connection connection) {
        const ConnectionId connection_id = next_++;
        insert(connection_id, std::move(connection));
        return connection_id;
    }

    // Takes in what another opener has left, under the id that it had there; next() of that comes after all.
    void inherit(ConnectionId connection_id, Connection connection) {
        insert(connection_id, std::move(connection));
    }
    void continue_at(ConnectionId next) noexcept { next_ = next; }
    ConnectionId next() const noexcept { return next_; }

    // Closes this process's duplicate. An id that is not there is ignored: it comes from the broker.
    void release(ConnectionId connection_id) {
        const auto found = connections_.find(connection_id);
        if (found == connections_.end()) return;
        const Connection& connection = found->second;
        auto& per_uid = counts(connection);
        if (const auto uid = per_uid.find(connection.uid); --uid->second == 0) per_uid.erase(uid);
        --(connection.purpose == Purpose::control ? controls_ : requests_);
        if (connection.is_adopted) --adopted_;
        connections_.erase(found);
    }

    // As release() for an id that is not there.
    void note(const to_supervisor::NoteUse& message) {
        Connection* const connection = find(message.connection_id);
        if (connection == nullptr) return;
        connection->requests = message.requests;
        connection->refused = message.refused;
    }
    void note(const to_supervisor::NoteControl& message) {
        if (Connection* const connection = find(message.connection_id))
            connection->control_note = message.note;
    }

    // Those for requests, and those for control, which take nobody's place.
    std::size_t requests() const noexcept { return requests_; }
    std::size_t controls() const noexcept { return controls_; }
    unsigned of_uid(std::uint32_t uid) const { return count_of(requests_per_uid_, uid); }
    unsigned controls_of(std::uint32_t uid) const { return count_of(controls_per_uid_, uid); }

    // The message that hands the connection, which must be there and identified, to a generation that gets it.
    ToGeneration adoption(ConnectionId connection_id) {
        Connection& connection = connections_.at(connection_id);
        if (connection.purpose == Purpose::requests && !std::exchange(connection.is_adopted, true))
            ++adopted_;
        const bool is_new = std::exchange(connection.is_new, false);
        if (connection.purpose == Connection::Purpose::control)
            return to_generation::AdoptControl{.connection_id = connection_id,
                                               .note = connection.control_note};
        return to_generation::Adopt{.connection_id = connection_id,
                                    .since = connection.since.time_since_epoch().count(),
                                    .requests = connection.requests,
                                    .refused = connection.refused,
                                    .listener = connection.listener,
                                    .adoption = is_new ? Adoption::first : Adoption::known,
                                    .names = connection.names.value_or(PeerNames())};
    }

    // Another generation serves from now on, which has adopted nothing yet.
    void begin_generation() noexcept {
        for (auto& [connection_id, connection] : connections_) connection.is_adopted = false;
        adopted_ = 0;
    }
    // Whether another connection has to give way when a generation adopts this one: it has `max` already. Connections
    // that still wait for their names cannot give way, whichever came first.
    bool needs_room(ConnectionId connection_id, std::size_t max) const {
        const Connection& connection = connections_.at(connection_id);
        return connection.purpose == Purpose::requests && !connection.is_adopted && adopted_ >= max;
    }

    // Null: the connection has gone.
    Connection* find(ConnectionId connection_id) noexcept {
        const auto found = connections_.find(connection_id);
        return found == connections_.end() ? nullptr : &found->second;
    }

    bool is_control(ConnectionId connection_id) const {
        const auto found = connections_.find(connection_id);
        return found != connections_.end() && found->second.purpose == Connection::Purpose::control;
    }

    const std::unordered_map<ConnectionId, Connection>& all() const noexcept { return connections_; }

  private:
    using Purpose = Connection::Purpose;
    using Counts = std::unordered_map<std::uint32_t, unsigned>;
    void insert(ConnectionId connection_id, Connection connection) {
        ++counts(connection)[connection.uid];
        ++(connection.purpose == Purpose::control ? controls_ : requests_);
        connections_.emplace(connection_id, std::move(connection));
    }
    Counts& counts(const Connection& connection) noexcept {
        return connection.purpose == Purpose::control ? controls_per_uid_ : requests_per_uid_;
    }
    static unsigned count_of(const Counts& counts, std::uint32_t uid) {
        const auto found = counts.find(uid);
        return found == counts.end() ? 0 : found->second;
    }

    std::unordered_map<ConnectionId, Connection> connections_{};
    std::size_t adopted_ = 0;  // connections for requests
    Counts requests_per_uid_{};
    Counts controls_per_uid_{};
    std::size_t requests_ = 0;
    std::size_t controls_ = 0;
    ConnectionId next_ = 1;
};

}  // namespace fdbroker::opener
