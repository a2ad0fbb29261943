// SPDX-License-Identifier: MIT
#include "worker/run/run.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>

#include "proto/channel.hpp"
#include "proto/environment.hpp"
#include "worker/run/answerer.hpp"
#include "worker/run/identities.hpp"
#include "worker/sandbox/sandbox.hpp"

namespace fdbroker::worker {
namespace {

using proto::BorrowedFd;
using proto::UniqueFd;
using proto::Wait;

constexpr int failed = static_cast<int>(ExitStatus::failed);

// Signals that are passed on when a process sent them; those of a terminal reach the program by themselves.
constexpr std::array passed_on{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH};

// Names that a program gets from this process's environment: language, terminal and time, nothing that leads to files or
// sockets.
constexpr std::array inherited{"LANG", "LANGUAGE", "TERM",    "COLORTERM", "NO_COLOR",
                               "TZ",   "USER",     "LOGNAME", "SHELL"};
constexpr std::string_view default_path = "/usr/local/bin:/usr/bin:/bin";

std::string working_directory() {
    std::array<char, PATH_MAX> path;
    return ::getcwd(path.data(), path.size()) == nullptr ? std::string() : std::string(path.data());
}

std::string why_no_namespaces(int error) {
    std::string text = std::strerror(error);
    if (error == EPERM)
        text +=
            "; the administrator permits user namespaces by kernel.unprivileged_userns_clone=1, by "
            "kernel.apparmor_restrict_unprivileged_userns=0 or a profile for this program, and in a chroot "
            "there "
            "are none";
    if (error == ENOSPC || error == EUSERS) text += "; user.max_user_namespaces is too small";
    return text;
}

class Launcher {
  public:
    // `notify`: connected to the service manager's socket; -1: there is none.
    Launcher(pid_t answerer, UniqueFd inside, UniqueFd signals, UniqueFd notify)
        : answerer_(answerer),
          inside_(std::move(inside)),
          signals_(std::move(signals)),
          notify_(std::move(notify)) {}

    // Until the answerer has ended; the program's status.
    int wait() {
        std::vector<BorrowedFd> kept{inside_.borrow(), signals_.borrow()};
        if (notify_) kept.push_back(notify_.borrow());
        const ConfineOptions options{.missing_layer = MissingLayer::go_on, .keep_only = std::move(kept)};
        if (const auto confined = confine(options); !confined) {
            complain("run: " + confined.error().message());
            ::kill(answerer_, SIGKILL);
        }
        for (;;) {
            std::array<pollfd, 2> waited{{{.fd = inside_.number(), .events = POLLIN, .revents = 0},
                                          {.fd = signals_.number(), .events = POLLIN, .revents = 0}}};
            if (::poll(waited.data(), waited.size(), -1) < 0) continue;
            if (waited[0].revents != 0) serve_inside();
            if (waited[1].revents != 0) take_signal();
            int status = 0;
            if (::waitpid(answerer_, &status, WNOHANG) != answerer_) continue;
            // All processes that could write to it have ended.
            while (inside_) serve_inside();
            return end(status);
        }
    }

  private:
    static int end(int status) {
        if (WIFEXITED(status)) return WEXITSTATUS(status);
        complain(fmt::format("run: the process that answers was ended by signal {}, and the program with it",
                             WTERMSIG(status)));
        return 128 + WTERMSIG(status);
    }

    void serve_inside() {
        std::array<std::byte, 1 + max_notification> message;
        std::size_t size = 0;
        switch (serve_identity(inside_.borrow(), message, size)) {
            case Served::question:
                return;
            case Served::other:
                return be_told(std::span(message).first(size));
            case Served::over:
                inside_.reset();  // poll(2) passes over it
                return;
        }
    }

    // The service manager knows this process, and none that it has started.
    void be_told(std::span<const std::byte> message) const {
        const char kind = std::to_integer<char>(message.front());
        if (kind == program_stopped) ::kill(::getpid(), SIGSTOP);
        if (kind == program_notifies && notify_)
            static_cast<void>(proto::send(notify_.borrow(), message.subspan(1), {}, Wait::never));
    }

    void take_signal() {
        signalfd_siginfo told;
        if (::read(signals_.number(), &told, sizeof told) != sizeof told || told.ssi_signo == SIGCHLD) return;
        const bool by_process = told.ssi_code <= 0;
        if (!by_process || !inside_) return;
        const std::array message{static_cast<std::byte>(told.ssi_signo)};
        static_cast<void>(proto::send(inside_.borrow(), message, {}, Wait::never));
    }

