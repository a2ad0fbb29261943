// The C functions of fdbroker.h: arguments checked, exceptions turned into errnos, connections told of fork(3).
#include <pthread.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "proto/address.hpp"
#include "worker/client/c_api.hpp"
#include "worker/client/connection.hpp"
#include "worker/client/internal.hpp"

struct fdbroker_handle {
    explicit fdbroker_handle(fdbroker::proto::UniqueFd socket) : connection(std::move(socket)) {}
    fdbroker::worker::Connection connection;
};

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
    std::vector<BorrowedFd> sockets() {
        const std::scoped_lock lock(mutex_);
        std::vector<BorrowedFd> sockets;
        for (const Connection* connection : list_)
            if (connection->socket()) sockets.push_back(connection->socket());
        return sockets;
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

// Nothing but a lack of memory throws here.
template <typename Body>
int guarded(Body body) noexcept {
    try {
        return body();
    } catch (...) {
        return -ENOMEM;
    }
}

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
    auto handle = std::make_unique<fdbroker_handle>(std::move(*socket));
    if (const int error = handle->connection.greet(); error < 0) return error;
    Connections::all().add(handle->connection);
    *out = handle.release();
    return 0;
}

}  // namespace

std::string address_text(const char* given) {
    if (given != nullptr) return given;
    if (const char* named = ::secure_getenv("FDBROKER_SOCKET")) return named;
    if (const char* number = ::secure_getenv("FDBROKER_FD")) return "fd:" + std::string(number);
    return std::string(proto::default_socket);
}

Result<SandboxReport> confine_with_report(unsigned flags) {
    ConfineOptions options;
    if ((flags & FDBROKER_CONFINE_BEST_EFFORT) != 0) options.missing_layer = MissingLayer::go_on;
    if ((flags & FDBROKER_CONFINE_DESCRIPTORS) != 0) options.keep_only = Connections::all().sockets();
    if ((flags & FDBROKER_CONFINE_NAMESPACES) != 0) options.namespaces = Wish::yes;
    if ((flags & FDBROKER_CONFINE_LIMITS) != 0) options.limits = Wish::yes;
    if ((flags & FDBROKER_CONFINE_NO_SIGSYS) != 0) options.fstat = Fstat::refused;
    return confine(options);
}

}  // namespace fdbroker::worker

using namespace fdbroker::worker;

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
    return guarded([&] { return broker->connection.open({.path = path, .flags = flags, .mode = mode}); });
}

int fdbroker_open_many(fdbroker_handle* broker, const fdbroker_request* requests, size_t count, int* fds) {
    if (broker == nullptr || (count != 0 && (requests == nullptr || fds == nullptr))) return -EFAULT;
    return guarded([&] { return broker->connection.open_many({requests, count}, fds); });
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
