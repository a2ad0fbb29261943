// SPDX-License-Identifier: MIT
#include "worker/run/notification.hpp"

#include <linux/seccomp.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#if !defined(SECCOMP_IOCTL_NOTIF_SET_FLAGS)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

namespace fdbroker::worker {

const unsigned Listener::set_flags_request = static_cast<unsigned>(SECCOMP_IOCTL_NOTIF_SET_FLAGS);

void Listener::wake_on_same_core() const {
    static_cast<void>(
        ::ioctl(descriptor_.number(), SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP));
}

std::optional<Notification> Listener::receive() const {
    seccomp_notif notification{};  // the kernel insists on zeroes
    if (::ioctl(descriptor_.number(), SECCOMP_IOCTL_NOTIF_RECV, &notification) != 0) return std::nullopt;
    Notification received{.id = notification.id,
                          .thread = static_cast<pid_t>(notification.pid),
                          .number = notification.data.nr};
    std::ranges::copy(notification.data.args, received.arguments.begin());
    return received;
}

bool Listener::is_valid(const Notification& notification) const {
    std::uint64_t id = notification.id;
    return ::ioctl(descriptor_.number(), SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

void Listener::answer(const Notification& notification, const Answer& answer) const {
    switch (answer.kind) {
        case Answer::Kind::value:
            return respond(notification.id, answer.value, 0);
        case Answer::Kind::go_on:
            return respond(notification.id, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
        case Answer::Kind::file:
            break;
    }
    // SECCOMP_ADDFD_FLAG_SEND (Linux 5.14): no signal comes between the descriptor and the answer.
    seccomp_notif_addfd added{.id = notification.id,
                              .flags = SECCOMP_ADDFD_FLAG_SEND,
                              .srcfd = static_cast<std::uint32_t>(answer.file.number()),
                              .newfd = 0,
                              .newfd_flags = answer.file_flags};
    if (::ioctl(descriptor_.number(), SECCOMP_IOCTL_NOTIF_ADDFD, &added) < 0 && errno != ENOENT)
        respond(notification.id, -errno, 0);
}

void Listener::respond(std::uint64_t id, std::int64_t value, std::uint32_t flags) const {
    seccomp_notif_resp response{.id = id, .val = value < 0 ? 0 : value, .error = 0, .flags = flags};
    if (value < 0) response.error = static_cast<std::int32_t>(value);
    // ENOENT: the thread was killed meanwhile.
    static_cast<void>(::ioctl(descriptor_.number(), SECCOMP_IOCTL_NOTIF_SEND, &response));
}

}  // namespace fdbroker::worker
