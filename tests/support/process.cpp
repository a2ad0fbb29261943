// SPDX-License-Identifier: MIT
#include "tests/support/process.hpp"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace fdbroker::test {

namespace {

using proto::UniqueFd;

[[noreturn]] void fail(const char* call) {
    throw std::system_error(errno, std::generic_category(), call);
}

struct Pipe {
    UniqueFd read_end;
    UniqueFd write_end;
};

Pipe make_pipe() {
    std::array<int, 2> ends;
    if (::pipe2(ends.data(), O_CLOEXEC) < 0) fail("pipe2");
    return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

UniqueFd standard_input(const std::string& content) {
    UniqueFd memory(::memfd_create("input", MFD_CLOEXEC));
    if (!memory) fail("memfd_create");
    if (::write(memory.number(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
        fail("write");
    }
    if (::lseek(memory.number(), 0, SEEK_SET) < 0) fail("lseek");
    return memory;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
    std::vector<char*> result;
    for (std::string& string : strings) result.push_back(string.data());
    result.push_back(nullptr);
    return result;
}

std::vector<std::string> environment_of(const Command& command) {
    std::map<std::string, std::string> variables = command.environment;
    variables.try_emplace("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    variables.try_emplace("LC_ALL", "C.UTF-8");
    std::vector<std::string> result;
    for (const auto& [name, value] : variables) result.push_back(name + '=' + value);
    return result;
}

// Between fork and exec: what fails is told as "step\0" + errno through `report`.
class Launch {
  public:
    Launch(const Command& command, int input, int out, int err, int report)
        : command_(command), input_(input), out_(out), err_(err), report_(report) {}

    [[noreturn]] void go(char* const* arguments, char* const* environment) {
        place_descriptors();
        become();
        require(::chdir(command_.directory.c_str()), "chdir");
        sigset_t none;
        ::sigemptyset(&none);
        require(::sigprocmask(SIG_SETMASK, &none, nullptr), "sigprocmask");
        ::execvpe(arguments[0], arguments, environment);
        give_up("execvpe");
    }

  private:
    [[noreturn]] void give_up(const char* step) const {
        const std::string text = std::string(step) + ": " + std::strerror(errno);
        (void)!::write(report_, text.data(), text.size());
        ::_exit(127);
    }
    void require(int result, const char* step) const {
        if (result < 0) give_up(step);
    }

    // Everything goes out of the way first, so that no number that is wanted overwrites one still needed.
    void place_descriptors() {
        // Also what the test itself was left by whoever started it.
        require(::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC), "close_range");
        constexpr int out_of_the_way = 700;
        std::map<int, int> wanted{{0, input_}, {1, out_}, {2, err_}};
        for (const auto& [number, descriptor] : command_.descriptors) wanted[number] = descriptor.number();
        for (auto& [number, source] : wanted) {
            source = ::fcntl(source, F_DUPFD_CLOEXEC, out_of_the_way);
            require(source, "fcntl");
        }
        report_ = ::fcntl(report_, F_DUPFD_CLOEXEC, out_of_the_way);
        for (const auto& [number, source] : wanted) require(::dup2(source, number), "dup2");
    }

    void become() const {
        if (!command_.identity) return;
        const Identity& identity = *command_.identity;
        require(::setgroups(identity.groups.size(), identity.groups.data()), "setgroups");
        require(::setresgid(identity.gid, identity.gid, identity.gid), "setresgid");
        require(::setresuid(identity.uid, identity.uid, identity.uid), "setresuid");
    }

    const Command& command_;
    int input_;
    int out_;
    int err_;
    int report_;
};

// Empty when exec closed the pipe, which is when the program runs.
std::string read_report(const UniqueFd& pipe) {
    std::array<char, 256> text;
    const ssize_t size = ::read(pipe.number(), text.data(), text.size());
    return size > 0 ? std::string(text.data(), static_cast<std::size_t>(size)) : std::string();
}

}  // namespace

Process Process::start(const Command& command) {
    std::vector<std::string> arguments = command.arguments;
    std::vector<std::string> environment = environment_of(command);
    const std::vector<char*> argument_pointers = pointers(arguments);
    const std::vector<char*> environment_pointers = pointers(environment);
    const UniqueFd input = standard_input(command.input);
    Pipe out = make_pipe();
    Pipe err = make_pipe();
    Pipe report = make_pipe();

    const pid_t pid = ::fork();
    if (pid < 0) fail("fork");
    if (pid == 0) {
        Launch launch(command, input.number(), out.write_end.number(), err.write_end.number(),
                      report.write_end.number());
        launch.go(argument_pointers.data(), environment_pointers.data());
    }
    report.write_end.reset();
    const std::string failure = read_report(report.read_end);
    UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    Process process(pid, std::move(pidfd), std::move(out.read_end), std::move(err.read_end));
    if (!failure.empty())
        throw std::runtime_error("cannot start " + command.arguments.at(0) + ": " + failure);
    return process;
}

Process::Process(pid_t pid, UniqueFd pidfd, UniqueFd out, UniqueFd err)
    : pid_(pid), pidfd_(std::move(pidfd)), out_{std::move(out)}, err_{std::move(err)} {}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      out_(std::move(other.out_)),
      err_(std::move(other.err_)) {}

Process::~Process() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

void Process::signal(int number) const {
    if (::kill(pid_, number) < 0) fail("kill");
}

const std::string& Process::wait_for_output(std::string_view text, Deadline deadline) {
    wait_for_text(out_, text, deadline);
    return out_.text;
}

const std::string& Process::wait_for_error(std::string_view text, Deadline deadline) {
    wait_for_text(err_, text, deadline);
    return err_.text;
}

void Process::wait_for_text(const Stream& stream, std::string_view text, Deadline deadline) {
    while (stream.text.find(text) == std::string::npos) {
        if (!stream.pipe) give_up("ended without writing '" + std::string(text) + "'");
        read_some({}, deadline);
    }
}

Outcome Process::wait(Deadline deadline) {
    // The end of the process counts, not that of the pipes: a grandchild may hold them open for longer.
    while (true) {
        siginfo_t ended{};
        if (::waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT) < 0) fail("waitid");
        if (ended.si_pid == pid_) break;
        read_some(pidfd_.borrow(), deadline);
    }
    int status = 0;
    if (::waitpid(pid_, &status, 0) < 0) fail("waitpid");
    pid_ = -1;
    read_rest();
    return {.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
            .out = std::move(out_.text),
            .err = std::move(err_.text)};
}

namespace {

// Reads the available bytes once; false at the end of the stream.
bool read_once(const UniqueFd& pipe, std::string& text) {
    std::array<char, 65536> block;
    const ssize_t size = ::read(pipe.number(), block.data(), block.size());
    if (size > 0) text.append(block.data(), static_cast<std::size_t>(size));
    return size > 0;
}

}  // namespace

void Process::read_some(proto::BorrowedFd other_event, Deadline deadline) {
    // poll(2) passes over a negative number: no other event, or a stream that has ended.
    std::array<pollfd, 3> entries{{{other_event.number(), POLLIN, 0},
                                   {out_.pipe.number(), POLLIN, 0},
                                   {err_.pipe.number(), POLLIN, 0}}};
    const int ready = ::poll(entries.data(), entries.size(), milliseconds_until(deadline));
    if (ready < 0 && errno != EINTR) fail("poll");
    if (ready == 0) give_up("did not come to it before the deadline");
    if (entries[1].revents != 0 && !read_once(out_.pipe, out_.text)) out_.pipe.reset();
    if (entries[2].revents != 0 && !read_once(err_.pipe, err_.text)) err_.pipe.reset();
}

void Process::read_rest() {
    for (Stream* stream : {&out_, &err_}) {
        if (!stream->pipe) continue;
        pollfd entry{stream->pipe.number(), POLLIN, 0};
        while (::poll(&entry, 1, 0) > 0 && read_once(stream->pipe, stream->text)) {
        }
        stream->pipe.reset();
    }
}

void Process::give_up(const std::string& what) const {
    throw std::runtime_error("process " + std::to_string(pid_) + ' ' + what +
                             "\nstandard output: " + out_.text + "\nstandard error: " + err_.text);
}

Outcome run(const Command& command, Deadline deadline) {
    return Process::start(command).wait(deadline);
}

std::string opener_program() {
    return FDBROKER_BUILD_ROOT "/opener/opener";
}
std::string openerctl_program() {
    return FDBROKER_BUILD_ROOT "/opener/ctl/openerctl";
}
std::string worker_program() {
    return FDBROKER_BUILD_ROOT "/worker/worker";
}

}  // namespace fdbroker::test
