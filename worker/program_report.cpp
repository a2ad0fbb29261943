// SPDX-License-Identifier: MIT
#include "worker/program_report.hpp"

#include <fmt/format.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string_view>
#include <tuple>

#include "proto/printable.hpp"
#include "worker/commands.hpp"
#include "worker/sandbox/filter.hpp"
#include "worker/sandbox/filter_run.hpp"

namespace fdbroker::worker {
namespace {

using proto::Result;
using proto::system_error;

// A call, the number of the argument that is a path (negative: none), and the answer of a port.
struct Known {
    std::string_view name;
    int path;
    std::string_view instead;
};

constexpr std::string_view before = "do it before confinement";
constexpr std::array known{
    Known{"open", 0, "fdbroker_open()"},
    Known{"openat", 1, "fdbroker_open()"},
    Known{"openat2", 1, "fdbroker_open()"},
    Known{"creat", 0, "fdbroker_open()"},
    Known{"stat", 0, "fdbroker_stat_posix()"},
    Known{"lstat", 0, "fdbroker_stat_posix()"},
    Known{"newfstatat", 1, "fdbroker_stat_posix()"},
    Known{"statx", 1, "fdbroker_stat()"},
    Known{"access", 0, "fdbroker_access()"},
    Known{"faccessat", 1, "fdbroker_access()"},
    Known{"faccessat2", 1, "fdbroker_access()"},
    Known{"readlink", 0, "fdbroker_readlink()"},
    Known{"readlinkat", 1, "fdbroker_readlink()"},
    Known{"getdents64", -1, "fdbroker_opendir()"},
    Known{"chdir", 0, "fdbroker_set_directory()"},
    Known{"fchdir", -1, "fdbroker_set_directory()"},
    Known{"getcwd", -1, "remember fdbroker_set_directory()"},
    Known{"mkdir", 0, "fdbroker_mkdir()"},
    Known{"mkdirat", 1, "fdbroker_mkdir()"},
    Known{"unlink", 0, "fdbroker_remove()"},
    Known{"unlinkat", 1, "fdbroker_remove()"},
    Known{"rmdir", 0, "fdbroker_remove()"},
    Known{"rename", 0, "fdbroker_rename()"},
    Known{"renameat", 1, "fdbroker_rename()"},
    Known{"renameat2", 1, "fdbroker_rename()"},
    Known{"symlink", 1, "fdbroker_symlink()"},
    Known{"symlinkat", 2, "fdbroker_symlink()"},
    Known{"chmod", 0, "fdbroker_setattr()"},
    Known{"fchmodat", 1, "fdbroker_setattr()"},
    Known{"truncate", 0, "fdbroker_open() and ftruncate(2)"},
    Known{"fchmod", -1, "FDBROKER_ALLOW_OWN_ATTRIBUTES"},
    Known{"utimensat", 1, "fdbroker_setattr(), or FDBROKER_ALLOW_OWN_ATTRIBUTES"},
    Known{"fgetxattr", -1, "FDBROKER_ALLOW_OWN_ATTRIBUTES"},
    Known{"getxattr", 0, "fdbroker_getxattr()"},
    Known{"setxattr", 0, "fdbroker_setxattr()"},
    Known{"inotify_init1", -1, "fdbroker_watch()"},
    Known{"inotify_add_watch", 1, "fdbroker_watch()"},
    Known{"listen", -1, "FDBROKER_ALLOW_LISTEN"},
    Known{"socketpair", -1, "FDBROKER_ALLOW_SOCKETPAIR"},
    Known{"setsockopt", -1, "FDBROKER_ALLOW_TCP_OPTIONS"},
    Known{"getsockopt", -1, "FDBROKER_ALLOW_TCP_OPTIONS"},
    Known{"sendto", -1, "FDBROKER_ALLOW_UDP"},
    Known{"sched_setaffinity", -1, "FDBROKER_ALLOW_SCHEDULING"},
    Known{"setpriority", -1, "FDBROKER_ALLOW_SCHEDULING"},
    Known{"socket", -1, before},
    Known{"bind", -1, before},
    Known{"connect", -1, before},
    Known{"execve", 0, "nothing: a confined process starts no program"},
};

// Files that the C library opens by itself, and what a port does about that.
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> habits{{
    {"/etc/localtime", "fdbroker_prepare() before"},
    {"/zoneinfo/", "fdbroker_prepare() before"},
    {"/locale", "setlocale() before"},
    {"/gconv", "iconv_open() before"},
    {"/etc/passwd", "look up before"},
    {"/etc/group", "look up before"},
    {"/etc/nsswitch.conf", "look up before"},
    {"/dev/urandom", "getrandom(2), or a rule for the device"},
    {".so", "load before"},
}};

const Known* find_known(std::string_view name) {
    const auto* const found = std::ranges::find(known, name, &Known::name);
    return found == known.end() ? nullptr : found;
}

std::string_view instead_of(std::string_view name, std::string_view path) {
    for (const auto& [part, answer] : habits)
        if (path.contains(part)) return answer;
    const Known* call = find_known(name);
    return call == nullptr ? "" : call->instead;
}

std::string name_of(std::uint64_t number) {
    const std::unique_ptr<char, decltype(&::free)> name(
        ::seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(number)), &::free);
    return name ? name.get() : "call " + std::to_string(number);
}

// A text of the traced process, as far as it can be read.
std::string text_at(pid_t process, std::uint64_t address) {
    std::string text;
    while (text.size() < 4096) {
        std::array<char, 256> piece;
        // Not over a page's end, behind which nothing may be.
        const std::size_t size = std::min<std::size_t>(piece.size(), 4096 - address % 4096);
        const iovec to{.iov_base = piece.data(), .iov_len = size};
        const iovec from{.iov_base = reinterpret_cast<void*>(address), .iov_len = size};
        const ssize_t got = ::process_vm_readv(process, &to, 1, &from, 1, 0);
        if (got <= 0) break;
        const std::string_view read(piece.data(), static_cast<std::size_t>(got));
        const std::size_t end = read.find('\0');
        text.append(read.substr(0, end));
        if (end != std::string_view::npos) break;
        address += static_cast<std::uint64_t>(got);
    }
    return text;
}

// Whether that address lies in the dynamic loader.
bool is_loaders(pid_t process, std::uint64_t address) {
    std::ifstream maps("/proc/" + std::to_string(process) + "/maps");
    for (std::string line; std::getline(maps, line);) {
        std::istringstream fields(line);
        std::uint64_t begin = 0;
        std::uint64_t end = 0;
        char dash = 0;
        fields >> std::hex >> begin >> dash >> end;
        if (address < begin || address >= end) continue;
        const std::size_t slash = line.rfind('/');
        return slash != std::string::npos && std::string_view(line).substr(slash + 1).starts_with("ld-");
    }
    return false;
}

struct Denial {
    bool confined = false;  // after the program had confined itself
    std::string name{};
    std::string path{};
    auto operator<=>(const Denial&) const = default;
};

class Trace {
  public:
    explicit Trace(std::vector<sock_filter> filter) : filter_(std::move(filter)) {}

