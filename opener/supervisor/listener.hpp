// SPDX-License-Identifier: MIT
// A socket that workers connect to.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "opener/base/passed_sockets.hpp"
#include "opener/config/options.hpp"
#include "opener/supervisor/legacy.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

class Listener {
  public:
    using Kind = ListenerKind;

    // Binds and listens, or takes over fd:N after a check that it is a listening socket of the Unix domain and of
    // the kind's type.
    // A path: a socket that nobody serves any more is replaced, one that somebody serves is EADDRINUSE, anything
    // that is not a socket is EEXIST. Mode and group are right before the first connect(2) can succeed.
    // An abstract name that is taken is EADDRINUSE. ENOENT: the directory is not there, or no such group.
    // Needs the process to have one thread (it sets the umask for a moment).
    static proto::Result<Listener> open(const ListenOption& option, mode_t mode,
                                        const std::optional<std::string>& group, Kind kind = Kind::workers);
    // The sockets that systemd passed, by their names. The one that is called control_name is for control.
    static constexpr std::string_view control_name = "control";
    static proto::Result<std::vector<Listener>> from_systemd(std::vector<PassedSocket> passed);
    // A listener that another opener has left, whose path is this one's from now on.
    static proto::Result<Listener> inherit(const LeftListener& left, proto::UniqueFd socket);

    Listener(Listener&& other) noexcept
        : name_(std::move(other.name_)),
          address_(std::move(other.address_)),
          kind_(other.kind_),
          socket_(std::move(other.socket_)),
          bound_(std::exchange(other.bound_, std::nullopt)) {}
    Listener& operator=(Listener&&) = delete;
    ~Listener() { close(); }

    const std::string& name() const noexcept { return name_; }
    const std::string& address() const noexcept { return address_; }  // for people
    Kind kind() const noexcept { return kind_; }
    proto::BorrowedFd descriptor() const noexcept { return socket_.borrow(); }
    // A service manager passes it, now and when the opener is started again.
    bool is_passed() const noexcept { return address_.starts_with(passed_prefix); }

    LeftListener left() const;
    // The path stays when this object ends: another opener has it.
    void leave_path() noexcept { bound_.reset(); }

    // A connection that waits, non-blocking. system: EAGAIN (none), EMFILE and its like.
    proto::Result<proto::UniqueFd> accept() const;

    // Stops listening; a path is removed if it is still this socket's.
    void close() noexcept;

  private:
    static constexpr std::string_view passed_prefix = "systemd:";
    Listener(std::string name, std::string address, Kind kind, proto::UniqueFd socket)
        : name_(std::move(name)), address_(std::move(address)), kind_(kind), socket_(std::move(socket)) {}
    static proto::Result<Listener> adopt(std::string name, std::string address, Kind kind,
                                         proto::UniqueFd socket);
    proto::Result<void> bind_path(const proto::Address::SocketName& name, const std::string& path,
                                  mode_t mode, const std::optional<std::string>& group);

    struct BoundPath {
        std::string path;
        dev_t device;
        ino_t inode;
    };
    std::string name_;
    std::string address_;
    Kind kind_;
    proto::UniqueFd socket_;
    std::optional<BoundPath> bound_{};
};

}  // namespace fdbroker::opener
