// SPDX-License-Identifier: MIT
// How an opener takes the place of another, and how it leaves its own.
#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/base/sd_notify.hpp"
#include "opener/supervisor/supervisor.hpp"
#include "proto/channel.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

namespace {

// How long the service manager may take to see to what it was sent.
constexpr std::chrono::milliseconds store_timeout{5'000};

std::optional<ucred> credentials_of(BorrowedFd socket) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(socket.number(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return std::nullopt;
    return credentials;
}

// Says why, to a client that waits for replies.
void end_connection(const Connection& connection) {
    if (connection.purpose == Connection::Purpose::requests) {
        std::array<std::byte, 256> message;
        const std::size_t length =
            proto::write_end(message, ECONNRESET, "the opener stops, and has no room to keep the connection");
        static_cast<void>(proto::send(connection.socket.borrow(), std::span(message).first(length), {},
                                      proto::Wait::never));
    }
    ::shutdown(connection.socket.number(), SHUT_RDWR);
}

}  // namespace

// ---- taking a place ------------------------------------------------------------------------------------

// By the listener's name: the command line may have changed.
std::optional<std::uint32_t> Supervisor::listener_called(const std::string& name, bool controls) const {
    const auto kind = controls ? Listener::Kind::control : Listener::Kind::workers;
    const auto& listeners = reception_.listeners();
    const auto found = std::ranges::find_if(listeners, [&](const Listener& listener) {
        return listener.kind() == kind && (controls || listener.name() == name);
    });
    if (found == listeners.end() && workers_ && !controls && name == workers_->name())
        return static_cast<std::uint32_t>(listeners.size());
    if (found == listeners.end()) return std::nullopt;
    return static_cast<std::uint32_t>(found - listeners.begin());
}

void Supervisor::inherit() {
    Inheritance inheritance = std::exchange(inheritance_, {});
    if (!inheritance.legacy) return;
    const Legacy& legacy = *inheritance.legacy;
    last_number_ = legacy.last_generation;
    connections_.continue_at(legacy.next_connection);
    for (const LeftConnection& left : legacy.connections) {
        auto socket = inheritance.take(left.socket);
        // Its client has hung up since.
        if (!socket) continue;
        const auto listener = listener_called(left.listener, left.controls);
        const auto peer = credentials_of(socket->borrow());
        if (!listener || !peer) {
            ::shutdown(socket->number(), SHUT_RDWR);
            continue;
        }
        Connection connection{.socket = std::move(*socket),
                              .uid = peer->uid,
                              .gid = peer->gid,
                              .listener = *listener,
                              .since = left.since,
                              .note = left.note,
                              .refused = left.refused,
                              .is_new = false};
        if (left.controls) connection.purpose = Connection::Purpose::control;
        connections_.inherit(left.token, std::move(connection));
        // The first generation gets it, once its names are known.
        take_in(left.token);
    }
    for (const LeftJournal& left : legacy.journals) {
        auto journal = InflightLog::restore(left.bytes);
        if (!journal) continue;
        lost_.push_back(
            {.number = left.generation, .inflight = std::make_unique<InflightLog>(std::move(*journal))});
    }
    // Those of another process have ended with it.
    const bool is_same_process = !legacy.descriptors.empty();
    if (workers_ && is_same_process) workers_->inherit(legacy.worker_count, legacy.workers, inheritance);
    if (inheritance.policy)
        policy_ = std::make_shared<PolicySnapshot>(PolicySnapshot::of(std::move(inheritance.policy)));
    for (const LeftAnswer& left : legacy.answers) answer(left.asker, left.result);
    // Those that ended before anybody here waited for them.
    reap();
    log_stderr(fmt::format("takes the place of another opener, with {} of its {} connections",
                           connections_.all().size(), legacy.connections.size()));
}

// ---- leaving one's own ---------------------------------------------------------------------------------

// Only a service manager that keeps descriptors: if it starts no other opener, it closes them, and they end.
Supervisor::Heir Supervisor::heir_of_end() {
    return descriptor_store_size() > 0 ? Heir::service_manager : Heir::none;
}

// Workers that the opener has started end with its process.
bool Supervisor::is_left(const Connection& connection) const {
    return heir_ == Heir::successor || connection.purpose == Connection::Purpose::control ||
           connection.listener < reception_.listeners().size();
}

Legacy Supervisor::legacy() const {
    Legacy legacy{
        .last_generation = last_number_, .records = log_.position(), .next_connection = connections_.next()};
    const auto& listeners = reception_.listeners();
    for (const Listener& listener : listeners)
        if (!listener.is_passed()) legacy.listeners.push_back(listener.left());
    for (const auto& [token, connection] : connections_.all()) {
        if (!is_left(connection)) continue;
        const bool is_workers = connection.listener >= listeners.size();
        legacy.connections.push_back(
            {.socket = inode_of(connection.socket.borrow()),
             .token = token,
             .listener = is_workers ? workers_->name() : listeners[connection.listener].name(),
             .controls = connection.purpose == Connection::Purpose::control,
             .since = connection.since,
             .note = connection.note,
             .refused = connection.refused});
    }
    for (const Lost& lost : lost_) legacy.journals.push_back({lost.number, lost.inflight->bytes()});
    for (const Answer& each : answers_)
        legacy.answers.push_back({each.message.token, static_cast<CommandResult>(each.message.value)});
    // The successor reads the policy, too.
    for (const auto* const askers : {&take_over_askers_, &reload_askers_, &starting_for_askers_})
        for (const ConnectionId asker : *askers) legacy.answers.push_back({.asker = asker});
    if (workers_ && heir_ == Heir::successor) {
        legacy.worker_count = workers_->count();
        legacy.workers = workers_->left();
    }
    return legacy;
}

void Supervisor::leave_to_service_manager() {
    std::vector<BorrowedFd> listening, connected;
    for (const Listener& listener : reception_.listeners())
        if (!listener.is_passed()) listening.push_back(listener.descriptor());
    // Besides these, the legacy itself and the policy.
    const std::size_t room =
        descriptor_store_size() - std::min(descriptor_store_size(), listening.size() + 2);
    for (const auto& [token, connection] : connections_.all()) {
        if (!is_left(connection) || connected.size() == room)
            end_connection(connection);
        else
            connected.push_back(connection.socket.borrow());
    }
    const auto file = legacy().in_sealed_file();
    if (!file) {
        log_stderr("what the next opener needs cannot be left, and all connections end: " +
                   file.error().message());
        return;
    }
    forget_stored();
    bool left = store_descriptors(connection_name, connected) && store_descriptors(listener_name, listening);
    if (policy_) {
        const BorrowedFd policy = policy_->file();
        left = store_descriptors(policy_name, std::span(&policy, 1)) && left;
    }
    const BorrowedFd legacy_file = file->borrow();
    left = store_descriptors(legacy_name, std::span(&legacy_file, 1)) && left;
    if (!left || !await_service_manager(store_timeout))
        log_stderr("the service manager has not taken the connections, which may end");
    reception_.leave_paths();
}

void Supervisor::forget_stored() {
    if (descriptor_store_size() == 0) return;
    for (const std::string_view name : {legacy_name, policy_name, listener_name, connection_name})
        opener::forget_stored(name);
}

}  // namespace fdbroker::opener
