// SPDX-License-Identifier: MIT
#include "opener/supervisor/worker_pool.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <span>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/base/wait_status.hpp"
#include "opener/confinement/kernel_calls.hpp"
#include "opener/supervisor/worker_environment.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;
using std::chrono::milliseconds;

namespace {

// A worker that ends is started again, more and more slowly when it ends again and again.
constexpr Backoff worker_restart_delays{milliseconds(100), milliseconds(30'000)};
// A worker that has run this long starts the count anew.
constexpr std::chrono::seconds proven_worker_after{10};
// Between SIGTERM and SIGKILL.
constexpr std::chrono::seconds worker_end_timeout{5};

// The numbers that a worker's descriptors have.
constexpr int socket_number = 3;
constexpr int channel_number = 4;

// In the child: the line bears the pool's name.
[[noreturn]] void fail(const std::string& what) {
    log_stderr_plainly(what);
    ::_exit(127);
}

}  // namespace

// ---- who -----------------------------------------------------------------------------------------------

Result<WorkerPool::User> WorkerPool::find_user(const WorkerOptions& options) {
    const uid_t own = ::geteuid();
    if (options.user.empty()) {
        if (own == 0)
            return proto::system_error("--workers", "--worker-user is missing: a worker is not root", EINVAL);
        // A uid without an account has nothing but its number.
        const auto account = SystemAccounts{}.find_user(own);
        return user_of(account.value_or(SystemAccounts::User{.uid = own, .gid = ::getegid()}), options);
    }
    const auto found = SystemAccounts{}.find_user(options.user);
    if (!found) return proto::system_error("--worker-user", "no user " + options.user, ENOENT);
    if (found->uid == 0) return proto::system_error("--worker-user", options.user + " is root", EINVAL);
    if (own != 0 && found->uid != own)
        return proto::system_error("--worker-user", "only root can start workers as " + options.user, EPERM);
    return user_of(*found, options);
}

Result<WorkerPool::User> WorkerPool::user_of(const SystemAccounts::User& account,
                                             const WorkerOptions& options) {
    auto environment = worker_environment({account.name, account.home, account.shell}, options.environment);
    if (!environment) return std::unexpected(environment.error());
    User user{.uid = account.uid,
              .gid = account.gid,
              .groups = {},
              .name = account.name,
              .environment = std::move(*environment),
              .changes = ::geteuid() == 0};
    if (!user.changes) return user;
    user.groups.resize(16);
    for (;;) {
        int count = static_cast<int>(user.groups.size());
        const int result = ::getgrouplist(user.name.c_str(), user.gid, user.groups.data(), &count);
        user.groups.resize(static_cast<std::size_t>(std::max(count, 1)));
        if (result >= 0) return user;
    }
}

Result<std::unique_ptr<WorkerPool>> WorkerPool::create(const WorkerOptions& options, std::uint32_t listener,
                                                       const rlimit& files, ConnectionTable& connections,
                                                       EventLoop& loop, SupervisorFacts& facts,
                                                       Connected connected) {
    auto user = find_user(options);
    if (!user) return std::unexpected(user.error());
    auto output = ChildOutput::make(options.name);
    if (!output) return std::unexpected(output.error());
    std::unique_ptr<WorkerPool> pool(new WorkerPool(options, std::move(*user), std::move(*output), listener,
                                                    files, connections, loop, facts, std::move(connected)));
    if (auto watched = pool->watch_output(); !watched) return std::unexpected(watched.error());
    return pool;
}

WorkerPool::Worker::Worker(WorkerPool& pool, EventLoop& loop)
    : delay(worker_restart_delays),
      start_at(loop.timer([&pool, this](Clock::time_point) { pool.start_worker(*this); })),
      ask_at(loop.timer([&pool, this](Clock::time_point now) { pool.ask(*this, now); })),
      answer_by(loop.timer([&pool, this](Clock::time_point) { pool.kill_silent(*this); })),
      kill_at(loop.timer([this](Clock::time_point) {
          if (pid != 0) ::kill(pid, SIGKILL);
      })) {}

// ---- start ---------------------------------------------------------------------------------------------

void WorkerPool::start() {
    set_count(inherited_ ? count_ : options_.count);
}

std::vector<LeftWorker> WorkerPool::left() const {
    std::vector<LeftWorker> left;
    for (const auto& worker : workers_) {
        left.push_back({.pid = worker->pid,
                        .channel = worker->channel ? inode_of(worker->channel.borrow()) : 0,
                        .connection_id = worker->connection_id,
                        .starts = worker->starts,
                        .started = worker->started});
    }
    return left;
}

void WorkerPool::inherit(unsigned count, const std::vector<LeftWorker>& left, Inheritance& inheritance) {
    inherited_ = true;
    count_ = count;
    inherit_output(std::move(inheritance.worker_output));
    for (const LeftWorker& one : left) {
        Worker& worker = *workers_.emplace_back(std::make_unique<Worker>(*this, loop_));
        worker.pid = one.pid;
        worker.connection_id = one.connection_id;
        worker.starts = one.starts;
        worker.started = one.started;
        if (auto channel = inheritance.take(one.channel)) worker.channel = std::move(*channel);
        if (worker.channel && !watch(worker)) worker.channel.reset();
        if (worker.channel && worker.connection_id != 0 && options_.watchdog.count() > 0)
            worker.ask_at.set_after(options_.watchdog);
        if (worker.pid == 0 && workers_.size() <= count_) worker.start_at.set(Clock::now());
    }
    tell_facts();
}

Result<void> WorkerPool::watch_output() {
    output_.output.bound();
    auto source =
        loop_.watch(output(), Events::readable, [this](Events) { output_.output.copy(max_output_per_turn); });
    if (!source) return std::unexpected(source.error());
    output_source_ = std::move(*source);
    return {};
}

// An opener of another version may have left none: its workers write to where they always did.
void WorkerPool::inherit_output(UniqueFd reading) {
    if (!reading) return;
    auto adopted = ChildOutput::adopt(std::move(reading), options_.name);
    if (!adopted) return log_stderr(adopted.error().message());
    output_source_.end();
    output_ = std::move(*adopted);
    if (auto watched = watch_output(); !watched) log_stderr(watched.error().message());
}

std::vector<BorrowedFd> WorkerPool::channels() const {
    std::vector<BorrowedFd> channels;
    for (const auto& worker : workers_)
        if (worker->channel) channels.push_back(worker->channel.borrow());
    return channels;
}

std::vector<pid_t> WorkerPool::pids() const {
    std::vector<pid_t> pids;
    for (const auto& worker : workers_)
        if (worker->pid != 0) pids.push_back(worker->pid);
    return pids;
}

bool WorkerPool::set_count(unsigned count) {
    if (count > max_workers || stopping_) return false;
    count_ = count;
    for (std::size_t i = 0; i < workers_.size(); ++i) {
        if (i >= count) end(*workers_[i]);
    }
    while (workers_.size() < count) workers_.push_back(std::make_unique<Worker>(*this, loop_));
    for (std::size_t i = 0; i < count; ++i) {
        Worker& worker = *workers_[i];
        if (worker.pid == 0 && !worker.start_at.due()) worker.start_at.set(Clock::now());
    }
    tell_facts();
    return true;
}

void WorkerPool::start_worker(Worker& worker) {
    worker.start_at.stop();
    worker.kill_at.stop();
    worker.started = Clock::now();
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return start_later(worker);
    worker.channel = UniqueFd(ends[0]);
    const UniqueFd workers_end(ends[1]);
    if (!watch(worker)) return start_later(worker);
    const pid_t pid = ::fork();
    if (pid == 0) become_worker(workers_end.borrow());
    if (pid < 0) {
        log_stderr(proto::system_error("fork").error().message());
        return start_later(worker);
    }
    worker.pid = pid;
    ++worker.starts;
    tell_facts();
}

// In the child. A separate description, since O_NONBLOCK belongs to the description and programs set it.
void WorkerPool::become_writer() const {
    const UniqueFd own(
        ::open(fmt::format("/proc/self/fd/{}", output_.writing.number()).c_str(), O_WRONLY | O_CLOEXEC));
    const BorrowedFd writing = own ? own.borrow() : output_.writing.borrow();
    if (::dup2(writing.number(), STDERR_FILENO) < 0 || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0) fail("dup2");
}

// In the child. Nothing of the opener's is left when the program begins: neither its log nor its terminal.
void WorkerPool::become_worker(BorrowedFd channel) const {
    become_writer();
    ::setsid();
    const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!null || ::dup2(null.number(), STDIN_FILENO) < 0) fail("/dev/null cannot be opened");
    ::setrlimit(RLIMIT_NOFILE, &files_);
    if (user_.changes && (::setgroups(user_.groups.size(), user_.groups.data()) != 0 ||
                          ::setresgid(user_.gid, user_.gid, user_.gid) != 0 ||
                          ::setresuid(user_.uid, user_.uid, user_.uid) != 0)) {
        fail(proto::system_error("cannot become", options_.user).error().message());
    }
    // Not before: a change of user clears it.
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) fail("socketpair");
    const std::array<std::byte, 1> message{};
    const BorrowedFd brokers_end(ends[0]);
    proto::refuse_descriptors(brokers_end);
    if (!proto::send(channel, message, std::span(&brokers_end, 1), proto::Wait::block)) fail("no channel");
    // Out of the way of the numbers that they get.
    const int socket = ::fcntl(ends[1], F_DUPFD, channel_number + 1);
    const int kept_channel = ::fcntl(channel.number(), F_DUPFD, channel_number + 1);
    const bool watched = options_.watchdog.count() > 0;
    if (::dup2(socket, socket_number) < 0 || (watched && ::dup2(kept_channel, channel_number) < 0))
        fail("dup2");
    // The watched program waits on it as it likes.
    if (watched) ::fcntl(channel_number, F_SETFL, 0);
    kernel::close_range(watched ? channel_number + 1 : channel_number, ~0U, 0);
    set_environment();
    if (::chdir("/") != 0) fail("cannot enter /");
    ::setenv("FDBROKER_FD", std::to_string(socket_number).c_str(), 1);
    if (watched) ::setenv("FDBROKER_WATCHDOG_FD", std::to_string(channel_number).c_str(), 1);
    for (const int signal : {SIGPIPE, SIGTERM, SIGINT, SIGHUP}) ::signal(signal, SIG_DFL);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    std::vector<char*> arguments;
    for (const std::string& argument : options_.command)
        arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    fail(proto::system_error("exec", options_.command[0]).error().message());
}

