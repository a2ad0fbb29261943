// SPDX-License-Identifier: MIT
// How an opener takes the place of another, and how it leaves its own.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <span>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/base/sd_notify.hpp"
#include "opener/base/send_end.hpp"
#include "opener/supervisor/supervisor.hpp"
#include "proto/channel.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Error;
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
    if (connection.purpose == Connection::Purpose::requests)
        send_end(connection.socket.borrow(), ECONNRESET,
                 "the opener stops, and has no room to keep the connection");
    ::shutdown(connection.socket.number(), SHUT_RDWR);
}

// Close-on-exec, or not, for as long as this lives.
class OpenOverExec {
  public:
    explicit OpenOverExec(std::vector<BorrowedFd> descriptors) : descriptors_(std::move(descriptors)) {
        set(0);
    }
    OpenOverExec(const OpenOverExec&) = delete;
    OpenOverExec& operator=(const OpenOverExec&) = delete;
    ~OpenOverExec() { set(FD_CLOEXEC); }

  private:
    void set(int flags) const {
        for (const BorrowedFd descriptor : descriptors_) ::fcntl(descriptor.number(), F_SETFD, flags);
    }
    std::vector<BorrowedFd> descriptors_;
};

}  // namespace

// ---- taking a place ------------------------------------------------------------------------------------

// By the listener's name: the command line may have changed.
std::optional<std::uint32_t> Supervisor::listener_called(const std::string& name, bool controls) const {
    const auto kind = controls ? Listener::Kind::control : Listener::Kind::workers;
    const auto& listeners = acceptor_.listeners();
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
    connections_.continue_at(legacy.next_connection);
    for (const LeftConnection& left : legacy.connections) inherit_connection(left, inheritance);
    // Workers of another process have ended with it.
    const bool is_same_process = !legacy.descriptors.empty();
    if (workers_ && is_same_process) workers_->inherit(legacy.worker_count, legacy.workers, inheritance);
    std::shared_ptr<PolicySnapshot> policy;
    if (inheritance.policy)
        policy = std::make_shared<PolicySnapshot>(PolicySnapshot::of(std::move(inheritance.policy)));
    generations_.inherit(legacy, std::move(policy));
    for (const LeftAnswer& left : legacy.answers) answers_.give(left.asker, left.result);
    // Children that ended before anybody here waited for them.
    reap();
    log_stderr(fmt::format("takes the place of another opener, with {} of its {} connections",
                           connections_.all().size(), legacy.connections.size()));
}

void Supervisor::inherit_connection(const LeftConnection& left, Inheritance& inheritance) {
    auto socket = inheritance.take(left.socket);
    // The client has hung up since.
    if (!socket) return;
    const auto listener = listener_called(left.listener, left.controls);
    const auto peer = credentials_of(socket->borrow());
    if (!listener || !peer) {
        ::shutdown(socket->number(), SHUT_RDWR);
        return;
    }
    Connection connection{.socket = std::move(*socket),
                          .uid = peer->uid,
                          .gid = peer->gid,
                          .listener = *listener,
                          .since = left.since,
                          .requests = left.requests,
                          .refused = left.refused,
                          .control_note = left.control_note,
                          .is_new = false};
    if (left.controls) connection.purpose = Connection::Purpose::control;
    connections_.inherit(left.connection_id, std::move(connection));
    // The first generation gets it, once the names are known.
    intake_->take_in(left.connection_id);
}

// ---- leaving one's own ---------------------------------------------------------------------------------

// Only a service manager that keeps descriptors: if it starts no other opener, it closes them, and they end.
Supervisor::Heir Supervisor::heir_of_end() {
    return descriptor_store_size() > 0 ? Heir::service_manager : Heir::none;
}

// Workers that the opener has started end with its process.
bool Supervisor::is_left(const Connection& connection) const {
    return heir_ == Heir::successor || connection.purpose == Connection::Purpose::control ||
           connection.listener < acceptor_.listeners().size();
}

