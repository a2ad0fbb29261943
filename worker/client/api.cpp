// SPDX-License-Identifier: MIT
// The C functions of fdbroker.h: arguments checked, exceptions turned into errnos, connections told of fork(3).
#include <pthread.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "proto/address.hpp"
#include "worker/client/c_api.hpp"
#include "worker/client/handle.hpp"
#include "worker/client/internal.hpp"

namespace fdbroker::worker {
namespace {

using proto::Address;
using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

// All connections of this process, for fork(3) and for closing all other descriptors.
class Connections {
  public:
    static Connections& all() {
        // Never destroyed: a connection may be closed after the last destructor has run.
        static auto* const connections = new Connections;
        return *connections;
    }

    void add(Connection& connection) {
        const std::scoped_lock lock(mutex_);
        list_.push_back(&connection);
    }
    void remove(Connection& connection) noexcept {
        const std::scoped_lock lock(mutex_);
        std::erase(list_, &connection);
    }
    bool has_socket(int number) {
        const std::scoped_lock lock(mutex_);
        return std::ranges::any_of(list_, [number](const Connection* connection) {
            return connection->socket().number() == number;
        });
    }
    std::vector<BorrowedFd> descriptors() {
        const std::scoped_lock lock(mutex_);
        std::vector<BorrowedFd> all;
        for (const Connection* connection : list_) {
            const auto more = connection->descriptors();
            all.insert(all.end(), more.begin(), more.end());
        }
        return all;
    }

  private:
    Connections() { ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child); }

    static void before_fork() { all().mutex_.lock(); }
    static void after_fork_in_parent() { all().mutex_.unlock(); }
    static void after_fork_in_child() {
        for (Connection* connection : all().list_) connection->abandon();
        all().mutex_.unlock();
    }

    std::mutex mutex_;
    std::vector<Connection*> list_;
};

constexpr unsigned all_confine_flags = FDBROKER_CONFINE_BEST_EFFORT | FDBROKER_CONFINE_DESCRIPTORS |
                                       FDBROKER_CONFINE_NAMESPACES | FDBROKER_CONFINE_LIMITS |
                                       FDBROKER_CONFINE_NO_SIGSYS;

bool is_roots(BorrowedFd socket) {
    ucred listener{};
    socklen_t size = sizeof listener;
    return ::getsockopt(socket.number(), SOL_SOCKET, SO_PEERCRED, &listener, &size) == 0 && listener.uid == 0;
}

int connect(fdbroker_handle** out, const char* text, unsigned flags) {
    const auto address = Address::parse(address_text(text));
    if (!address) return -address.error().errno_value;
    const auto* inherited = std::get_if<proto::DescriptorAddress>(&address->value());
    if (inherited != nullptr && Connections::all().has_socket(inherited->number)) return -EBUSY;
    auto socket = proto::connect(*address);
    if (!socket) return -socket.error().errno_value;
    if (inherited == nullptr && (flags & FDBROKER_ANY_OWNER) == 0 && !is_roots(socket->borrow()))
        return -EPERM;
    return make_handle(out, std::move(*socket));
}

Ask open_ask(const fdbroker_request& request) {
    return {.call = proto::Call::open,
            .path = request.path,
            .flags = static_cast<std::uint32_t>(request.flags),
            .mode = static_cast<std::uint32_t>(request.mode)};
}

// Ids that begin anywhere: the answer to a request of another process that had an inherited socket before is not taken for
// one's own.
std::uint32_t first_id() {
    std::uint32_t id = 0;
    return ::getrandom(&id, sizeof id, GRND_NONBLOCK) == sizeof id ? id : 1;
}

int open_many(Connection& connection, const fdbroker_request* requests, std::span<int> results,
              unsigned flags) {
    if ((flags & ~FDBROKER_ALL_OR_NOTHING) != 0) return connection.refuse(EINVAL, "a flag that is none");
    const std::size_t count = results.size();
    std::size_t size = 0;
    if (const int error = check_requests(connection, requests, count, size); error < 0) return error;
    const auto ask_of = [&](std::size_t index) {
        return open_ask(read_sized(element(requests, size, index), size));
    };
    if ((flags & FDBROKER_ALL_OR_NOTHING) == 0) return connection.ask_many(results, ask_of);
    if (count > proto::max_requests) return connection.refuse(E2BIG, "the requests do not fit one message");
    std::array<Ask, proto::max_requests> asks;
    for (std::size_t index = 0; index < count; ++index) asks[index] = ask_of(index);
    return connection.ask_whole(std::span(asks).first(count), results);
}

}  // namespace

