// SPDX-License-Identifier: MIT
#include "worker/run/answerer.hpp"

#include <cap-ng.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "proto/channel.hpp"
#include "proto/payload.hpp"
#include "worker/run/answer_loop.hpp"
#include "worker/run/program_filter.hpp"
#include "worker/sandbox/filter_builder.hpp"
#include "worker/sandbox/namespaces.hpp"

namespace fdbroker::worker {
namespace {

using proto::BorrowedFd;
using proto::Result;
using proto::system_error;
using proto::UniqueFd;
using proto::Wait;

constexpr int not_found = 127;  // as sh(1) has it
constexpr int not_startable = 126;
constexpr int first_abi_with_scopes = 6;  // landlock(7)
constexpr rlim_t most_processes = 4096;

[[noreturn]] void give_up(const proto::Error& error) {
    complain("run: " + error.message());
    ::_exit(static_cast<int>(ExitStatus::failed));
}

template <typename T>
T or_give_up(Result<T> result) {
    if (!result) give_up(result.error());
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// ---- the program's side ----------------------------------------------------------------------------------

Result<void> drop_all_capabilities() {
    // The ambient set goes with the others: capabilities(7). no_new_privs makes the bounding set a dead letter.
    ::capng_clear(CAPNG_SELECT_ALL);
    if (::capng_apply(CAPNG_SELECT_CAPS) != 0) return system_error("capabilities", "drop them", EPERM);
    return {};
}

void limit_processes() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NPROC, &limit) != 0) return;
    limit.rlim_cur = std::min(limit.rlim_cur, most_processes);
    ::setrlimit(RLIMIT_NPROC, &limit);
}

[[noreturn]] void become_program(const Launch& launch, const View& view, int landlock_abi,
                                 UniqueFd answerer) {
    sigset_t none;
    sigemptyset(&none);
    for (const int signal : {SIGPIPE, SIGCHLD}) std::signal(signal, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    limit_processes();
    or_give_up(drop_all_capabilities());
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        give_up({.errno_value = errno, .operation = "no_new_privs"});
    or_give_up(restrict_by_landlock(landlock_abi, view.program_rules(), launch.options.network));
    std::vector<char*> arguments;
    for (const std::string& argument : launch.options.command)
        arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    std::vector<char*> environment;
    for (const std::string& variable : launch.options.environment)
        environment.push_back(const_cast<char*>(variable.c_str()));
    environment.push_back(nullptr);
    ::clearenv();
    for (char* variable : environment)
        if (variable != nullptr) ::putenv(variable);
    const LocalSockets local =
        landlock_abi >= first_abi_with_scopes ? LocalSockets::allowed : LocalSockets::none;
    const auto listener = or_give_up(enter_program_filter(launch.options.network, local));
    const BorrowedFd sent = listener.borrow();
    constexpr std::array message{std::byte{'L'}};
    or_give_up(proto::send(answerer.borrow(), message, std::span(&sent, 1), Wait::block));
    ::execvp(arguments.front(), arguments.data());
    const int error = errno;
    complain(launch.options.command.front() + ": " + std::strerror(error));
    ::_exit(error == ENOENT ? not_found : not_startable);
}

// ---- this side -------------------------------------------------------------------------------------------

// Before the program is there: Landlock lets a process see into another only when its own domain is an outer one, so that
// this one's has the rights of both. No scope, and the network as the program has it.
Result<void> restrict_files(const Launch& launch, const View& view, BorrowedFd proc, int landlock_abi) {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return system_error("no_new_privs");
    return restrict_by_landlock(landlock_abi, view.worker_rules(proc), launch.options.network, Scopes::none);
}

// Capabilities: CAP_SYS_PTRACE alone, for the program's memory and descriptors; the pid namespace holds nobody else.
// System calls: those that look at the view, make stand-ins, and speak to the program, the broker and the launcher.
Result<void> confine_answerer() {
    // The bounding set matters to execve(2) alone, which the filter refuses.
    ::capng_clear(CAPNG_SELECT_ALL);
    ::capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED), CAP_SYS_PTRACE);
    if (::capng_apply(CAPNG_SELECT_CAPS) != 0) return system_error("capabilities", "drop them", EPERM);
    ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    constexpr std::array paths{"open",      "openat",     "openat2",  "readlink", "readlinkat", "stat",
                               "lstat",     "newfstatat", "statx",    "access",   "faccessat",  "faccessat2",
                               "mkdir",     "mkdirat",    "unlink",   "unlinkat", "rmdir",      "symlink",
                               "symlinkat", "rename",     "renameat", "renameat2"};
    constexpr std::array others{"process_vm_readv",
                                "process_vm_writev",
                                "pidfd_open",
                                "pidfd_getfd",
                                "kill",
                                "sendmsg",
                                "sendto",
                                "fcntl",
                                "fchmod",
                                "fchown"};
    FilterBuilder builder(SCMP_ACT_ERRNO(EPERM), SCMP_ACT_KILL_PROCESS);
    builder.allow_all(harmless_calls());
    builder.allow_all(paths);
    builder.allow_all(others);
    builder.allow("utimensat", {is(1, 0)});  // by descriptor
    builder.allow_values(
        "ioctl", 1,
        {static_cast<unsigned>(SECCOMP_IOCTL_NOTIF_RECV), static_cast<unsigned>(SECCOMP_IOCTL_NOTIF_SEND),
         static_cast<unsigned>(SECCOMP_IOCTL_NOTIF_ID_VALID),
         static_cast<unsigned>(SECCOMP_IOCTL_NOTIF_ADDFD), Listener::set_flags_request});
    return builder.load();
}

