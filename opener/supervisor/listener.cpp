// SPDX-License-Identifier: MIT
#include "opener/supervisor/listener.hpp"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "opener/base/passed_sockets.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

namespace {

Result<int> socket_option(BorrowedFd socket, int option) {
    int value = 0;
    socklen_t size = sizeof value;
    if (::getsockopt(socket.number(), SOL_SOCKET, option, &value, &size) != 0)
        return proto::system_error("getsockopt");
    return value;
}

int socket_type(Listener::Kind kind) noexcept {
    return kind == Listener::Kind::control ? SOCK_STREAM : SOCK_SEQPACKET;
}

// Whether somebody accepts connections on the socket at `name`. Only ECONNREFUSED says that nobody does.
Result<bool> is_served(const proto::Address::SocketName& name) {
    const UniqueFd probe(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe) return proto::system_error("socket");
    if (::connect(probe.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) == 0)
        return true;
    switch (errno) {
        case ECONNREFUSED:
            return false;
        case EAGAIN:      // the backlog is full
        case EPROTOTYPE:  // served, but of another type
            return true;
        default:
            return proto::system_error("connect");
    }
}

// Removes what a dead opener left at `path`; ENOENT is fine.
Result<void> clear_path(const std::string& path, const proto::Address::SocketName& name) {
    struct stat status;
    if (::lstat(path.c_str(), &status) != 0) {
        if (errno == ENOENT) return {};
        return proto::system_error("lstat", path);
    }
    if (!S_ISSOCK(status.st_mode)) {
        return proto::system_error(
            "bind", path + ": something that is not a socket is there; remove it or listen elsewhere",
            EEXIST);
    }
    const auto served = is_served(name);
    if (!served) return std::unexpected(served.error());
    if (*served)
        return proto::system_error("bind", path + ": another process serves this socket", EADDRINUSE);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return proto::system_error("unlink", path);
    return {};
}

Result<gid_t> group_id(const std::string& group) {
    errno = 0;
    if (const struct group* entry = ::getgrnam(group.c_str())) return entry->gr_gid;
    return proto::system_error("--listen-group", "there is no group " + group, ENOENT);
}

// bind(2) creates the path with the socket's own mode, less the umask.
Result<void> bind_with_mode(BorrowedFd socket, const proto::Address::SocketName& name, mode_t mode) {
    if (::fchmod(socket.number(), mode) != 0) return proto::system_error("fchmod");
    const mode_t umask = ::umask(0);
    const int bound = ::bind(socket.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size);
    const int cause = errno;
    ::umask(umask);
    if (bound != 0) return proto::system_error("bind", name.address.sun_path, cause);
    return {};
}

}  // namespace

Result<Listener> Listener::adopt(std::string name, std::string address, Kind kind, UniqueFd socket) {
    const auto type = socket_option(socket.borrow(), SO_TYPE);
    const auto domain = socket_option(socket.borrow(), SO_DOMAIN);
    const auto listening = socket_option(socket.borrow(), SO_ACCEPTCONN);
    if (!type || !domain || !listening) {
        return proto::system_error("--listen", address + ": no socket",
                                   type ? EINVAL : type.error().errno_value);
    }
    if (*type != socket_type(kind) || *domain != AF_UNIX || *listening == 0) {
        const char* const wanted = kind == Kind::control ? "SOCK_STREAM" : "SOCK_SEQPACKET";
        return proto::system_error("--listen", address + ": not a listening Unix socket of type " + wanted,
                                   EINVAL);
    }
    if (::fcntl(socket.number(), F_SETFD, FD_CLOEXEC) != 0 ||
        ::fcntl(socket.number(), F_SETFL, O_NONBLOCK) != 0) {
        return proto::system_error("fcntl", address);
    }
    proto::refuse_descriptors(socket.borrow());
    return Listener(std::move(name), std::move(address), kind, std::move(socket));
}