int make_handle(fdbroker_handle** out, UniqueFd socket, std::function<void()> serve_peer) {
    auto handle = std::make_unique<fdbroker_handle>(std::move(socket), first_id());
    handle->connection.set_peer(std::move(serve_peer));
    if (const int error = handle->connection.greet(); error < 0) return error;
    Connections::all().add(handle->connection);
    *out = handle.release();
    return 0;
}

int refuse_size(Connection& connection, int error) {
    return connection.refuse(-error, error == -E2BIG ? "a struct sets what this library does not know"
                                                     : "the size of a struct is that of no version");
}

int check_requests(Connection& connection, const fdbroker_request* requests, std::size_t count,
                   std::size_t& size) {
    // Up to `mode`.
    constexpr std::size_t least = offsetof(fdbroker_request, mode) + sizeof(mode_t);
    size = count == 0 ? sizeof(fdbroker_request) : requests->size;
    for (std::size_t index = 0; index < count; ++index) {
        const fdbroker_request* request = element(requests, size, index);
        const int error = request->size == size ? check_size(request, size, least) : -EINVAL;
        if (error < 0) return refuse_size(connection, error);
    }
    return 0;
}

std::string address_text(const char* given) {
    if (given != nullptr) return given;
    if (const char* named = ::secure_getenv("FDBROKER_SOCKET")) return named;
    if (const char* number = ::secure_getenv("FDBROKER_FD")) return "fd:" + std::string(number);
    return std::string(proto::default_socket);
}

Result<SandboxReport> confine_with_report(unsigned flags) {
    ConfineOptions options;
    if ((flags & FDBROKER_CONFINE_BEST_EFFORT) != 0) options.missing_layer = MissingLayer::go_on;
    if ((flags & FDBROKER_CONFINE_DESCRIPTORS) != 0) options.keep_only = Connections::all().descriptors();
    if ((flags & FDBROKER_CONFINE_NAMESPACES) != 0) options.namespaces = Wish::yes;
    if ((flags & FDBROKER_CONFINE_LIMITS) != 0) options.limits = Wish::yes;
    if ((flags & FDBROKER_CONFINE_NO_SIGSYS) != 0) options.fstat = Fstat::refused;
    return confine(options);
}

}  // namespace fdbroker::worker

using namespace fdbroker::worker;
using fdbroker::proto::UniqueFd;

int fdbroker_connect(fdbroker_handle** broker, const char* address) {
    return fdbroker_connect_flags(broker, address, 0);
}

int fdbroker_connect_flags(fdbroker_handle** broker, const char* address, unsigned flags) {
    if (broker == nullptr) return -EFAULT;
    *broker = nullptr;
    if ((flags & ~FDBROKER_ANY_OWNER) != 0) return -EINVAL;
    return guarded([&] { return connect(broker, address, flags); });
}

void fdbroker_disconnect(fdbroker_handle* broker) {
    if (broker == nullptr) return;
    Connections::all().remove(broker->connection);
    delete broker;
}

int fdbroker_set_timeout(fdbroker_handle* broker, int milliseconds) {
    if (broker == nullptr) return -EFAULT;
    broker->connection.set_timeout(milliseconds);
    return 0;
}

int fdbroker_open(fdbroker_handle* broker, const char* path, int flags, mode_t mode) {
    if (broker == nullptr) return -EFAULT;
    return guarded(broker, [&](Connection& connection) {
        return connection.ask({.call = fdbroker::proto::Call::open,
                               .path = path,
                               .flags = static_cast<std::uint32_t>(flags),
                               .mode = static_cast<std::uint32_t>(mode)});
    });
}

int fdbroker_open_many(fdbroker_handle* broker, const fdbroker_request* requests, size_t count, int* fds) {
    return fdbroker_open_many_flags(broker, requests, count, fds, 0);
}

int fdbroker_open_many_flags(fdbroker_handle* broker, const fdbroker_request* requests, size_t count,
                             int* fds, unsigned flags) {
    if (broker == nullptr || (count != 0 && (requests == nullptr || fds == nullptr))) return fault(broker);
    const std::span<int> results(fds, count);
    std::ranges::fill(results, -1);
    const int error = guarded(
        broker, [&](Connection& connection) { return open_many(connection, requests, results, flags); });
    if (error == 0) return 0;
    for (int& result : results) {
        const UniqueFd closed(result);
        result = error;
    }
    return error;
}

const char* fdbroker_reason(const fdbroker_handle* broker) {
    return broker == nullptr ? "" : broker->connection.reason();
}

int fdbroker_confine(unsigned flags) {
    if ((flags & ~all_confine_flags) != 0) return -EINVAL;
    return guarded([&] {
        const auto report = confine_with_report(flags);
        return report ? 0 : -report.error().errno_value;
    });
}