UniqueFd receive_listener(const UniqueFd& program) {
    std::array<std::byte, 1> message;
    proto::ReceivedDescriptors descriptors;
    const auto received =
        proto::receive(program.borrow(), message, descriptors, Wait::block, proto::FullTable::fail);
    // The program has complained.
    if (!received || descriptors.count() != 1) ::_exit(static_cast<int>(ExitStatus::failed));
    return descriptors.take(0);
}

// The program begins where it would have begun outside, when the broker lets it know of that directory.
void enter_directory(const Launch& launch, const View& view) {
    if (launch.directory.empty() || view.region_of(launch.directory) == Region::process) return;
    if (view.region_of(launch.directory) == Region::brokered) {
        std::string answer;
        const Ask ask{
            .call = proto::Call::stat, .path = launch.directory.c_str(), .flags = AT_SYMLINK_NOFOLLOW};
        if (launch.connection.ask(ask, &answer) < 0) return;
        const auto status = proto::read_status(answer);
        if (!status || !S_ISDIR(status->mode) || !view.make_directory(launch.directory)) return;
    }
    if (::chdir(launch.directory.c_str()) != 0)
        complain("run: " + launch.directory + ": " + std::strerror(errno));
}

// The socket to which the program sends what sd_notify(3) has. The program and this process are the same user.
Result<UniqueFd> make_notify_socket(const View& view) {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    notify_path.copy(address.sun_path, sizeof address.sun_path - 1);
    const std::string directory(notify_path.substr(0, notify_path.rfind('/')));
    if (const auto made = view.make_directory(directory); !made)
        return system_error("run", directory, made.error());
    UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket || ::bind(socket.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return system_error("run", std::string(notify_path));
    return socket;
}

UniqueFd watch_children() {
    sigset_t watched;
    sigfillset(&watched);
    ::sigprocmask(SIG_SETMASK, &watched, nullptr);
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    return UniqueFd(::signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK));
}

}  // namespace

void run_answerer(const Launch& launch) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    or_give_up(keep_own_ids(launch.uid, launch.gid));
    const UniqueFd signals = watch_children();
    const int abi = or_give_up(landlock_abi());
    // While the old one is in sight: user_namespaces(7) permits no procfs that shows more.
    const UniqueFd proc = or_give_up(new_filesystem(
        "proc", {}, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
    const View view = or_give_up(View::enter(launch.options.runtime, launch.options.scratch));
    enter_directory(launch, view);
    const UniqueFd notify = launch.passes_notify_on ? or_give_up(make_notify_socket(view)) : UniqueFd();
    or_give_up(restrict_files(launch, view, proc.borrow(), abi));
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        give_up({.errno_value = errno, .operation = "socketpair"});
    UniqueFd ours(ends[0]);
    UniqueFd programs(ends[1]);
    const pid_t program = ::_Fork();
    if (program < 0) give_up({.errno_value = errno, .operation = "fork"});
    if (program == 0) become_program(launch, view, abi, std::move(programs));
    programs.reset();
    // While the program makes its filter.
    or_give_up(confine_answerer());
    Listener listener(receive_listener(ours));
    listener.wake_on_same_core();
    ours.reset();
    AnswerLoop loop(launch, view, std::move(listener), proc.borrow(), program,
                    {.signals = signals.borrow(), .notify = notify.borrow()});
    ::_exit(loop.serve());
}

}  // namespace fdbroker::worker
