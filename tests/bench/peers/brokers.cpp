// SPDX-License-Identifier: MIT
#include "tests/bench/peers/brokers.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <memory>

#include "proto/unique_fd.hpp"
#include "tests/bench/peers/forked_server.hpp"
#include "tests/support/process.hpp"

namespace fdbroker::bench {

namespace {

proto::UniqueFd opened(const char* path) {
    proto::UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
    if (!file) fail(path);
    return file;
}

void open_and_read(const char* path) {
    const proto::UniqueFd file = opened(path);
    std::array<char, 4096> content;
    if (::read(file.number(), content.data(), content.size()) < 0) fail("read");
}

// Answers calls: each has a socket for the answer, which says where the file goes, and a path.
void serve_listed(int socket, const std::vector<std::string>& allowed) {
    std::array<char, 4096> path;
    while (true) {
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
        iovec part{path.data(), path.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) <= 0) return;
        int number = -1;
        std::memcpy(&number, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof number);
        const proto::UniqueFd answer(number);
        for (const std::string& each : allowed) {
            if (std::strcmp(each.c_str(), path.data()) == 0) {
                send_byte(answer.number(), opened(path.data()).number());
                break;
            }
        }
    }
}

void call_listed(int socket, const char* path) {
    std::array<int, 2> ends;
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) < 0) fail("socketpair");
    const proto::UniqueFd mine(ends[0]);
    proto::UniqueFd theirs(ends[1]);
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
    iovec part{const_cast<char*>(path), std::strlen(path) + 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int number = theirs.number();
    std::memcpy(CMSG_DATA(header), &number, sizeof number);
    if (::sendmsg(socket, &message, MSG_NOSIGNAL) < 0) fail("sendmsg");
    theirs.reset();
    (void)received_descriptor(mine.number());
}

// bindfs in the foreground, over the data.
class BoundDirectory {
  public:
    BoundDirectory(const std::string& data, const std::string& mount_point)
        : mount_point_(mount_point),
          process_(test::Process::start({.arguments = {"bindfs", "-f", data, made(mount_point)}})) {
        constexpr long fuse_magic = 0x65735546;  // statfs(2)
        wait_until("bindfs", [this] {
            struct statfs status{};
            return ::statfs(mount_point_.c_str(), &status) == 0 && status.f_type == fuse_magic;
        });
    }

    // The name of the same file below the mount point.
    std::string name_of(const char* path) const { return mount_point_ + "/" + (std::strrchr(path, '/') + 1); }

  private:
    static const std::string& made(const std::string& directory) {
        if (::mkdir(directory.c_str(), 0755) < 0) fail("mkdir");
        return directory;
    }

    std::string mount_point_;
    test::Process process_;
};

// Adds a peer that may be impossible here, with the reason.
template <typename Make>
void add(Peers& peers, const std::string& name, const Make& make) {
    try {
        std::optional<Peer> peer = make();
        if (peer) {
            peers.there.push_back(std::move(*peer));
        } else {
            peers.missing.push_back({name, "built without it, or not installed"});
        }
    } catch (const std::exception& error) {
        peers.missing.push_back({name, error.what()});
    }
}

}  // namespace

void open_and_close(const char* path) {
    (void)opened(path);
}

Peer listed_broker(const std::vector<std::string>& paths, unsigned rules) {
    // The others look like those that are asked for, as they do in a real list: a comparison ends late.
    const std::string directory = paths[0].substr(0, paths[0].rfind('/') + 1);
    std::vector<std::string> allowed;
    for (unsigned i = 0; i < rules; ++i) allowed.push_back(directory + "other-" + std::to_string(i));
    for (std::size_t i = 0; i < paths.size() && i < rules; ++i) allowed[i * rules / paths.size()] = paths[i];
    if (rules == 1) allowed[0] = paths[0];
    const auto server =
        std::make_shared<ForkedServer>(SOCK_SEQPACKET, [&](int socket) { serve_listed(socket, allowed); });
    return {"a socket pair for each call, a list of " + std::to_string(rules),
            [server, only = rules == 1 ? paths[0] : std::string()](const char* path) {
                call_listed(server->socket(), only.empty() ? path : only.c_str());
            }};
}

Peer python_broker(unsigned rules) {
    std::array<int, 2> ends;
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) < 0) fail("socketpair");
    const auto mine = std::make_shared<proto::UniqueFd>(ends[0]);
    const proto::UniqueFd theirs(ends[1]);
    constexpr int number = 3;
    const auto process = std::make_shared<test::Process>(test::Process::start(
        {.arguments = {"python3", "-I", FDBROKER_SEND_FDS, std::to_string(number), std::to_string(rules)},
         .descriptors = {{number, theirs.borrow()}}}));
    return {"Python's send_fds, " +
                (rules == 0 ? std::string("no policy") : std::to_string(rules) + " fnmatch rules"),
            [mine, process](const char* path) {
                if (::send(mine->number(), path, std::strlen(path) + 1, MSG_NOSIGNAL) < 0) fail("send");
                (void)received_descriptor(mine->number());
            }};
}

Peers start_peers(const std::vector<std::string>& paths, const std::string& data,
                  const std::string& directory) {
    Peers peers;
    for (const unsigned rules : {1U, 1000U, 10000U}) {
        add(peers, "a list", [&] { return std::optional(listed_broker(paths, rules)); });
    }
    for (const unsigned rules : {0U, 1000U}) {
        add(peers, "Python's send_fds", [&] { return std::optional(python_broker(rules)); });
    }
    add(peers, "sd-bus, peer to peer", [] { return bus_to_peer(); });
    add(peers, "sd-bus through dbus-daemon", [&] { return bus_through_daemon(directory); });
    try {
        const auto bound = std::make_shared<BoundDirectory>(data, directory + "/bindfs");
        peers.there.push_back(
            {"bindfs, open", [bound](const char* path) { open_and_close(bound->name_of(path).c_str()); }});
        peers.there.push_back({"bindfs, open and read",
                               [bound](const char* path) { open_and_read(bound->name_of(path).c_str()); }});
    } catch (const std::exception& error) {
        peers.missing.push_back({"bindfs", error.what()});
    }
    return peers;
}

}  // namespace fdbroker::bench