// In the child. The opener's own environment holds paths, sockets and credentials of root's.
void WorkerPool::set_environment() const {
    ::clearenv();
    for (const std::string& variable : user_.environment) ::putenv(const_cast<char*>(variable.c_str()));
}

void WorkerPool::start_later(Worker& worker) {
    forget_channel(worker);
    worker.connection_id = 0;
    worker.ask_at.stop();
    worker.answer_by.stop();
    worker.kill_at.stop();
    const bool proven = Clock::now() - worker.started > proven_worker_after;
    if (proven) worker.delay.reset();
    worker.start_at.set_after(worker.delay.next());
}

// ---- while it runs -------------------------------------------------------------------------------------

bool WorkerPool::watch(Worker& worker) {
    auto source =
        loop_.watch(worker.channel.borrow(), Events::readable, [this, &worker](Events) { hear(worker); });
    if (source) worker.source = std::move(*source);
    return source.has_value();
}

void WorkerPool::hear(Worker& worker) {
    if (worker.connection_id == 0) return take_connection(worker);
    std::array<std::byte, 16> answer;
    if (proto::receive(worker.channel.borrow(), answer, proto::Wait::never)) {
        worker.answer_by.stop();
    } else {
        // The program has closed it, or does not stick to what was agreed: what is not answered shows in time.
        forget_channel(worker);
    }
}

