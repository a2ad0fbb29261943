// SPDX-License-Identifier: MIT
// How the process of an opener executes its program anew, after an upgrade, and becomes its own successor: all descriptors
// stay open, and workers stay its children.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/base/wait_status.hpp"
#include "opener/supervisor/supervisor.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Error;
using proto::Result;
using proto::UniqueFd;

namespace {

Error execute(const std::string& program, const std::vector<std::string>& arguments) {
    std::vector<char*> all;
    for (const std::string& argument : arguments) all.push_back(const_cast<char*>(argument.c_str()));
    all.push_back(nullptr);
    ::execv(program.c_str(), all.data());
    return proto::system_error("execv", program).error();
}

// In a child that executes another program: as this process found them.
void restore_signals() {
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void run_trial(const std::string& program, std::vector<std::string> arguments,
                            const rlimit& files, const StartReport& report) {
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null || ::dup2(null.number(), STDIN_FILENO) < 0 || ::dup2(null.number(), STDOUT_FILENO) < 0 ||
        ::dup2(report.descriptor().number(), STDERR_FILENO) < 0)
        ::_exit(exit_failed);
    ::setrlimit(RLIMIT_NOFILE, &files);
    restore_signals();
    arguments.insert(arguments.begin() + 1, "--check");
    log_stderr(execute(program, arguments).message());
    ::_exit(exit_failed);
}

// Close-on-exec, or not, for as long as this lives.
class OpenOverExec {
  public:
    explicit OpenOverExec(std::vector<BorrowedFd> descriptors) : descriptors_(std::move(descriptors)) {
        set(0);
    }
    OpenOverExec(const OpenOverExec&) = delete;
    OpenOverExec& operator=(const OpenOverExec&) = delete;
    ~OpenOverExec() { set(FD_CLOEXEC); }

  private:
    void set(int flags) const {
        for (const BorrowedFd descriptor : descriptors_) ::fcntl(descriptor.number(), F_SETFD, flags);
    }
    std::vector<BorrowedFd> descriptors_;
};

}  // namespace

// By --check, which loads the policy and confines a child: what is in the way there costs nobody a connection.
void Supervisor::try_out(ConnectionId asker) {
    if (stopping_) return answer(asker, CommandResult::refused);
    if (std::ranges::find(take_over_askers_, asker) == take_over_askers_.end())
        take_over_askers_.push_back(asker);
    if (trial_) return;
    const auto fail = [this](const Error& error) {
        log_stderr("the program is not executed anew: " + error.message());
        for (const ConnectionId each : std::exchange(take_over_askers_, {}))
            answer(each, CommandResult::failed);
    };
    auto report = StartReport::create();
    if (!report) return fail(report.error());
    std::fflush(nullptr);
    const pid_t pid = ::fork();
    if (pid < 0) return fail(proto::system_error("fork").error());
    if (pid == 0) run_trial(invocation_.program, invocation_.arguments, worker_files_, *report);
    trial_.emplace(Trial{pid, std::move(*report), Clock::now() + options_.start_timeout});
}

void Supervisor::tried_out(int status) {
    const SharedFile said = std::make_shared<const UniqueFd>(trial_->report.take());
    trial_.reset();
    if (WIFEXITED(status) && WEXITSTATUS(status) == exit_done && !stopping_) return stop(Heir::successor);
    if (!stopping_)
        log_stderr(fmt::format("the program is not executed anew: {} --check {}", invocation_.program,
                               describe_end(status)));
    const bool invalid = WIFEXITED(status) && WEXITSTATUS(status) == exit_policy;
    auto result = invalid ? CommandResult::invalid : CommandResult::failed;
    if (stopping_) result = CommandResult::refused;
    for (const ConnectionId asker : std::exchange(take_over_askers_, {})) answer(asker, result, said);
}

void Supervisor::become_successor() {
    static_cast<void>(log_.drain());
    Legacy left = legacy();
    std::vector<BorrowedFd> open;
    const auto leave = [&](BorrowedFd descriptor, std::string_view name) {
        open.push_back(descriptor);
        left.descriptors.push_back({std::string(name), descriptor.number()});
    };
    for (const Listener& listener : reception_.listeners())
        leave(listener.descriptor(),
              listener.is_passed() ? std::string_view(listener.name()) : listener_name);
    for (const auto& [token, connection] : connections_.all())
        leave(connection.socket.borrow(), connection_name);
    if (workers_)
        for (const BorrowedFd channel : workers_->channels()) leave(channel, connection_name);
    if (policy_) leave(policy_->file(), policy_name);
    const auto file = left.in_sealed_file();
    if (!file) return go_on(file.error());
    open.push_back(file->borrow());

    const OpenOverExec stays(std::move(open));
    ::setenv(legacy_variable, std::to_string(file->number()).c_str(), 1);
    rlimit raised{};
    ::getrlimit(RLIMIT_NOFILE, &raised);
    ::setrlimit(RLIMIT_NOFILE, &worker_files_);
    // Blocked, so that it waits for the successor.
    if (signal_for_successor_ != 0) ::raise(signal_for_successor_);
    const Error obstacle = execute(invocation_.program, invocation_.arguments);
    ::setrlimit(RLIMIT_NOFILE, &raised);
    ::unsetenv(legacy_variable);
    go_on(obstacle);
}

// Nobody has been told anything yet but the generation that has ended: another one gets the connections.
void Supervisor::go_on(const Error& obstacle) {
    log_stderr("the program is not executed anew, and the opener goes on: " + obstacle.message());
    stopping_ = false;
    retiring_ = false;
    signal_for_successor_ = 0;
    heir_ = Heir::none;
    for (const ConnectionId asker : std::exchange(take_over_askers_, {}))
        answer(asker, CommandResult::failed);
    if (auto watching = reception_.watch(); !watching) log_stderr(watching.error().message());
    start_generation(policy_ ? Start::restart : Start::first, "the program could not be executed anew");
}

}  // namespace fdbroker::opener
