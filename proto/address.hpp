// SPDX-License-Identifier: MIT
// Where an opener listens and a client connects: a path, @NAME (abstract), fd:N (an inherited descriptor).
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <string>
#include <string_view>
#include <variant>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::proto {

struct PathAddress {
    std::string path;
};  // absolute or relative, fits sun_path with its NUL (107)
struct AbstractAddress {
    std::string name;
};  // without the @; 1 to 107 bytes
struct DescriptorAddress {
    int number = -1;
};  // an inherited descriptor, 0 or above

// EINVAL with a detail for a person: empty, a number that is none, ENAMETOOLONG: does not fit sun_path
// (unix(7): 108 bytes, its NUL included).
class Address {
  public:
    static Result<Address> parse(std::string_view text);

    const std::variant<PathAddress, AbstractAddress, DescriptorAddress>& value() const { return value_; }
    std::string text() const;  // as parse() takes it

    struct SocketName {
        sockaddr_un address;
        socklen_t size;
    };
    // For a path or an abstract name; must not be called on a descriptor.
    SocketName socket_name() const;

  private:
    explicit Address(std::variant<PathAddress, AbstractAddress, DescriptorAddress> value)
        : value_(std::move(value)) {}
    std::variant<PathAddress, AbstractAddress, DescriptorAddress> value_;
};

// Connects a new SOCK_SEQPACKET, CLOEXEC socket; for fd:N the descriptor itself is taken over, after a check
// that it is a connected SEQPACKET socket. Blocks while the listener's backlog is full.
Result<UniqueFd> connect(const Address& address);

inline constexpr std::string_view default_socket = "/run/fdbroker/opener.sock";
// Where the opener is controlled; SOCK_STREAM.
inline constexpr std::string_view default_control_socket = "/run/fdbroker/control.sock";

}  // namespace fdbroker::proto