// From the child before it runs the program.
void WorkerPool::take_connection(Worker& worker) {
    std::array<std::byte, 1> message;
    proto::ReceivedDescriptors descriptors;
    const auto received = proto::receive(worker.channel.borrow(), message, descriptors, proto::Wait::never);
    if (!received || descriptors.count() != 1) {
        return forget_channel(worker);
    }
    Connection connection{
        .socket = descriptors.take(0), .uid = user_.uid, .gid = user_.gid, .listener = listener_};
    ::fcntl(connection.socket.number(), F_SETFL, O_NONBLOCK);
    worker.connection_id = connections_.add(std::move(connection));
    if (options_.watchdog.count() > 0) {
        // Answers follow, which bring nothing.
        proto::refuse_descriptors(worker.channel.borrow());
        worker.ask_at.set_after(options_.watchdog);
    } else {
        forget_channel(worker);
    }
    connected_(worker.connection_id);
}

bool WorkerPool::reaped(pid_t pid, int status) {
    const auto found = std::ranges::find(workers_, pid, [](const auto& worker) { return worker->pid; });
    if (found == workers_.end()) return false;
    const auto index = static_cast<std::size_t>(found - workers_.begin());
    Worker& worker = **found;
    worker.pid = 0;
    facts_.workers[index].last_end = status;
    start_later(worker);
    if (stopping_ || index >= count_) {
        worker.start_at.stop();
    } else {
        log_stderr(fmt::format("a worker of {} (pid {}) {}; it is started again in {} ms", name(), pid,
                               describe_end(status), worker.delay.last().count()));
    }
    tell_facts();
    return true;
}

