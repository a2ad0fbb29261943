// SPDX-License-Identifier: MIT
#include "opener/supervisor/acceptor.hpp"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <utility>

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

std::size_t max_connections(const Generation::Limits& limits) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= reserved_descriptors) return 1;
    return std::min<std::size_t>(limits.connections_total, limit.rlim_cur - reserved_descriptors);
}

LinkMessage record_of(const RejectedConnection& whom, std::uint64_t count) {
    return {.type = LinkType::turned_away,
            .value = whom.listener,
            .total = static_cast<std::uint32_t>(count),
            .keep = static_cast<std::uint32_t>(whom.pid),
            .token = whom.uid,
            .note = whom.gid};
}

LinkMessage record_of(int cause, std::uint64_t count) {
    return {.type = LinkType::waiting,
            .value = static_cast<std::uint32_t>(cause),
            .total = static_cast<std::uint32_t>(count)};
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

Result<void> Acceptor::watch() {
    for (Listener& listener : listeners_) {
        if (auto added = loop_.add(listener.descriptor(), EPOLLIN, &listener); !added) return added;
    }
    return {};
}

bool Acceptor::owns(const void* tag) const noexcept {
    return std::ranges::any_of(listeners_, [tag](const Listener& listener) { return &listener == tag; });
}

std::vector<ConnectionId> Acceptor::accept(const void* tag, Generation& generation) {
    std::vector<ConnectionId> taken;
    const auto index = static_cast<std::size_t>(static_cast<const Listener*>(tag) - listeners_.data());
    const Generation::Limits& limits = generation.limits();
    for (std::size_t accepted = 0; accepted < accepts_per_turn; ++accepted) {
        const bool controls = listeners_[index].kind() == Listener::Kind::control;
        if (!controls && connections_.requests() >= max_connections(limits) + max_newcomers) {
            wait_for_room(generation, 0);
            break;
        }
        auto socket = listeners_[index].accept();
        if (!socket) {
            // Polling goes on telling of a connection that there is no descriptor for.
            if (!would_block(socket.error())) wait_for_room(generation, socket.error().errno_value);
            break;
        }
        has_room_ = true;
        Connection connection{.listener = static_cast<std::uint32_t>(index)};
        if (controls) connection.purpose = Connection::Purpose::control;
        if (!admit(*socket, generation, connection)) continue;
        connection.socket = std::move(*socket);
        taken.push_back(connections_.add(std::move(connection)));
    }
    return taken;
}

bool Acceptor::is_control(const void* tag) const noexcept {
    return owns(tag) && static_cast<const Listener*>(tag)->kind() == Listener::Kind::control;
}

void Acceptor::answer_controls(const void* tag, std::string_view text) {
    for (std::size_t accepted = 0; accepted < accepts_per_turn; ++accepted) {
        const auto socket = static_cast<const Listener*>(tag)->accept();
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
    // What was asked is taken off the socket: closing one with something unread makes an error of the end (ECONNRESET).
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
    if (own == 0 && taken >= max) {
        connection.needs_room = true;
        return true;
    }
    if (own < generation.limits().connections_per_uid && may_take(own, taken, max)) return true;
    turn_away(socket, generation,
              {.listener = connection.listener,
               .uid = credentials.uid,
               .gid = credentials.gid,
               .pid = credentials.pid});
    return false;
}

void Acceptor::turn_away(const UniqueFd& socket, Generation& generation, const RejectedConnection& whom) {
    std::array<std::byte, 256> message;
    const std::size_t length = proto::write_end(message, EMFILE, too_many_of_user);
    static_cast<void>(proto::send(socket.borrow(), std::span(message).first(length), {}, proto::Wait::never));
    ++facts_.turned_away;
    if (rejections_.stands_alone(whom, Clock::now(), teller_of_rejections(generation)))
        generation.post(record_of(whom, 1));
    report_later();
}

// Root has a share of its own, so that nobody whom the control group admits can lock it out.
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
    report_at_ = rejections_.due();
    if (const auto due = waits_.due()) report_at_ = std::min(report_at_.value_or(*due), *due);
}

void Acceptor::pause() {
    again_at_ = Clock::now() + pause_length;
    set_paused(true);
}

std::optional<Acceptor::Clock::time_point> Acceptor::again_at() const noexcept {
    if (!again_at_ || !report_at_) return again_at_ ? again_at_ : report_at_;
    return std::min(*again_at_, *report_at_);
}

void Acceptor::act_on_time(Clock::time_point now, Generation* generation) {
    if (report_at_ && now >= *report_at_) {
        if (generation == nullptr) {
            report_at_ = now + pause_length;
        } else {
            rejections_.settle(now, teller_of_rejections(*generation));
            waits_.settle(now, teller_of_waits(*generation));
            report_later();
        }
    }
    if (!again_at_ || now < *again_at_) return;
    again_at_.reset();
    set_paused(false);
}

void Acceptor::set_paused(bool paused) {
    if (std::exchange(paused_, paused) == paused) return;
    for (Listener& listener : listeners_) {
        static_cast<void>(
            loop_.change(listener.descriptor(), paused ? 0U : std::uint32_t{EPOLLIN}, &listener));
    }
}

void Acceptor::leave() {
    for (const Listener& listener : listeners_) loop_.remove(listener.descriptor());
    again_at_.reset();
    report_at_.reset();
    paused_ = false;
}

void Acceptor::leave_paths() noexcept {
    for (Listener& listener : listeners_) listener.leave_path();
}

void Acceptor::close() {
    for (Listener& listener : listeners_) {
        loop_.remove(listener.descriptor());
        listener.close();
    }
    again_at_.reset();
    report_at_.reset();
}

}  // namespace fdbroker::opener
