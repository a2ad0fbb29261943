// SPDX-License-Identifier: MIT
#include "tests/bench/broker/barest.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fdbroker::bench {

namespace {

struct RightsControl {
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> bytes{};
};

void send_descriptor(int socket, int descriptor) {
    char answer = 0;
    iovec part{&answer, 1};
    RightsControl control;
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    (void)::sendmsg(socket, &message, MSG_NOSIGNAL);
}

[[noreturn]] void serve(int socket) {
    std::array<char, 4096> path;
    while (true) {
        const ssize_t size = ::recv(socket, path.data(), path.size(), 0);
        if (size <= 0) ::_exit(0);
        const int descriptor = ::openat(AT_FDCWD, path.data(), O_RDONLY | O_CLOEXEC);
        if (descriptor < 0) ::_exit(1);
        send_descriptor(socket, descriptor);
        ::close(descriptor);
    }
}

[[noreturn]] void give_up(const char* call) {
    std::perror(call);
    std::abort();
}

}  // namespace

BarestBroker::BarestBroker() {
    std::array<int, 2> ends;
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) < 0) give_up("socketpair");
    socket_ = proto::UniqueFd(ends[0]);
    const proto::UniqueFd other_end(ends[1]);
    pid_ = ::fork();
    if (pid_ < 0) give_up("fork");
    if (pid_ == 0) {
        socket_.reset();
        serve(other_end.number());
    }
}

BarestBroker::~BarestBroker() {
    socket_.reset();
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

proto::UniqueFd BarestBroker::open(const char* path) const {
    if (::send(socket_.number(), path, std::strlen(path) + 1, MSG_NOSIGNAL) < 0) give_up("send");
    char answer = 0;
    iovec part{&answer, 1};
    RightsControl control;
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    if (::recvmsg(socket_.number(), &message, MSG_CMSG_CLOEXEC) != 1) give_up("recvmsg");
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (header == nullptr) give_up("no descriptor");
    int descriptor = -1;
    std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
    return proto::UniqueFd(descriptor);
}

}  // namespace fdbroker::bench
