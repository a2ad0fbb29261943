// SPDX-License-Identifier: MIT
#include "worker/sandbox/filter.hpp"

#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "worker/sandbox/filter_builder.hpp"

namespace fdbroker::worker {
namespace {

using proto::Result;
using proto::system_error;

void allow_descriptor_controls(FilterBuilder& builder) {
    // Neither F_SETOWN nor F_SETSIG, which send signals, nor F_NOTIFY, nor leases.
    builder.allow_values(
        "fcntl", 1,
        {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW,
         F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_GETPIPE_SZ, F_SETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS});
    // Nothing that types into a terminal (TIOCSTI) or changes a file's flags (FS_IOC_SETFLAGS).
    builder.allow_values("ioctl", 1, {TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX});
}

void allow_socket_controls(FilterBuilder& builder) {
    // MSG_FASTOPEN is a connect(2) that Landlock is not asked about.
    builder.allow("sendmsg", {has_none(2, MSG_FASTOPEN)});
    builder.allow("sendmmsg", {has_none(3, MSG_FASTOPEN)});
    // Without an address: sendto on a datagram socket reaches any path.
    builder.allow("sendto",
                  {has_none(3, MSG_FASTOPEN), {.arg = 4, .op = SCMP_CMP_EQ, .datum_a = 0, .datum_b = 0}});
    for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVBUF, SO_SNDBUF, SO_KEEPALIVE, SO_LINGER}) {
        builder.allow("setsockopt", {is(1, SOL_SOCKET), is(2, static_cast<unsigned>(option))});
        builder.allow("getsockopt", {is(1, SOL_SOCKET), is(2, static_cast<unsigned>(option))});
    }
    // What a socket is and who is there; not SO_PEERPIDFD, which opens something.
    for (const int option : {SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ERROR, SO_ACCEPTCONN, SO_PEERCRED})
        builder.allow("getsockopt", {is(1, SOL_SOCKET), is(2, static_cast<unsigned>(option))});
    for (const char* name : {"setsockopt", "getsockopt"})
        builder.allow(name, {is(1, IPPROTO_TCP), is(2, TCP_NODELAY)});
}

void allow_process_controls(FilterBuilder& builder, Signals signals) {
    allow_clone(builder);
    // Never those that make the process dumpable, trace, or set limits of another one.
    builder.allow_values(
        "prctl", 0,
        {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS, PR_GET_SECCOMP, PR_SET_VMA});
    builder.allow("prlimit64", {is(0, 0)});
    builder.allow("getrlimit");
    builder.allow("setrlimit");
    if (signals == Signals::landlock) {
        for (const char* name : {"kill", "tkill", "tgkill"}) builder.allow(name);
    } else {
        const auto self = static_cast<unsigned>(::getpid());
        builder.allow("kill", {is(0, self)});
        builder.allow("tgkill", {is(0, self)});
    }
}

}  // namespace

Result<void> filter_available() {
    std::uint32_t action = SECCOMP_RET_ERRNO;
    if (::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) return {};
    return system_error("seccomp");
}

Result<void> enter_filter(Signals signals, Fstat fstat) {
    FilterBuilder builder(SCMP_ACT_ERRNO(EPERM), SCMP_ACT_KILL_PROCESS);
    builder.allow_all(harmless_calls());
    allow_descriptor_controls(builder);
    allow_socket_controls(builder);
    allow_process_controls(builder, signals);
    if (fstat == Fstat::served) builder.trap("newfstatat", {is(3, AT_EMPTY_PATH)});
    return builder.load();
}

}  // namespace fdbroker::worker
