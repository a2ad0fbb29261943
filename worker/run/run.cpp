// SPDX-License-Identifier: MIT
#include "worker/run/run.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "proto/channel.hpp"
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
// sockets. NOTIFY_SOCKET is systemd's, for Type=notify.
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
    Launcher(pid_t answerer, UniqueFd inside, UniqueFd signals)
        : answerer_(answerer), inside_(std::move(inside)), signals_(std::move(signals)) {}

    // Until the answerer has ended; the program's status.
    int wait() {
        const std::array kept{inside_.borrow(), signals_.borrow()};
        const ConfineOptions options{.missing_layer = MissingLayer::go_on,
                                     .keep_only = std::vector<BorrowedFd>(kept.begin(), kept.end())};
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
            if (::waitpid(answerer_, &status, WNOHANG) == answerer_) return end(status);
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
        std::array<std::byte, 1> message;
        // Questions bring a file; what stands alone tells that the program has stopped.
        switch (serve_identity(inside_.borrow(), message)) {
            case Served::question:
                return;
            case Served::other:
                if (std::to_integer<char>(message[0]) == program_stopped) ::kill(::getpid(), SIGSTOP);
                return;
            case Served::over:
                inside_.reset();  // poll(2) passes over it
                return;
        }
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
};

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

void set(std::vector<std::string>& environment, std::string variable) {
    const auto name = variable.substr(0, variable.find('=') + 1);
    const auto same =
        std::ranges::find_if(environment, [&](const std::string& other) { return other.starts_with(name); });
    if (same == environment.end())
        environment.push_back(std::move(variable));
    else
        *same = std::move(variable);
}

void inherit(std::vector<std::string>& environment, const std::string& name) {
    if (const char* value = std::getenv(name.c_str()); value != nullptr) set(environment, name + "=" + value);
}

}  // namespace

std::vector<std::string> default_runtime() {
    // /usr and the links into it; where these are no links, the directories. The files of the C library and its loader, and
    // the links of Debian's alternatives, without which awk, vi and java are not to be found.
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
    set(environment, "HOME=" + (scratch == Scratch::own ? scratch_home : default_home()));
    if (scratch == Scratch::own) set(environment, "TMPDIR=" + scratch_home);
    for (const std::string& variable : wanted) {
        if (variable.contains('='))
            set(environment, variable);
        else
            inherit(environment, variable);
    }
    return environment;
}

int run_program(const RunOptions& options, Connection& connection) {
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
    const Launch launch{.options = options,
                        .connection = connection,
                        .uid = ::geteuid(),
                        .gid = ::getegid(),
                        .directory = working_directory(),
                        .launcher = inside.borrow(),
                        .learn = learn.borrow()};
    constexpr long namespaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC;
    const long answerer = ::syscall(SYS_clone, namespaces | SIGCHLD, 0, 0, 0, 0);
    if (answerer < 0) {
        complain("run: namespaces: " + why_no_namespaces(errno));
        return failed;
    }
    if (answerer == 0) {
        outside.reset();
        signals.reset();
        run_answerer(launch);
    }
    inside.reset();
    learn.reset();
    connection.abandon();
    return Launcher(static_cast<pid_t>(answerer), std::move(outside), std::move(signals)).wait();
}

}  // namespace fdbroker::worker
