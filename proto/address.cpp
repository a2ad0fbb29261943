// SPDX-License-Identifier: MIT
#include "proto/address.hpp"

#include <fcntl.h>

#include <charconv>
#include <cstddef>
#include <cstring>

namespace fdbroker::proto {
namespace {

constexpr std::size_t max_name = sizeof(sockaddr_un::sun_path) - 1;

std::unexpected<Error> wrong(int errno_value, std::string detail) {
    return system_error("address", std::move(detail), errno_value);
}

Result<int> parse_number(std::string_view digits) {
    int number = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc{} || end != digits.data() + digits.size() || number < 0)
        return wrong(EINVAL, "fd:" + std::string(digits) + ": not the number of a descriptor");
    return number;
}

Result<UniqueFd> take_over(int number) {
    int type = 0;
    socklen_t size = sizeof type;
    if (::getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &size) != 0)
        return system_error("connect", "fd:" + std::to_string(number));
    sockaddr_storage peer{};
    size = sizeof peer;
    if (::getpeername(number, reinterpret_cast<sockaddr*>(&peer), &size) != 0)
        return system_error("connect", "fd:" + std::to_string(number));
    if (type != SOCK_SEQPACKET || peer.ss_family != AF_UNIX)
        return system_error("connect", "fd:" + std::to_string(number) + ": not a Unix SEQPACKET socket",
                            EPROTOTYPE);
    if (::fcntl(number, F_SETFD, FD_CLOEXEC) != 0) return system_error("connect", "set FD_CLOEXEC");
    return UniqueFd(number);
}

}  // namespace

Result<Address> Address::parse(std::string_view text) {
    if (text.empty()) return wrong(EINVAL, "empty");
    if (text.find('\0') != std::string_view::npos) return wrong(EINVAL, "holds a NUL byte");
    if (text.starts_with("fd:")) {
        const auto number = parse_number(text.substr(3));
        if (!number) return std::unexpected(number.error());
        return Address(DescriptorAddress{*number});
    }
    const bool abstract = text.starts_with('@');
    const std::string_view name = abstract ? text.substr(1) : text;
    if (name.empty()) return wrong(EINVAL, "an abstract name without a name");
    if (name.size() > max_name)
        return wrong(ENAMETOOLONG, std::string(text) + ": " + std::to_string(name.size()) +
                                       " bytes, a socket's name has at most " + std::to_string(max_name));
    if (abstract) return Address(AbstractAddress{std::string(name)});
    return Address(PathAddress{std::string(name)});
}

std::string Address::text() const {
    if (const auto* path = std::get_if<PathAddress>(&value_)) return path->path;
    if (const auto* abstract = std::get_if<AbstractAddress>(&value_)) return "@" + abstract->name;
    return "fd:" + std::to_string(std::get<DescriptorAddress>(value_).number);
}

Address::SocketName Address::socket_name() const {
    SocketName result{};
    result.address.sun_family = AF_UNIX;
    const auto* abstract = std::get_if<AbstractAddress>(&value_);
    // An abstract name begins with a NUL and ends with its length, a path the other way round (unix(7)).
    const std::string& name = abstract != nullptr ? abstract->name : std::get<PathAddress>(value_).path;
    std::memcpy(result.address.sun_path + (abstract != nullptr ? 1 : 0), name.data(), name.size());
    result.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + 1);
    return result;
}

Result<UniqueFd> connect(const Address& address) {
    if (const auto* descriptor = std::get_if<DescriptorAddress>(&address.value()))
        return take_over(descriptor->number);
    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!socket) return system_error("socket");
    const auto name = address.socket_name();
    int result;
    do result = ::connect(socket.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size);
    while (result != 0 && errno == EINTR);
    if (result != 0) return system_error("connect", address.text());
    return socket;
}

}  // namespace fdbroker::proto
