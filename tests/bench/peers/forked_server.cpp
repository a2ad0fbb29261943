// SPDX-License-Identifier: MIT
#include "tests/bench/peers/forked_server.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <system_error>
#include <thread>

namespace fdbroker::bench {

namespace {

struct Control {
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> bytes{};
};

// A message of one byte with room for one descriptor.
struct Message {
    Message() {
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        header.msg_control = control.bytes.data();
        header.msg_controllen = control.bytes.size();
    }

    char byte = 0;
    iovec part{&byte, 1};
    Control control;
    msghdr header{};
};

}  // namespace

void fail(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

void wait_until(const char* what, const std::function<bool()>& holds) {
    using std::chrono::steady_clock;
    const steady_clock::time_point end = steady_clock::now() + std::chrono::seconds(5);
    while (!holds()) {
        if (steady_clock::now() > end) throw std::runtime_error(std::string(what) + " did not come in time");
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

void send_byte(int socket, int descriptor) {
    Message message;
    cmsghdr* header = CMSG_FIRSTHDR(&message.header);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    if (::sendmsg(socket, &message.header, MSG_NOSIGNAL) < 0) fail("sendmsg");
}

proto::UniqueFd received_descriptor(int socket) {
    Message message;
    if (::recvmsg(socket, &message.header, MSG_CMSG_CLOEXEC) != 1) fail("recvmsg");
    const cmsghdr* header = CMSG_FIRSTHDR(&message.header);
    if (header == nullptr) throw std::runtime_error("an answer without a descriptor");
    int descriptor = -1;
    std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
    return proto::UniqueFd(descriptor);
}

ForkedServer::ForkedServer(int type, const std::function<void(int socket)>& serve) {
    std::array<int, 2> ends;
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()) < 0) fail("socketpair");
    socket_ = proto::UniqueFd(ends[0]);
    const proto::UniqueFd other_end(ends[1]);
    pid_ = ::fork();
    if (pid_ < 0) fail("fork");
    if (pid_ == 0) {
        socket_.reset();
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        try {
            serve(other_end.number());
        } catch (...) {
            ::_exit(1);
        }
        ::_exit(0);
    }
}

ForkedServer::~ForkedServer() {
    socket_.reset();
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

}  // namespace fdbroker::bench
