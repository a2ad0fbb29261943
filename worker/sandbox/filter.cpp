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
    // The type of a socket and its peer; not SO_PEERPIDFD, which opens something.
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

// TCP_ULP, TCP_CONGESTION and the like load modules; TCP_FASTOPEN_CONNECT and TCP_REPAIR connect.
void allow_tcp(FilterBuilder& builder) {
    constexpr unsigned tcp[]{TCP_CORK,         TCP_DEFER_ACCEPT,  TCP_FASTOPEN,  TCP_INFO,
                             TCP_KEEPCNT,      TCP_KEEPIDLE,      TCP_KEEPINTVL, TCP_LINGER2,
                             TCP_MAXSEG,       TCP_NOTSENT_LOWAT, TCP_QUICKACK,  TCP_SYNCNT,
                             TCP_USER_TIMEOUT, TCP_WINDOW_CLAMP};
    constexpr unsigned any[]{SO_REUSEADDR, SO_REUSEPORT, SO_RCVLOWAT, SO_OOBINLINE, SO_PRIORITY};
    for (const char* name : {"setsockopt", "getsockopt"}) {
        for (const unsigned option : tcp) builder.allow(name, {is(1, IPPROTO_TCP), is(2, option)});
        for (const unsigned option : any) builder.allow(name, {is(1, SOL_SOCKET), is(2, option)});
        builder.allow(name, {is(1, IPPROTO_IP), is(2, IP_TOS)});
        builder.allow(name, {is(1, IPPROTO_IPV6), is(2, IPV6_TCLASS)});
        builder.allow(name, {is(1, IPPROTO_IPV6), is(2, IPV6_V6ONLY)});
    }
}

void allow_attributes(FilterBuilder& builder) {
    constexpr unsigned set_id = 06000;
    builder.allow("fchmod", {has_none(1, set_id)});
    // futimens(3): no path.
    builder.allow("utimensat", {{.arg = 1, .op = SCMP_CMP_EQ, .datum_a = 0, .datum_b = 0}});
    builder.allow("fgetxattr");
    builder.allow("flistxattr");
}

// The number 0 is the thread itself: another thread's number may be another process's.
void allow_scheduling_calls(FilterBuilder& builder) {
    for (const char* name : {"sched_setscheduler", "sched_setparam", "sched_setattr", "sched_getattr",
                             "sched_setaffinity", "sched_rr_get_interval"})
        builder.allow(name, {is(0, 0)});
    for (const char* name : {"sched_get_priority_max", "sched_get_priority_min"}) builder.allow(name);
    for (const char* name : {"setpriority", "getpriority"}) builder.allow(name, {is(0, 0), is(1, 0)});
}

void allow_besides(FilterBuilder& builder, unsigned allowances) {
    if ((allowances & allow_tcp_options) != 0) allow_tcp(builder);
    constexpr std::uint64_t type = 0xf;  // SOCK_TYPE_MASK of linux/net.h
    if ((allowances & allow_socketpair) != 0)
        for (const unsigned one : {SOCK_STREAM, SOCK_SEQPACKET})
            builder.allow(
                "socketpair",
                {is(0, AF_UNIX), {.arg = 1, .op = SCMP_CMP_MASKED_EQ, .datum_a = type, .datum_b = one}});
    if ((allowances & allow_listen) != 0) builder.allow("listen");
    if ((allowances & allow_own_attributes) != 0) allow_attributes(builder);
    if ((allowances & allow_scheduling) != 0) allow_scheduling_calls(builder);
    if ((allowances & allow_udp) != 0) builder.allow("sendto", {has_none(3, MSG_FASTOPEN)});
}

void fill(FilterBuilder& builder, Signals signals, unsigned allowances) {
    builder.allow_all(harmless_calls());
    allow_descriptor_controls(builder);
    allow_socket_controls(builder);
    allow_process_controls(builder, signals);
    allow_besides(builder, allowances);
}

}  // namespace

Result<void> filter_available() {
    std::uint32_t action = SECCOMP_RET_ERRNO;
    if (::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) return {};
    return system_error("seccomp");
}

Result<void> enter_filter(Signals signals, Fstat fstat, unsigned allowances, Denied denied) {
    FilterBuilder builder(denied == Denied::told ? SCMP_ACT_TRAP : SCMP_ACT_ERRNO(EPERM),
                          SCMP_ACT_KILL_PROCESS);
    fill(builder, signals, allowances);
    if (fstat == Fstat::served) builder.trap("newfstatat", {is(3, AT_EMPTY_PATH)});
    if (denied == Denied::noted) builder.note_in_kernel_log();
    return builder.load();
}

std::vector<sock_filter> filter_program(unsigned allowances) {
    FilterBuilder builder(SCMP_ACT_ERRNO(EPERM), SCMP_ACT_KILL_PROCESS);
    fill(builder, Signals::landlock, allowances);
    builder.allow("newfstatat", {is(3, AT_EMPTY_PATH)});
    return builder.program();
}

}  // namespace fdbroker::worker
