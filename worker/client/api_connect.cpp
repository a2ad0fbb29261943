// SPDX-License-Identifier: MIT
// The C functions of fdbroker.h that connect.
#include <sys/random.h>
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "proto/address.hpp"
#include "worker/client/connections.hpp"
#include "worker/client/handle.hpp"
#include "worker/client/internal.hpp"

namespace fdbroker::worker {
namespace {

using proto::Address;
using proto::BorrowedFd;
using proto::UniqueFd;

// Does root listen at the other end?
bool is_roots(BorrowedFd socket, std::string& why) {
    ucred listener{};
    socklen_t size = sizeof listener;
    if (::getsockopt(socket.number(), SOL_SOCKET, SO_PEERCRED, &listener, &size) != 0) return false;
    if (listener.uid == 0) return true;
    why = "uid " + std::to_string(listener.uid) +
          " listens there, not root: FDBROKER_ANY_OWNER takes that all the same";
    return false;
}

// Ids that begin anywhere: the answer to a request of another process that had an inherited socket before is not taken for
// one's own.
std::uint32_t first_id() {
    std::uint32_t id = 0;
    return ::getrandom(&id, sizeof id, GRND_NONBLOCK) == sizeof id ? id : 1;
}

std::string explain_failure(int error) {
    switch (error) {
        case ENOENT:
            return "there is no socket of that name: does the opener run?";
        case ECONNREFUSED:
            return "nobody listens there: does the opener run?";
        case EACCES:
            return "the mode of the socket, or of a directory above it, does not let this user in";
        case EPERM:
            return "this process may not connect; a confined one connects before";
        case EBADF:
        case ENOTSOCK:
        case ENOTCONN:
        case EPROTOTYPE:
            return "the descriptor is no connected SOCK_SEQPACKET socket";
        default:
            return ::strerrordesc_np(error) == nullptr ? "unknown error" : ::strerrordesc_np(error);
    }
}

int refuse(std::string& why, int error, std::string text) {
    why = std::move(text);
    return -error;
}

// A socket that is connected to a listener that may be trusted, or a negative errno.
int open_socket(const std::string& text, unsigned flags, UniqueFd& socket, std::string& why) {
    const auto address = Address::parse(text);
    if (!address) return refuse(why, address.error().errno_value, "the address is none");
    const auto* inherited = std::get_if<proto::DescriptorAddress>(&address->value());
    if (inherited != nullptr && Connections::all().has_socket(inherited->number))
        return refuse(why, EBUSY, "the descriptor is a connection's already");
    auto connected = proto::connect(*address);
    if (!connected) {
        const int error = connected.error().errno_value;
        return refuse(why, error, explain_failure(error));
    }
    if (inherited == nullptr && (flags & FDBROKER_ANY_OWNER) == 0 && !is_roots(connected->borrow(), why))
        return -EPERM;
    socket = std::move(*connected);
    return 0;
}

void copy_reason(const std::string& address, const std::string& why, char* reason, std::size_t size) {
    if (reason == nullptr || size == 0) return;
    std::snprintf(reason, size, "%s%s%s",
                  why.empty() ? "" : "client: ", why.empty() ? "" : (address + ": ").c_str(), why.c_str());
}

int reconnect(fdbroker_handle& broker) {
    Connection& connection = broker.connection;
    if (broker.address.empty())
        return connection.refuse(EOPNOTSUPP, "the connection has no address to connect to anew");
    std::string why;
    UniqueFd socket;
    if (const int error = open_socket(broker.address, broker.flags, socket, why); error < 0)
        return connection.refuse(-error, why);
    return connection.begin_anew(std::move(socket));
}

}  // namespace

int make_handle(fdbroker_handle** out, UniqueFd socket, std::function<void()> serve_peer, std::string& why) {
    auto handle = std::make_unique<fdbroker_handle>(std::move(socket), first_id());
    handle->connection.set_peer(std::move(serve_peer));
    if (const int error = handle->connection.greet(); error < 0) {
        constexpr std::string_view by = "client: ";
        const std::string_view told = handle->connection.reason();
        why = told.starts_with(by) ? told.substr(by.size()) : told;
        return error;
    }
    Connections::all().add(*handle);
    *out = handle.release();
    return 0;
}

std::unique_ptr<fdbroker_handle> handle_like(const fdbroker_handle& other, int socket) {
    auto handle = std::make_unique<fdbroker_handle>(UniqueFd(socket), first_id());
    handle->connection.take_limits(other.connection);
    handle->address = other.address;
    handle->flags = other.flags;
    return handle;
}

int connect(fdbroker_handle** out, const char* text, unsigned flags, std::string& why) {
    const std::string address = address_text(text);
    UniqueFd socket;
    if (const int error = open_socket(address, flags, socket, why); error < 0) return error;
    if (const int error = make_handle(out, std::move(socket), {}, why); error < 0) return error;
    if (!address.starts_with("fd:")) (*out)->address = address;
    (*out)->flags = flags;
    return 0;
}

std::string address_text(const char* given) {
    if (given != nullptr) return given;
    if (const char* named = ::secure_getenv("FDBROKER_SOCKET")) return named;
    if (const char* number = ::secure_getenv("FDBROKER_FD")) return "fd:" + std::string(number);
    return std::string(proto::default_socket);
}

}  // namespace fdbroker::worker

using namespace fdbroker::worker;

int fdbroker_connect(fdbroker_handle** broker, const char* address) {
    return fdbroker_connect_flags(broker, address, 0);
}

int fdbroker_connect_flags(fdbroker_handle** broker, const char* address, unsigned flags) {
    return fdbroker_connect_reason(broker, address, flags, nullptr, 0);
}

int fdbroker_connect_reason(fdbroker_handle** broker, const char* address, unsigned flags, char* reason,
                            size_t size) {
    if (broker == nullptr) return -EFAULT;
    *broker = nullptr;
    return guarded([&] {
        std::string why = "a flag that is none";
        const bool known = (flags & ~FDBROKER_ANY_OWNER) == 0;
        if (known) why.clear();
        const int error = known ? connect(broker, address, flags, why) : -EINVAL;
        copy_reason(address_text(address), why, reason, size);
        return error;
    });
}

int fdbroker_reconnect(fdbroker_handle* broker) {
    if (broker == nullptr) return -EFAULT;
    return guarded(broker, [&](Connection&) { return reconnect(*broker); });
}

void fdbroker_disconnect(fdbroker_handle* broker) {
    if (broker == nullptr) return;
    Connections::all().remove(*broker);
    delete broker;
}

int fdbroker_set_timeout(fdbroker_handle* broker, int milliseconds) {
    if (broker == nullptr) return -EFAULT;
    return guarded(broker, [milliseconds](Connection& connection) {
        connection.set_timeout(milliseconds);
        return 0;
    });
}