    // Until the program and all that it has started have ended.
    Result<void> follow(pid_t program);
    const std::map<Denial, unsigned>& denials() const { return denials_; }
    bool confined() const { return confined_; }

  private:
    void entered(pid_t process, const __ptrace_syscall_info& call);
    int stopped(pid_t process, int status);

    static constexpr std::size_t most = 10'000;  // different ones

    std::vector<sock_filter> filter_;
    std::map<Denial, unsigned> denials_{};
    bool executed_ = false;  // the program is there, and its path has been found
    bool begun_ = false;     // the loader is done
    bool confined_ = false;
};

void Trace::entered(pid_t process, const __ptrace_syscall_info& call) {
    if (!begun_) begun_ = executed_ && !is_loaders(process, call.instruction_pointer);
    if (!begun_) return;
    seccomp_data data{.nr = static_cast<int>(call.entry.nr),
                      .arch = call.arch,
                      .instruction_pointer = call.instruction_pointer,
                      .args = {}};
    std::ranges::copy(call.entry.args, data.args);
    if (run_filter(filter_, data) == SECCOMP_RET_ALLOW) return;
    Denial denial{.confined = confined_, .name = name_of(call.entry.nr)};
    // Calls that confine are not told of.
    const bool filters =
        denial.name == "seccomp" || (denial.name == "prctl" && data.args[0] == PR_SET_SECCOMP);
    confined_ |= filters;
    if (filters || denial.name == "clone3" || (!confined_ && denial.name == "prctl")) return;
    const Known* about = find_known(denial.name);
    if (about != nullptr && about->path >= 0)
        denial.path = text_at(process, call.entry.args[static_cast<std::size_t>(about->path)]);
    if (denials_.size() < most || denials_.contains(denial)) ++denials_[denial];
}

// The signal to go on with.
int Trace::stopped(pid_t process, int status) {
    const int signal = WSTOPSIG(status);
    if (signal == (SIGTRAP | 0x80)) {
        __ptrace_syscall_info call{};
        if (::ptrace(PTRACE_GET_SYSCALL_INFO, process, sizeof call, &call) > 0 &&
            call.op == PTRACE_SYSCALL_INFO_ENTRY)
            entered(process, call);
        return 0;
    }
    const bool event = status >> 16 != 0;
    if (event && status >> 16 == PTRACE_EVENT_EXEC && !confined_) {
        executed_ = true;
        begun_ = false;
    }
    // Those with which a tracee begins are the tracer's.
    return event || signal == SIGSTOP || signal == SIGTRAP ? 0 : signal;
}

Result<void> Trace::follow(pid_t program) {
    int status = 0;
    if (::waitpid(program, &status, __WALL) != program || !WIFSTOPPED(status))
        return system_error("trace", "the program does not begin", ECHILD);
    constexpr long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                             PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (::ptrace(PTRACE_SETOPTIONS, program, nullptr, options) != 0) return system_error("ptrace");
    pid_t process = program;
    int signal = 0;
    for (;;) {
        ::ptrace(PTRACE_SYSCALL, process, nullptr, signal);
        process = ::waitpid(-1, &status, __WALL);
        if (process < 0 && errno == EINTR) continue;
        if (process < 0) return {};
        signal = WIFSTOPPED(status) ? stopped(process, status) : 0;
    }
}

Result<pid_t> start(const std::vector<std::string>& command) {
    std::vector<char*> arguments;
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    const pid_t child = ::fork();
    if (child < 0) return system_error("fork");
    if (child > 0) return child;
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(126);
    ::raise(SIGSTOP);
    ::execvp(arguments.front(), arguments.data());
    const std::string why = fmt::format("worker: {}: {}\n", command.front(), ::strerrordesc_np(errno));
    if (::write(STDERR_FILENO, why.data(), why.size()) < 0) ::_exit(126);
    ::_exit(127);
}

void print_table(const std::string& program, const Trace& trace) {
    fmt::print(
        "{} {}\n", program,
        trace.confined() ? "confines itself." : "does not confine itself: what the filter would refuse.");
    for (const bool confined : {false, true}) {
        const auto counts = [confined](const auto& one) { return one.first.confined == confined; };
        if (std::ranges::none_of(trace.denials(), counts)) continue;
        if (trace.confined()) fmt::print("\n{} it confined itself:\n", confined ? "After" : "Before");
        fmt::print("\n{:>7}  {:<18}{:<42}{}\n", "times", "call", "path", "instead");
        for (const auto& [denial, times] : trace.denials())
            if (denial.confined == confined)
                fmt::print("{:>7}  {:<18}{:<41} {}\n", times, denial.name, proto::printable(denial.path),
                           instead_of(denial.name, denial.path));
    }
}

void print_json(const std::string& program, const Trace& trace) {
    nlohmann::ordered_json calls = nlohmann::ordered_json::array();
    for (const auto& [denial, times] : trace.denials())
        calls.push_back({{"call", denial.name},
                         {"path", proto::printable(denial.path)},
                         {"times", times},
                         {"after_confinement", denial.confined},
                         {"instead", instead_of(denial.name, denial.path)}});
    const nlohmann::ordered_json all{
        {"program", program}, {"confines_itself", trace.confined()}, {"calls", std::move(calls)}};
    fmt::print("{}\n", all.dump(2));
}

}  // namespace

ExitStatus program_report(const std::vector<std::string>& command, ReportFormat format) {
    const auto program = start(command);
    Trace trace(filter_program(0));
    const auto followed = program ? trace.follow(*program) : std::unexpected(program.error());
    if (!followed) {
        complain(followed.error().message());
        return ExitStatus::failed;
    }
    format == ReportFormat::json ? print_json(command.front(), trace) : print_table(command.front(), trace);
    const bool refused = std::ranges::any_of(
        trace.denials(), [&](const auto& one) { return one.first.confined || !trace.confined(); });
    return refused ? ExitStatus::failed : ExitStatus::done;
}

}  // namespace fdbroker::worker