Result<Listener> Listener::open(const ListenOption& option, mode_t mode,
                                const std::optional<std::string>& group, Kind kind) {
    const std::string text = option.address.text();
    if (const auto* inherited = std::get_if<proto::DescriptorAddress>(&option.address.value())) {
        return adopt(option.name, text, kind, UniqueFd(inherited->number));
    }
    Listener listener(option.name, text, kind,
                      UniqueFd(::socket(AF_UNIX, socket_type(kind) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
    if (!listener.socket_) return proto::system_error("socket");
    proto::refuse_descriptors(listener.descriptor());
    const auto name = option.address.socket_name();
    if (const auto* path = std::get_if<proto::PathAddress>(&option.address.value())) {
        if (auto bound = listener.bind_path(name, path->path, mode, group); !bound)
            return std::unexpected(bound.error());
    } else if (::bind(listener.socket_.number(), reinterpret_cast<const sockaddr*>(&name.address),
                      name.size) != 0) {
        return proto::system_error("bind", text);
    }
    // Until now every connect(2) was refused.
    if (::listen(listener.socket_.number(), SOMAXCONN) != 0) return proto::system_error("listen", text);
    return listener;
}

Result<void> Listener::bind_path(const proto::Address::SocketName& name, const std::string& path, mode_t mode,
                                 const std::optional<std::string>& group) {
    const auto gid = group ? group_id(*group) : Result<gid_t>(static_cast<gid_t>(-1));
    if (!gid) return std::unexpected(gid.error());
    // Two openers that start at once must not both find the old socket dead. Their lock is a file that nobody else may
    // open: whoever can open the directory, or the lock, can hold it for ever. It stays, because removing it would
    // let a third opener lock another.
    const std::string lock_path = path + ".lock";
    const UniqueFd lock(
        ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
    if (!lock) return proto::system_error("--listen", lock_path);
    while (::flock(lock.number(), LOCK_EX) != 0) {
        if (errno != EINTR) return proto::system_error("flock", lock_path);
    }
    if (auto cleared = clear_path(path, name); !cleared) return cleared;
    if (auto done = bind_with_mode(descriptor(), name, mode); !done) return done;
    struct stat status;
    if (::lstat(path.c_str(), &status) != 0) return proto::system_error("lstat", path);
    bound_ = BoundPath{path, status.st_dev, status.st_ino};
    if (group && ::lchown(path.c_str(), static_cast<uid_t>(-1), *gid) != 0)
        return proto::system_error("chown", path);
    return {};
}

Result<std::vector<Listener>> Listener::from_systemd(std::vector<PassedSocket> passed) {
    std::vector<Listener> listeners;
    for (PassedSocket& socket : passed) {
        const Kind kind = socket.name == control_name ? Kind::control : Kind::workers;
        auto listener =
            adopt(socket.name, std::string(passed_prefix) + socket.name, kind, std::move(socket.socket));
        if (!listener) return std::unexpected(listener.error());
        listeners.push_back(std::move(*listener));
    }
    return listeners;
}

Result<Listener> Listener::inherit(const LeftListener& left, UniqueFd socket) {
    auto listener = adopt(left.name, left.address, left.kind, std::move(socket));
    if (listener && !left.path.empty()) listener->bound_ = BoundPath{left.path, left.device, left.inode};
    return listener;
}

LeftListener Listener::left() const {
    LeftListener left{.socket = inode_of(descriptor()), .name = name_, .address = address_, .kind = kind_};
    if (bound_) {
        left.path = bound_->path;
        left.device = bound_->device;
        left.inode = bound_->inode;
    }
    return left;
}

Result<UniqueFd> Listener::accept() const {
    for (;;) {
        UniqueFd connection(::accept4(socket_.number(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (connection) return connection;
        // accept(2): a connection that died while it waited is not an error of the listener's.
        if (errno != EINTR && errno != ECONNABORTED) return proto::system_error("accept", address_);
    }
}

void Listener::close() noexcept {
    if (bound_) {
        struct stat status;
        if (::lstat(bound_->path.c_str(), &status) == 0 && status.st_dev == bound_->device &&
            status.st_ino == bound_->inode) {
            ::unlink(bound_->path.c_str());
        }
    }
    bound_.reset();
    socket_.reset();
}

}  // namespace fdbroker::opener