Legacy Supervisor::legacy() const {
    Legacy legacy{.last_generation = generations_.last_number(),
                  .records = log_.position(),
                  .next_connection = connections_.next()};
    const auto& listeners = acceptor_.listeners();
    for (const Listener& listener : listeners)
        if (!listener.is_passed()) legacy.listeners.push_back(listener.left());
    for (const auto& [connection_id, connection] : connections_.all()) {
        if (!is_left(connection)) continue;
        const bool is_workers = connection.listener >= listeners.size();
        legacy.connections.push_back(
            {.socket = inode_of(connection.socket.borrow()),
             .connection_id = connection_id,
             .listener = is_workers ? workers_->name() : listeners[connection.listener].name(),
             .controls = connection.purpose == Connection::Purpose::control,
             .since = connection.since,
             .requests = connection.requests,
             .refused = connection.refused,
             .control_note = connection.control_note});
    }
    legacy.inflight_logs = generations_.left_inflight_logs();
    legacy.answers = answers_.left();
    // The successor reads the policy, too.
    for (const auto& askers : {trial_.askers(), reload_.askers()})
        for (const ConnectionId asker : askers) legacy.answers.push_back({.asker = asker});
    if (workers_ && heir_ == Heir::successor) {
        legacy.worker_count = workers_->count();
        legacy.workers = workers_->left();
    }
    return legacy;
}

void Supervisor::leave_to_service_manager() {
    std::vector<BorrowedFd> listening, connected;
    for (const Listener& listener : acceptor_.listeners())
        if (!listener.is_passed()) listening.push_back(listener.descriptor());
    // Besides these, the legacy itself and the policy.
    const std::size_t room =
        descriptor_store_size() - std::min(descriptor_store_size(), listening.size() + 2);
    for (const auto& [connection_id, connection] : connections_.all()) {
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
    if (generations_.policy()) {
        const BorrowedFd policy = generations_.policy()->file();
        left = store_descriptors(policy_name, std::span(&policy, 1)) && left;
    }
    const BorrowedFd legacy_file = file->borrow();
    left = store_descriptors(legacy_name, std::span(&legacy_file, 1)) && left;
    if (!left || !await_service_manager(store_timeout))
        log_stderr("the service manager has not taken the connections, which may end");
    acceptor_.leave_paths();
}

void Supervisor::forget_stored() {
    if (descriptor_store_size() == 0) return;
    for (const std::string_view name : {legacy_name, policy_name, listener_name, connection_name})
        opener::forget_stored(name);
}

// ---- executing the program anew, after an upgrade: all descriptors stay open, and workers stay children ------------------

void Supervisor::become_successor() {
    static_cast<void>(log_.drain());
    Legacy left = legacy();
    std::vector<BorrowedFd> open;
    const auto leave = [&](BorrowedFd descriptor, std::string_view name) {
        open.push_back(descriptor);
        left.descriptors.push_back({std::string(name), descriptor.number()});
    };
    for (const Listener& listener : acceptor_.listeners())
        leave(listener.descriptor(),
              listener.is_passed() ? std::string_view(listener.name()) : listener_name);
    for (const auto& [connection_id, connection] : connections_.all())
        leave(connection.socket.borrow(), connection_name);
    if (workers_) {
        leave(workers_->output(), worker_output_name);
        for (const BorrowedFd channel : workers_->channels()) leave(channel, connection_name);
    }
    if (generations_.policy()) leave(generations_.policy()->file(), policy_name);
    const auto file = left.in_sealed_file();
    if (!file) return go_on(file.error());
    open.push_back(file->borrow());

    const OpenOverExec stays(std::move(open));
    ::setenv(legacy_variable, std::to_string(file->number()).c_str(), 1);
    rlimit raised{};
    ::getrlimit(RLIMIT_NOFILE, &raised);
    ::setrlimit(RLIMIT_NOFILE, &worker_files_);
    // Blocked, so that it waits for the successor.
    if (signal_for_successor_ != 0) ::raise(signal_for_successor_);
    const Error obstacle = execute_program(invocation_.program, invocation_.arguments);
    ::setrlimit(RLIMIT_NOFILE, &raised);
    ::unsetenv(legacy_variable);
    go_on(obstacle);
}

// Nobody has been told anything yet but the generation that has ended: another one gets the connections.
void Supervisor::go_on(const Error& obstacle) {
    log_stderr("the program is not executed anew, and the opener goes on: " + obstacle.message());
    stopping_ = false;
    retiring_ = false;
    signal_for_successor_ = 0;
    heir_ = Heir::none;
    trial_.go_on();
    if (auto watching = acceptor_.watch(); !watching) log_stderr(watching.error().message());
    reload_.go_on("the program could not be executed anew");
}

}  // namespace fdbroker::opener