    pid_t answerer_;
    UniqueFd inside_;
    UniqueFd signals_;
    UniqueFd notify_;
};

// systemd's socket for sd_notify(3), when this process is a service that has one. The environment for the program then
// names the one that it has instead.
UniqueFd connect_notify(std::vector<std::string>& environment) {
    const char* path = std::getenv("NOTIFY_SOCKET");
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    const std::string_view name(path == nullptr ? "" : path);
    if (name.empty() || name.size() >= sizeof address.sun_path) return {};
    name.copy(address.sun_path, sizeof address.sun_path - 1);
    if (name.starts_with('@')) address.sun_path[0] = '\0';
    UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    if (!socket || ::connect(socket.number(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
        complain("run: NOTIFY_SOCKET: " + std::string(std::strerror(errno)));
        return {};
    }
    proto::set_variable(environment, "NOTIFY_SOCKET=" + std::string(notify_path));
    // WATCHDOG_PID, if it is there, names this process; without it the program feels meant.
    if (const char* interval = std::getenv("WATCHDOG_USEC"); interval != nullptr)
        proto::set_variable(environment, "WATCHDOG_USEC=" + std::string(interval));
    return socket;
}

UniqueFd watch_signals() {
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    for (const int signal : passed_on) sigaddset(&watched, signal);
    ::sigprocmask(SIG_BLOCK, &watched, nullptr);
    return UniqueFd(::signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK));
}

std::string default_home() {
    const char* home = std::getenv("HOME");
    return home == nullptr ? "/" : home;
}

void inherit(std::vector<std::string>& environment, const std::string& name) {
    if (const char* value = std::getenv(name.c_str()); value != nullptr)
        proto::set_variable(environment, name + "=" + value);
}

}  // namespace

std::vector<std::string> default_runtime() {
    // /usr and the links into it; where these are no links, the directories. The C library and its loader have files in
    // /etc. Without the links of Debian's alternatives awk, vi and java are not to be found.
    return {"/usr",
            "/bin",
            "/sbin",
            "/lib",
            "/lib32",
            "/lib64",
            "/libx32",
            "/etc/ld.so.cache",
            "/etc/ld.so.preload",
            "/etc/locale.alias",
            "/etc/alternatives"};
}

std::vector<std::string> program_environment(const std::vector<std::string>& wanted, Scratch scratch) {
    std::vector<std::string> environment{"PATH=" + std::string(default_path)};
    for (const char* name : inherited) inherit(environment, name);
    for (char** variable = environ; *variable != nullptr; ++variable)
        if (std::string_view(*variable).starts_with("LC_")) environment.emplace_back(*variable);
    const std::string scratch_home(scratch_path);
    proto::set_variable(environment, "HOME=" + (scratch == Scratch::own ? scratch_home : default_home()));
    if (scratch == Scratch::own) proto::set_variable(environment, "TMPDIR=" + scratch_home);
    for (const std::string& variable : wanted) {
        if (variable.contains('='))
            proto::set_variable(environment, variable);
        else
            inherit(environment, variable);
    }
    return environment;
}

int run_program(RunOptions options, Connection& connection) {
    std::vector<BorrowedFd> kept = connection.descriptors();
    static_cast<void>(close_all_but(kept));
    UniqueFd learn;
    if (!options.learn.empty()) {
        learn = UniqueFd(::open(options.learn.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
        if (!learn) {
            complain("--learn: " + options.learn + ": " + std::strerror(errno));
            return failed;
        }
    }
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        complain(std::string("run: socketpair: ") + std::strerror(errno));
        return failed;
    }
    UniqueFd outside(ends[0]);
    UniqueFd inside(ends[1]);
    UniqueFd signals = watch_signals();
    UniqueFd notify = connect_notify(options.environment);
    const Launch launch{.options = options,
                        .connection = connection,
                        .uid = ::geteuid(),
                        .gid = ::getegid(),
                        .directory = working_directory(),
                        .launcher = inside.borrow(),
                        .learn = learn.borrow(),
                        .passes_notify_on = static_cast<bool>(notify)};
    constexpr long namespaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC;
    const long answerer = ::syscall(SYS_clone, namespaces | SIGCHLD, 0, 0, 0, 0);
    if (answerer < 0) {
        complain("run: namespaces: " + why_no_namespaces(errno));
        return failed;
    }
    if (answerer == 0) {
        outside.reset();
        signals.reset();
        notify.reset();
        run_answerer(launch);
    }
    inside.reset();
    learn.reset();
    connection.abandon();
    return Launcher(static_cast<pid_t>(answerer), std::move(outside), std::move(signals), std::move(notify))
        .wait();
}

}  // namespace fdbroker::worker
