// SPDX-License-Identifier: MIT
// Ways out by what a process holds open or may make: attributes by a descriptor, and sockets.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include "proto/address.hpp"
#include "worker/sandbox/escape_groups.hpp"

namespace fdbroker::worker {
namespace {

// Younger than the oldest headers that this is built with; the same on every architecture.
constexpr long cachestat_number = 451;     // Linux 6.5
constexpr long fchmodat2_number = 452;     // Linux 6.6
constexpr long setxattrat_number = 463;    // Linux 6.13
constexpr long file_getattr_number = 468;  // Linux 6.17
constexpr long file_setattr_number = 469;

// struct file_attr of linux/fs.h
struct FileAttributes {
    std::uint64_t flags;
    std::uint32_t extent_size;
    std::uint32_t extents;
    std::uint32_t project;
    std::uint32_t copy_on_write_extent_size;
};

// struct xattr_args of linux/xattr.h
struct AttributeArguments {
    std::uint64_t value;
    std::uint32_t size;
    std::uint32_t flags;
};

long file_attributes(long number, const EscapeScene& scene) {
    FileAttributes attributes{};
    return ::syscall(number, scene.file.number(), "", &attributes, sizeof attributes, AT_EMPTY_PATH);
}

template <typename Call>
long with_name(const std::string& address, Call call) {
    const auto name = proto::Address::parse(address)->socket_name();
    return call(reinterpret_cast<const sockaddr*>(&name.address), name.size);
}

constexpr Escape descriptor_list[] = {
    {"change a mode by descriptor",
     [](const EscapeScene& scene) -> long { return ::fchmod(scene.file.number(), 0600); }},
    {"change an owner by descriptor",
     [](const EscapeScene& scene) -> long { return ::fchown(scene.file.number(), ::getuid(), ::getgid()); }},
    {"change times by descriptor",
     [](const EscapeScene& scene) -> long { return ::futimens(scene.file.number(), nullptr); }},
    {"set an extended attribute by descriptor",
     [](const EscapeScene& scene) -> long { return ::fsetxattr(scene.file.number(), "user.x", "y", 1, 0); }},
    {"touch the flags of a file",
     [](const EscapeScene& scene) -> long {
         int flags = 0;
         return ::ioctl(scene.file.number(), FS_IOC_GETFLAGS, &flags);
     }},
    {"change a mode by descriptor, the younger way",
     [](const EscapeScene& scene) -> long {
         return ::syscall(fchmodat2_number, scene.file.number(), "", 0600, AT_EMPTY_PATH);
     }},
    {"set an attribute by descriptor, the younger way",
     [](const EscapeScene& scene) -> long {
         const AttributeArguments arguments{
             .value = reinterpret_cast<std::uintptr_t>("y"), .size = 1, .flags = 0};
         return ::syscall(setxattrat_number, scene.file.number(), "", AT_EMPTY_PATH, "user.x", &arguments,
                          sizeof arguments);
     }},
    {"read the flags of a file, the younger way",
     [](const EscapeScene& scene) -> long { return file_attributes(file_getattr_number, scene); }},
    {"set the flags of a file, the younger way",
     [](const EscapeScene& scene) -> long { return file_attributes(file_setattr_number, scene); }},
    {"see what of a file is in memory",
     [](const EscapeScene& scene) -> long {
         std::array<std::uint64_t, 2> range{};
         std::array<std::uint64_t, 5> told{};
         return ::syscall(cachestat_number, scene.file.number(), range.data(), told.data(), 0);
     }},
    {"read extended attributes by descriptor",
     [](const EscapeScene& scene) -> long { return ::flistxattr(scene.file.number(), nullptr, 0); }},
    {"take a lease on a file",
     [](const EscapeScene& scene) -> long { return ::fcntl(scene.file.number(), F_SETLEASE, F_WRLCK); }},
    {"have itself told of a directory's changes",
     [](const EscapeScene& scene) -> long { return ::fcntl(scene.directory.number(), F_NOTIFY, DN_CREATE); }},
    {"type into a terminal",
     [](const EscapeScene& scene) -> long {
         const char key = 'x';
         return ::ioctl(scene.terminal.number(), TIOCSTI, &key);
     }},
    {"change a terminal's settings",
     [](const EscapeScene& scene) -> long {
         termios settings{};
         return ::tcgetattr(scene.terminal.number(), &settings) == 0
                    ? ::tcsetattr(scene.terminal.number(), TCSANOW, &settings)
                    : -1;
     }},
    {"have itself signalled by a descriptor",
     [](const EscapeScene& scene) -> long {
         int on = 1;
         return ::ioctl(scene.connected.number(), FIOASYNC, &on);
     }},
};

constexpr Escape socket_list[] = {
    {"make a Unix socket", [](const EscapeScene&) -> long { return ::socket(AF_UNIX, SOCK_STREAM, 0); }},
    {"make an Internet socket", [](const EscapeScene&) -> long { return ::socket(AF_INET, SOCK_DGRAM, 0); }},
    {"make a pair of sockets",
     [](const EscapeScene&) -> long {
         std::array<int, 2> ends{};
         return ::socketpair(AF_UNIX, SOCK_DGRAM, 0, ends.data());
     }},
    {"connect a socket it holds",
     [](const EscapeScene& scene) -> long {
         return with_name(scene.path + "/stream", [&](const sockaddr* name, socklen_t size) {
             return ::connect(scene.stream_socket.number(), name, size);
         });
     }},
    {"bind a socket it holds",
     [](const EscapeScene& scene) -> long {
         return with_name(scene.new_path, [&](const sockaddr* name, socklen_t size) {
             return ::bind(scene.stream_socket.number(), name, size);
         });
     }},
    {"send to a path",
     [](const EscapeScene& scene) -> long {
         return with_name(scene.path + "/datagram", [&](const sockaddr* name, socklen_t size) {
             return ::sendto(scene.datagram_socket.number(), "x", 1, 0, name, size);
         });
     }},
    {"connect to an abstract name",
     [](const EscapeScene& scene) -> long {
         return with_name(scene.abstract_name, [&](const sockaddr* name, socklen_t size) {
             return ::connect(scene.stream_socket.number(), name, size);
         });
     }},
    {"connect over TCP by a socket it holds",
     [](const EscapeScene& scene) -> long {
         const auto* name = reinterpret_cast<const sockaddr*>(&scene.tcp_address);
         return ::connect(scene.tcp_socket.number(), name, sizeof scene.tcp_address);
     }},
    {"connect over TCP while it sends",
     [](const EscapeScene& scene) -> long {
         sockaddr_in address = scene.tcp_address;
         std::array<char, 1> byte{'x'};
         iovec part{.iov_base = byte.data(), .iov_len = byte.size()};
         msghdr message{};
         message.msg_name = &address;
         message.msg_namelen = sizeof address;
         message.msg_iov = &part;
         message.msg_iovlen = 1;
         // Landlock is not asked about it.
         return ::sendmsg(scene.tcp_socket.number(), &message, MSG_FASTOPEN);
     }},
    {"listen on a socket it holds",
     [](const EscapeScene& scene) -> long { return ::listen(scene.tcp_socket.number(), 1); }},
    {"ask the kernel by netlink",
     [](const EscapeScene&) -> long { return ::socket(AF_NETLINK, SOCK_RAW, 0); }},
    {"send to a path from memory by a socket it holds",
     [](const EscapeScene& scene) -> long {
         return with_name(scene.path + "/datagram", [&](const sockaddr* name, socklen_t size) {
             std::array<char, 1> byte{'x'};
             iovec part{.iov_base = byte.data(), .iov_len = byte.size()};
             sockaddr_storage copy{};
             std::memcpy(&copy, name, size);
             msghdr message{};
             message.msg_name = &copy;
             message.msg_namelen = size;
             message.msg_iov = &part;
             message.msg_iovlen = 1;
             return ::sendmsg(scene.datagram_socket.number(), &message, 0);
         });
     },
     FilterSays::nothing},
};

}  // namespace

std::span<const Escape> descriptor_escapes() {
    return descriptor_list;
}

std::span<const Escape> socket_escapes() {
    return socket_list;
}

}  // namespace fdbroker::worker