void WorkerPool::connection_ended(ConnectionId connection_id) {
    for (const auto& worker : workers_) {
        if (worker->connection_id == connection_id && worker->pid != 0 && !worker->kill_at.due())
            end(*worker);
    }
}

void WorkerPool::end(Worker& worker) {
    worker.start_at.stop();
    if (worker.pid == 0 || worker.kill_at.due()) return;
    ::kill(worker.pid, SIGTERM);
    worker.kill_at.set_after(worker_end_timeout);
}

void WorkerPool::forget_channel(Worker& worker) {
    if (!worker.channel) return;
    worker.source.end();
    worker.channel.reset();
}

// ---- time ----------------------------------------------------------------------------------------------

void WorkerPool::ask(Worker& worker, Clock::time_point now) {
    worker.ask_at.set(now + options_.watchdog);
    const std::array<std::byte, 1> question{};
    if (worker.channel)
        static_cast<void>(proto::send(worker.channel.borrow(), question, {}, proto::Wait::never));
    if (!worker.answer_by.due()) worker.answer_by.set(now + options_.watchdog);
}

void WorkerPool::kill_silent(Worker& worker) const {
    if (worker.pid == 0) return;
    log_stderr(fmt::format("a worker of {} (pid {}) does not answer and is killed", name(), worker.pid));
    worker.ask_at.stop();
    ::kill(worker.pid, SIGKILL);
}

void WorkerPool::stop() {
    stopping_ = true;
    for (const auto& worker : workers_) end(*worker);
}

bool WorkerPool::stopped() const noexcept {
    return std::ranges::none_of(workers_, [](const auto& worker) { return worker->pid != 0; });
}

void WorkerPool::tell_facts() noexcept {
    for (std::size_t i = 0; i < workers_.size(); ++i) {
        WorkerFacts& facts = facts_.workers[i];
        const Worker& worker = *workers_[i];
        facts.pid = worker.pid;
        facts.started = worker.started.time_since_epoch().count();
        facts.starts = i < count_ || worker.pid != 0 ? worker.starts : 0;
    }
    facts_.workers_wanted = count_;
}

}  // namespace fdbroker::opener
