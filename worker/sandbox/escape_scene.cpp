// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <optional>

#include "proto/address.hpp"
#include "worker/sandbox/escapes.hpp"

namespace fdbroker::worker {
namespace {

using proto::Result;
using proto::UniqueFd;

// Makes one thing after the other and keeps the first error.
class Maker {
  public:
    UniqueFd take(int number, const char* what) {
        UniqueFd made(number);
        if (!made) note(what);
        return made;
    }
    UniqueFd open(const std::string& path, int flags, mode_t mode = 0) {
        return take(::open(path.c_str(), flags | O_CLOEXEC, mode), "open");
    }
    UniqueFd socket(int family, int type) { return take(::socket(family, type | SOCK_CLOEXEC, 0), "socket"); }
    UniqueFd bound(const std::string& address, int type) {
        UniqueFd made = socket(AF_UNIX, type);
        const auto name = proto::Address::parse(address)->socket_name();
        if (::bind(made.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) != 0)
            note("bind");
        if (type == SOCK_STREAM && ::listen(made.number(), 4) != 0) note("listen");
        return made;
    }
    UniqueFd file_with_content(const std::string& path) {
        UniqueFd file = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (::write(file.number(), "content", 7) != 7) note("write");
        return file;
    }
    std::string content_of(const UniqueFd& file) {
        struct stat status{};
        if (::fstat(file.number(), &status) != 0) note("fstat");
        std::string content(static_cast<std::size_t>(status.st_size), '\0');
        if (::pread(file.number(), content.data(), content.size(), 0) != status.st_size) note("read");
        return content;
    }
    void pair(UniqueFd& one, UniqueFd& other) {
        std::array<int, 2> ends{-1, -1};
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) note("socketpair");
        one = UniqueFd(ends[0]);
        other = UniqueFd(ends[1]);
    }
    void note(const char* what) {
        if (!error_) error_ = proto::system_error(what).error();
    }
    const std::optional<proto::Error>& error() const { return error_; }

  private:
    std::optional<proto::Error> error_{};
};

// On the loopback interface, at a port of the kernel's choice, which is stored. Without an interface it listens all the same.
UniqueFd listening_on_tcp(Maker& maker, sockaddr_in& address) {
    UniqueFd listener = maker.socket(AF_INET, SOCK_STREAM);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* name = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof address;
    if (::bind(listener.number(), name, size) != 0 || ::listen(listener.number(), 4) != 0 ||
        ::getsockname(listener.number(), name, &size) != 0)
        maker.note("listen on the loopback interface");
    return listener;
}

std::uint64_t mount_of(const UniqueFd& file) {
    constexpr unsigned unique_mount = 0x4000;  // STATX_MNT_ID_UNIQUE, Linux 6.8
    struct statx status{};
    const bool told = ::statx(file.number(), "", AT_EMPTY_PATH, unique_mount, &status) == 0 &&
                      (status.stx_mask & unique_mount) != 0;
    return told ? status.stx_mnt_id : 0;
}

}  // namespace

Result<EscapeScene> EscapeScene::make() {
    auto scratch = ScratchDirectory::make();
    if (!scratch) return std::unexpected(scratch.error());
    EscapeScene scene;
    Maker maker;
    scene.scratch = std::move(*scratch);
    scene.path = scene.scratch->path();
    scene.file_path = scene.path + "/file";
    scene.new_path = scene.path + "/new";
    scene.abstract_name = "@" + scene.path;
    scene.file = maker.file_with_content(scene.file_path);
    scene.directory = maker.open(scene.path, O_RDONLY | O_DIRECTORY);
    scene.program = maker.open("/bin/true", O_RDONLY);
    scene.program_bytes = maker.content_of(scene.program);
    scene.listener = maker.bound(scene.path + "/stream", SOCK_STREAM);
    scene.abstract_listener = maker.bound(scene.abstract_name, SOCK_STREAM);
    scene.tcp_listener = listening_on_tcp(maker, scene.tcp_address);
    scene.mailbox = maker.bound(scene.path + "/datagram", SOCK_DGRAM);
    scene.stream_socket = maker.socket(AF_UNIX, SOCK_STREAM);
    scene.datagram_socket = maker.socket(AF_UNIX, SOCK_DGRAM);
    scene.tcp_socket = maker.socket(AF_INET, SOCK_STREAM);
    maker.pair(scene.connected, scene.other_end);
    scene.mount = mount_of(scene.directory);
    scene.network_namespace = maker.open("/proc/self/ns/net", O_RDONLY);
    scene.parent = ::getpid();
    scene.parent_pidfd =
        maker.take(static_cast<int>(::syscall(SYS_pidfd_open, scene.parent, 0)), "pidfd_open");
    scene.terminal = UniqueFd(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (maker.error()) return std::unexpected(*maker.error());
    return scene;
}

}  // namespace fdbroker::worker
