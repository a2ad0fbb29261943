// SPDX-License-Identifier: MIT
#include "opener/supervisor/acceptor.hpp"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <utility>

#include "opener/base/send_end.hpp"
#include "opener/quota/fair_share.hpp"
#include "opener/quota/user_quota.hpp"
#include "proto/channel.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

// How long the listeners rest when the process is out of descriptors or memory.
constexpr std::chrono::milliseconds pause_length{100};
// Peers that connect without end do not keep the loop from signals and from the audit.
constexpr std::size_t accepts_per_turn = 64;
// Connections to the control socket, half of which are for root.
constexpr std::size_t max_control_connections = 64;
// Connections that newcomers may have in a full table until others have given way to them.
constexpr std::size_t max_newcomers = 64;
// Descriptors kept for everything but connections for requests.
constexpr rlim_t reserved_descriptors = 64 + max_control_connections + max_newcomers;

to_generation::ConnectionsRejected record_of(const RejectedConnection& rejected, std::uint64_t count) {
    return {.listener = rejected.listener,
            .uid = rejected.uid,
            .gid = rejected.gid,
            .pid = rejected.pid,
            .count = static_cast<std::uint32_t>(count)};
}

to_generation::ConnectionsWait record_of(int cause, std::uint64_t count) {
    return {.errno_value = cause, .count = static_cast<std::uint32_t>(count)};
}

// Functions that tell the generation of what was counted.
auto teller_of_rejections(Generation& generation) {
    return [&generation](const RepeatedRejection& rejection, std::uint64_t count) {
        generation.post(record_of(rejection.example(), count));
    };
}

auto teller_of_waits(Generation& generation) {
    return [&generation](const RepeatedWait& wait, std::uint64_t count) {
        generation.post(record_of(wait.cause(), count));
    };
}

}  // namespace

std::size_t max_connections(const Generation::Limits& limits) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= reserved_descriptors) return 1;
    return std::min<std::size_t>(limits.connections_total, limit.rlim_cur - reserved_descriptors);
}

void queue_adoption(Generation& generation, ConnectionTable& connections, ConnectionId connection_id) {
    if (connections.needs_room(connection_id, max_connections(generation.limits())))
        generation.queue(to_generation::MakeRoom{});
    generation.queue(connections.adoption(connection_id));
}

Acceptor::Acceptor(std::vector<Listener> listeners, ConnectionTable& connections, EventLoop& loop,
                   SupervisorFacts& facts, Hooks hooks)
    : listeners_(std::move(listeners)),
      connections_(connections),
      loop_(loop),
      facts_(facts),
      hooks_(std::move(hooks)),
      report_(loop.timer([this](Clock::time_point now) { report(now); })),
      pause_end_(loop.timer([this](Clock::time_point) { set_paused(false); })) {}

Result<void> Acceptor::watch() {
    sources_.clear();
    for (std::size_t i = 0; i < listeners_.size(); ++i) {
        auto source = loop_.watch(listeners_[i].descriptor(), Events::readable,
                                  [this, i](Events) { hooks_.incoming(i); });
        if (!source) return std::unexpected(source.error());
        sources_.push_back(std::move(*source));
    }
    return {};
}

std::vector<ConnectionId> Acceptor::accept(std::size_t listener, Generation& generation) {
    std::vector<ConnectionId> taken;
    const Generation::Limits& limits = generation.limits();
    for (std::size_t accepted = 0; accepted < accepts_per_turn; ++accepted) {
        const bool controls = listeners_[listener].kind() == Listener::Kind::control;
        if (!controls && connections_.requests() >= max_connections(limits) + max_newcomers) {
            wait_for_room(generation, 0);
            break;
        }
        auto socket = listeners_[listener].accept();
        if (!socket) {
            // Polling goes on telling of a connection that there is no descriptor for.
            if (!would_block(socket.error())) wait_for_room(generation, socket.error().errno_value);
            break;
        }
        has_room_ = true;
        Connection connection{.listener = static_cast<std::uint32_t>(listener)};
        if (controls) connection.purpose = Connection::Purpose::control;
        if (!admit(*socket, generation, connection)) continue;
        connection.socket = std::move(*socket);
        taken.push_back(connections_.add(std::move(connection)));
    }
    return taken;
}

