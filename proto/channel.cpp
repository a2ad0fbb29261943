// SPDX-License-Identifier: MIT
#include "proto/channel.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstring>
#include <utility>

namespace fdbroker::proto {
namespace {

bool set_refusing(int socket) noexcept {
    const int off = 0;
    return ::setsockopt(socket, SOL_SOCKET, so_passrights, &off, sizeof off) == 0;
}

std::unexpected<Error> failed(const char* operation) {
    const bool gone = errno == EPIPE || errno == ECONNRESET;
    return std::unexpected(Error{gone ? ErrorKind::disconnected : ErrorKind::system, errno, operation});
}

std::unexpected<Error> gone(const char* operation) {
    return std::unexpected(Error{ErrorKind::disconnected, ECONNRESET, operation});
}

int flags_of(Wait wait) {
    return wait == Wait::never ? MSG_DONTWAIT : 0;
}

// Room for the most descriptors that the kernel lets into one message.
union Control {
    alignas(cmsghdr) char bytes[CMSG_SPACE(sizeof(int) * max_requests)];
};

ssize_t retried_recvmsg(BorrowedFd socket, msghdr& message, int flags) {
    ssize_t size;
    bool reset = false;
    // unix(7): that the peer closed with a message of ours unread is told once, before the messages it had sent.
    do size = ::recvmsg(socket.number(), &message, flags | MSG_CMSG_CLOEXEC);
    while (size < 0 && (errno == EINTR || (errno == ECONNRESET && !std::exchange(reset, true))));
    return size;
}

// Every descriptor in the control data becomes ours, before anything is judged.
void adopt_all(msghdr& message, ReceivedDescriptors& descriptors) {
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        const auto* numbers = reinterpret_cast<const int*>(CMSG_DATA(header));
        descriptors.adopt({numbers, (header->cmsg_len - CMSG_LEN(0)) / sizeof(int)});
    }
}

}  // namespace

Result<void> send(BorrowedFd socket, std::span<const std::byte> message,
                  std::span<const BorrowedFd> descriptors, Wait wait) {
    // An empty message would read like the end of the connection.
    if (message.empty()) return system_error("send", "an empty message", EINVAL);
    if (descriptors.size() > max_requests) return system_error("send", "too many descriptors", EINVAL);
    const int flags = MSG_NOSIGNAL | flags_of(wait);
    ssize_t sent;
    if (descriptors.empty()) {
        do sent = ::send(socket.number(), message.data(), message.size(), flags);
        while (sent < 0 && errno == EINTR);
    } else {
        iovec part{.iov_base = const_cast<std::byte*>(message.data()), .iov_len = message.size()};
        // Not cleared: the header and the numbers below fill all of it that the kernel reads.
        __attribute__((uninitialized)) Control control;
        msghdr header{};
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        header.msg_control = control.bytes;
        // Without the padding behind the last number: nothing follows that it would align.
        header.msg_controllen = CMSG_LEN(sizeof(int) * descriptors.size());
        cmsghdr* rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * descriptors.size());
        unsigned char* data = CMSG_DATA(rights);
        for (const BorrowedFd descriptor : descriptors) {
            const int number = descriptor.number();
            std::memcpy(data, &number, sizeof number);
            data += sizeof number;
        }
        do sent = ::sendmsg(socket.number(), &header, flags);
        while (sent < 0 && errno == EINTR);
    }
    if (sent < 0) return failed("send");
    return {};
}

UniqueFd ReceivedDescriptors::take(std::size_t index) noexcept {
    return UniqueFd(std::exchange(numbers_[index], -1));
}

void ReceivedDescriptors::adopt(std::span<const int> numbers) noexcept {
    for (const int number : numbers) {
        UniqueFd descriptor(number);
        if (count_ < numbers_.size()) numbers_[count_++] = descriptor.release();
    }
}

void ReceivedDescriptors::clear() noexcept {
    for (const int number : std::span(numbers_).first(count_)) UniqueFd closed(number);
    count_ = 0;
    cut_short_ = false;
}

Result<std::span<const std::byte>> receive(BorrowedFd socket, std::span<std::byte> buffer,
                                           ReceivedDescriptors& descriptors, Wait wait,
                                           FullTable full_table) {
    descriptors.clear();
    iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
    // Not cleared: the kernel says how much of it it filled.
    __attribute__((uninitialized)) Control control;
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof control.bytes;
    const ssize_t size = retried_recvmsg(socket, header, flags_of(wait));
    if (size < 0) return failed("receive");
    adopt_all(header, descriptors);
    if (size == 0) {
        descriptors.clear();
        return gone("receive");
    }
    if ((header.msg_flags & MSG_TRUNC) != 0) {
        descriptors.clear();
        return protocol_error("receive", "the message does not fit the buffer");
    }
    if ((header.msg_flags & MSG_CTRUNC) != 0) {
        // There was room for every number, so it was the descriptor table that had none.
        if (full_table == FullTable::fail) {
            descriptors.clear();
            return system_error("receive", "a descriptor does not fit the table", EMFILE);
        }
        descriptors.set_cut_short();
    }
    return buffer.first(static_cast<std::size_t>(size));
}

Result<std::span<const std::byte>> receive(BorrowedFd socket, std::span<std::byte> buffer, Wait wait) {
    iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
    // Without any control buffer the kernel installs no descriptor at all: it drops what was sent and sets
    // MSG_CTRUNC. The smallest buffer would let one or two in.
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    const ssize_t size = retried_recvmsg(socket, header, flags_of(wait));
    if (size < 0) return failed("receive");
    if (size == 0) return gone("receive");
    if ((header.msg_flags & MSG_CTRUNC) != 0)
        return protocol_error("receive", "a descriptor where none is taken");
    if ((header.msg_flags & MSG_TRUNC) != 0)
        return protocol_error("receive", "the message does not fit the buffer");
    return buffer.first(static_cast<std::size_t>(size));
}

void refuse_descriptors(BorrowedFd socket) noexcept {
    static_cast<void>(set_refusing(socket.number()));
}

bool can_refuse_descriptors() noexcept {
    const UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    return socket && set_refusing(socket.number());
}

}  // namespace fdbroker::proto
