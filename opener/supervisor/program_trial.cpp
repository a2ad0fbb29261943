// SPDX-License-Identifier: MIT
#include "opener/supervisor/program_trial.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/base/wait_status.hpp"

namespace fdbroker::opener {

using proto::Error;
using proto::UniqueFd;

namespace {

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
    log_stderr(execute_program(program, arguments).message());
    ::_exit(exit_failed);
}

}  // namespace

Error execute_program(const std::string& program, const std::vector<std::string>& arguments) {
    std::vector<char*> all;
    for (const std::string& argument : arguments) all.push_back(const_cast<char*>(argument.c_str()));
    all.push_back(nullptr);
    ::execv(program.c_str(), all.data());
    return proto::system_error("execv", program).error();
}

ProgramTrial::ProgramTrial(const Options& options, const Invocation& invocation, const rlimit& files,
                           CommandAnswers& answers, EventLoop& loop, std::function<void()> passed)
    : options_(options),
      invocation_(invocation),
      files_(files),
      answers_(answers),
      passed_(std::move(passed)),
      end_(loop.timer([this](Timer::Clock::time_point) { kill(); })) {}

void ProgramTrial::try_out(ConnectionId asker) {
    if (stopped_) return answers_.give(asker, CommandResult::refused);
    if (std::ranges::find(askers_, asker) == askers_.end()) askers_.push_back(asker);
    if (child_) return;
    auto report = StartReport::create();
    if (!report) return fail(report.error());
    std::fflush(nullptr);
    const pid_t pid = ::fork();
    if (pid < 0) return fail(proto::system_error("fork").error());
    if (pid == 0) run_trial(invocation_.program, invocation_.arguments, files_, *report);
    child_.emplace(Child{pid, std::move(*report)});
    end_.set_after(options_.start_timeout);
}

void ProgramTrial::fail(const Error& error) {
    log_stderr("the program is not executed anew: " + error.message());
    answer(CommandResult::failed);
}

void ProgramTrial::stop() {
    stopped_ = true;
    kill();
}

void ProgramTrial::go_on() {
    stopped_ = false;
    answer(CommandResult::failed);
}

bool ProgramTrial::reaped(pid_t pid, int status) {
    if (!child_ || child_->pid != pid) return false;
    ended(status);
    return true;
}

void ProgramTrial::ended(int status) {
    const SharedFile said = std::make_shared<const UniqueFd>(child_->report.take());
    child_.reset();
    end_.stop();
    if (stopped_) return answer(CommandResult::refused, said);
    if (WIFEXITED(status) && WEXITSTATUS(status) == exit_done) return passed_();
    log_stderr(fmt::format("the program is not executed anew: {} --check {}", invocation_.program,
                           describe_end(status)));
    const bool is_invalid = WIFEXITED(status) && WEXITSTATUS(status) == exit_policy;
    answer(is_invalid ? CommandResult::invalid : CommandResult::failed, said);
}

void ProgramTrial::kill() {
    if (child_) ::kill(child_->pid, SIGKILL);
    end_.stop();
}

void ProgramTrial::answer(CommandResult result, const SharedFile& text) {
    answers_.give_all(std::exchange(askers_, {}), result, text);
}

}  // namespace fdbroker::opener