bool Acceptor::is_control(std::size_t listener) const noexcept {
    return listeners_[listener].kind() == Listener::Kind::control;
}

void Acceptor::answer_controls(std::size_t listener, std::string_view text) {
    for (std::size_t accepted = 0; accepted < accepts_per_turn; ++accepted) {
        const auto socket = listeners_[listener].accept();
        if (!socket) {
            if (!would_block(socket.error())) pause();
            return;
        }
        hang_up_with(socket->borrow(), text);
    }
}

void hang_up_with(proto::BorrowedFd socket, std::string_view text) noexcept {
    static_cast<void>(::send(socket.number(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
    ::shutdown(socket.number(), SHUT_RDWR);
    // The question is taken off the socket: closing one with something unread makes an error of the end (ECONNRESET).
    std::array<char, 4096> asked;
    while (::recv(socket.number(), asked.data(), asked.size(), MSG_DONTWAIT) > 0) continue;
}

// False: the uid has as many connections as it may have, and the peer has been told. In a full table somebody gives way to
// a newcomer.
bool Acceptor::admit(const UniqueFd& socket, Generation& generation, Connection& connection) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(socket.number(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return false;
    connection.uid = credentials.uid;
    connection.gid = credentials.gid;
    if (connection.purpose == Connection::Purpose::control) return admit_control(socket, connection.uid);
    const unsigned own = connections_.of_uid(credentials.uid);
    const std::size_t taken = connections_.requests(), max = max_connections(generation.limits());
    // Another connection gives way once this one is adopted.
    if (own == 0 && taken >= max) return true;
    if (own < generation.limits().connections_per_uid && may_take(own, taken, max)) return true;
    reject(socket, generation,
           {.listener = connection.listener,
            .uid = credentials.uid,
            .gid = credentials.gid,
            .pid = credentials.pid});
    return false;
}

void Acceptor::reject(const UniqueFd& socket, Generation& generation, const RejectedConnection& whom) {
    send_end(socket.borrow(), EMFILE, too_many_of_user);
    ++facts_.rejected_connections;
    if (rejections_.stands_alone(whom, Clock::now(), teller_of_rejections(generation)))
        generation.post(record_of(whom, 1));
    report_later();
}

// Root has a separate share, so that nobody whom the control group admits can lock it out.
bool Acceptor::admit_control(const UniqueFd& socket, std::uint32_t uid) const {
    const std::size_t of_root = connections_.controls_of(0);
    const std::size_t taken = uid == 0 ? of_root : connections_.controls() - of_root;
    if (taken < max_control_connections / 2) return true;
    static constexpr std::string_view text = "error: too many connections to the control socket\n";
    static_cast<void>(::send(socket.number(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
    return false;
}

void Acceptor::wait_for_room(Generation& generation, int cause) {
    pause();
    if (!std::exchange(has_room_, false)) return;
    ++facts_.waits;
    if (waits_.stands_alone(cause, Clock::now(), teller_of_waits(generation)))
        generation.post(record_of(cause, 1));
    report_later();
}

void Acceptor::report_later() {
    report_.stop();
    for (const auto& due : {rejections_.due(), waits_.due()})
        if (due) report_.set_by(*due);
}

void Acceptor::pause() {
    pause_end_.set_after(pause_length);
    set_paused(true);
}

void Acceptor::report(Clock::time_point now) {
    Generation* const generation = hooks_.recorder();
    if (generation == nullptr) return report_.set(now + pause_length);
    rejections_.settle(now, teller_of_rejections(*generation));
    waits_.settle(now, teller_of_waits(*generation));
    report_later();
}

void Acceptor::set_paused(bool paused) {
    if (std::exchange(paused_, paused) == paused) return;
    for (Source& source : sources_) static_cast<void>(source.set(paused ? Events::none : Events::readable));
}

void Acceptor::leave() {
    sources_.clear();
    pause_end_.stop();
    report_.stop();
    paused_ = false;
}

void Acceptor::leave_paths() noexcept {
    for (Listener& listener : listeners_) listener.leave_path();
}

void Acceptor::close() {
    sources_.clear();
    for (Listener& listener : listeners_) listener.close();
    pause_end_.stop();
    report_.stop();
}

}  // namespace fdbroker::opener
