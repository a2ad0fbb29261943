// The supervisor's duplicates of all connections, and how many each uid has.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "opener/link.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

struct Connection {
    enum class Purpose : std::uint8_t { requests, control };

    proto::UniqueFd socket{};
    std::uint32_t uid = 0;
    std::uint32_t listener = 0;  // of those for requests
    Purpose purpose = Purpose::requests;
};

class ConnectionTable {
  public:
    // Takes the connection in under a token of its own.
    Token add(Connection connection) {
        ++per_uid_[connection.uid];
        const Token token = next_++;
        connections_.emplace(token, std::move(connection));
        return token;
    }

    // Closes this process's duplicate. A token that is not there is ignored: it comes from the broker.
    void release(Token token) {
        const auto found = connections_.find(token);
        if (found == connections_.end()) return;
        if (const auto uid = per_uid_.find(found->second.uid); --uid->second == 0) per_uid_.erase(uid);
        connections_.erase(found);
    }

    unsigned of_uid(std::uint32_t uid) const {
        const auto found = per_uid_.find(uid);
        return found == per_uid_.end() ? 0 : found->second;
    }

    // The message that hands the connection, which must be there, to a generation.
    LinkMessage adoption(Token token) const {
        const Connection& connection = connections_.at(token);
        return {.type = connection.purpose == Connection::Purpose::control ? LinkType::adopt_control
                                                                           : LinkType::adopt,
                .value = connection.listener,
                .token = token};
    }

    bool is_control(Token token) const {
        const auto found = connections_.find(token);
        return found != connections_.end() && found->second.purpose == Connection::Purpose::control;
    }

    const std::unordered_map<Token, Connection>& all() const noexcept { return connections_; }

  private:
    std::unordered_map<Token, Connection> connections_{};
    std::unordered_map<std::uint32_t, unsigned> per_uid_{};
    Token next_ = 1;
};

}  // namespace fdbroker::opener
