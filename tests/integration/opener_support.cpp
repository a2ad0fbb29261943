// SPDX-License-Identifier: MIT
#include "tests/integration/opener_support.hpp"

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "opener/audit/audit_ring.hpp"
#include "proto/address.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/wait.hpp"

namespace fdbroker::test {

namespace {

// FDBROKER_TEST_START: words of a program that executes an opener of root's, with fewer privileges for instance.
std::vector<std::string> starting_program() {
    if (::geteuid() != 0) return {};
    const char* const text = std::getenv("FDBROKER_TEST_START");
    std::istringstream words(text != nullptr ? text : "");
    return {std::istream_iterator<std::string>(words), {}};
}

Process start(const TempDir& directory, std::string_view policy, std::vector<std::string> more,
              std::map<std::string, std::string> environment) {
    write_file(directory / "policy.yaml", policy, {.mode = 0644, .uid = ::geteuid(), .gid = ::getegid()});
    std::vector<std::string> arguments = starting_program();
    std::ranges::move(RunningOpener::arguments(directory, std::move(more)), std::back_inserter(arguments));
    Process process =
        Process::start({.arguments = std::move(arguments), .environment = std::move(environment)});
    process.wait_for_error("serving");
    return process;
}

}  // namespace

bool has_starting_program() {
    return !starting_program().empty();
}

std::string replace_all(std::string text, std::string_view word, std::string_view by) {
    for (std::size_t at = 0; (at = text.find(word, at)) != std::string::npos; at += by.size())
        text.replace(at, word.size(), by);
    return text;
}

std::vector<std::string> RunningOpener::arguments(const TempDir& directory, std::vector<std::string> more) {
    std::vector<std::string> arguments{opener_program(),
                                       "--policy",
                                       directory / "policy.yaml",
                                       "--listen",
                                       directory / "opener.sock",
                                       "--listen-mode",
                                       "0666",
                                       "--control",
                                       directory / "control.sock",
                                       "--audit",
                                       directory / "audit.jsonl"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

void spoil_audit_ring(pid_t broker) {
    const std::string process = "/proc/" + std::to_string(broker);
    std::istringstream maps(read_file(process + "/maps"));
    std::vector<std::uint64_t> rings;
    for (std::string line; std::getline(maps, line);) {
        std::uint64_t begin = 0, last = 0;
        char dash = 0;
        std::istringstream(line) >> std::hex >> begin >> dash >> last;
        if (line.find("/dev/zero") != std::string::npos && last - begin > opener::AuditRing::capacity &&
            last - begin < 2 * opener::AuditRing::capacity)
            rings.push_back(begin);
    }
    if (rings.size() != 1)
        throw std::runtime_error("a broker with " + std::to_string(rings.size()) + " audit rings");
    // In the way of AuditRing: how much was put in stands at its beginning.
    std::fstream memory(process + "/mem", std::ios::binary | std::ios::in | std::ios::out);
    std::uint64_t head = 0;
    memory.seekg(static_cast<std::streamoff>(rings.front()));
    memory.read(reinterpret_cast<char*>(&head), sizeof head);
    head += 1000;
    memory.seekp(static_cast<std::streamoff>(rings.front()));
    memory.write(reinterpret_cast<const char*>(&head), sizeof head);
    if (!memory.flush()) throw std::runtime_error("cannot write the memory of a broker");
}

namespace {

// Counts messages of `size` bytes that a socket holds whose peer does not read.
std::size_t messages_in_a_socket(std::size_t size) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        throw std::runtime_error("socketpair");
    const proto::UniqueFd mine(ends[0]), other(ends[1]);
    const std::vector<std::byte> message(size);
    std::size_t count = 0;
    while (proto::send(mine.borrow(), message, {}, proto::Wait::never)) ++count;
    return count;
}

}  // namespace

std::size_t refusals_until_parked() {
    std::vector<std::byte> reply(proto::max_message_size);
    proto::ReplyWriter writer(reply);
    const std::string_view reason = "no rule allows read";
    while (writer.add({.status = EACCES, .step = proto::Step::decide, .record = 1, .reason = reason})) {
    }
    return (messages_in_a_socket(writer.message().size()) + 1) * proto::max_requests;
}

std::string unexplained_numbers(const std::vector<nlohmann::json>& records) {
    std::map<std::uint64_t, int> numbers;
    for (const nlohmann::json& record : records) {
        ++numbers[record["seq"].get<std::uint64_t>()];
        if (!record.contains("unused")) continue;
        const auto [first, last] = record["unused"].get<std::pair<std::uint64_t, std::uint64_t>>();
        for (std::uint64_t number = first; number <= last; ++number) ++numbers[number];
    }
    std::uint64_t due = 1;
    for (const auto& [number, count] : numbers) {
        if (number != due) return std::to_string(due) + " is missing";
        if (count != 1) return std::to_string(number) + " is there " + std::to_string(count) + " times";
        ++due;
    }
    return "";
}

RunningOpener::RunningOpener(const TempDir& directory, std::string_view policy, std::vector<std::string> more,
                             std::map<std::string, std::string> environment)
    : directory_(directory), process_(start(directory, policy, std::move(more), std::move(environment))) {}

namespace {

void check(long result) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), "ptrace");
}

}  // namespace

proto::UniqueFd end_of(pid_t pid) {
    proto::UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!process) throw std::system_error(errno, std::generic_category(), "pidfd_open");
    return process;
}

std::vector<pid_t> children_of(pid_t pid) {
    const std::string number = std::to_string(pid);
    std::ifstream file("/proc/" + number + "/task/" + number + "/children");
    std::vector<pid_t> children;
    for (pid_t child = 0; file >> child;) children.push_back(child);
    return children;
}

// The zygotes are the broker's children, the helpers theirs.
namespace {

// Whether this child of a broker is the directory watch.
bool looks_after_directories(pid_t child) {
    const DescriptorTable table = DescriptorTable::of(child);
    const auto input = table.entries().find(STDIN_FILENO);
    return input != table.entries().end() && input->second.starts_with("socket:");
}

}  // namespace

pid_t watcher_of(pid_t broker) {
    for (const pid_t child : children_of(broker))
        if (looks_after_directories(child)) return child;
    throw std::runtime_error("nobody looks after the directories");
}

namespace {

// proc(5): the state is the field after the name, which is in parentheses. A process that is no more is in none.
bool is_in_state(char state, pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    const std::string stat{std::istreambuf_iterator<char>(file), {}};
    return stat.find(std::string(") ") + state + ' ') != std::string::npos;
}

}  // namespace

std::vector<pid_t> helpers_of(pid_t broker) {
    std::vector<pid_t> helpers;
    for (const pid_t zygote : children_of(broker)) {
        if (looks_after_directories(zygote)) continue;
        for (const pid_t helper : children_of(zygote))
            if (!is_in_state('Z', helper)) helpers.push_back(helper);
    }
    return helpers;
}

std::vector<pid_t> brokers_of(pid_t opener) {
    std::vector<pid_t> brokers;
    for (const pid_t child : children_of(opener)) {
        // The other child, which looks names up, says nothing to anybody.
        const DescriptorTable table = DescriptorTable::of(child);
        const auto error = table.entries().find(STDERR_FILENO);
        if (error != table.entries().end() && error->second.starts_with("pipe:")) brokers.push_back(child);
    }
    return brokers;
}

pid_t newest_broker(pid_t opener) {
    const auto brokers = brokers_of(opener);
    if (brokers.empty()) throw std::runtime_error("process " + std::to_string(opener) + " has no broker");
    return brokers.back();
}

pid_t hold_next_child(pid_t parent, const std::function<void()>& cause) {
    check(::ptrace(PTRACE_SEIZE, parent, nullptr,
                   PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE));
    cause();
    int status = 0;
    check(::waitpid(parent, &status, __WALL));
    if (!WIFSTOPPED(status) || status >> 16 == 0) throw std::runtime_error("the process did not fork");
    unsigned long child = 0;
    check(::ptrace(PTRACE_GETEVENTMSG, parent, nullptr, &child));
    const pid_t pid = static_cast<pid_t>(child);
    check(::waitpid(pid, &status, __WALL));
    check(::ptrace(PTRACE_DETACH, parent, nullptr, nullptr));
    return pid;
}

void kill_after_receiving(pid_t pid, const std::function<void()>& cause) {
    check(::ptrace(PTRACE_SEIZE, pid, nullptr, PTRACE_O_TRACESYSGOOD));
    check(::ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr));
    int status = 0;
    check(::waitpid(pid, &status, __WALL));
    check(::ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr));
    cause();
    for (std::uint64_t call = 0;;) {
        check(::waitpid(pid, &status, __WALL));
        if (!WIFSTOPPED(status)) throw std::runtime_error("the process ended");
        __ptrace_syscall_info info{};
        check(::ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info));
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY) call = info.entry.nr;
        if (info.op == PTRACE_SYSCALL_INFO_EXIT && call == SYS_recvmsg && info.exit.rval > 0) break;
        check(::ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr));
    }
    check(::kill(pid, SIGKILL));
    reap_held(pid);
}

void reap_held(pid_t child) {
    int status = 0;
    if (::waitpid(child, &status, __WALL) != child || !WIFSIGNALED(status))
        throw std::runtime_error("the held process was not killed");
}

HeldProcess::HeldProcess(pid_t pid) : pid_(pid) {
    check(::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr));
    check(::ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr));
    int status = 0;
    check(::waitpid(pid, &status, __WALL));
    if (!WIFSTOPPED(status)) throw std::runtime_error("the process ended");
}

void HeldProcess::let_go() noexcept {
    if (pid_ != 0) ::ptrace(PTRACE_DETACH, std::exchange(pid_, 0), nullptr, nullptr);
}

void wait_until_stopped(pid_t pid) {
    const Deadline deadline = in_good_time();
    while (!is_in_state('T', pid))
        if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("the process did not stop");
}

namespace {

// A counted record may stand for several.
std::size_t count_records(const std::vector<nlohmann::json>& records, std::string_view event,
                          std::string_view cause) {
    std::size_t found = 0;
    for (const nlohmann::json& record : records) {
        if (record["event"] == event && (cause.empty() || record.value("cause", "") == cause))
            found += record.value("count", std::size_t{1});
    }
    return found;
}

// Parses the lines that hold `word`. A line that is still being written has no end and is left out.
std::vector<nlohmann::json> parse_records(std::string_view content, std::string_view word = {}) {
    std::vector<nlohmann::json> records;
    for (std::size_t start = 0, end; (end = content.find('\n', start)) != std::string::npos;
         start = end + 1) {
        const std::string_view line = content.substr(start, end - start);
        if (line.find(word) != std::string_view::npos) records.push_back(nlohmann::json::parse(line));
    }
    return records;
}

}  // namespace

std::vector<nlohmann::json> RunningOpener::wait_for_event(std::string_view event, std::size_t count,
                                                          std::string_view cause) const {
    std::vector<nlohmann::json> records;
    wait_for_content(directory_ / "audit.jsonl", std::string(event) + " record",
                     [&](const std::string& content) {
                         records = parse_records(content);
                         return count_records(records, event, cause) >= count;
                     });
    return records;
}

std::size_t RunningOpener::count_events(std::string_view event, std::string_view cause) const {
    return count_records(parse_records(read_file(directory_ / "audit.jsonl"), event), event, cause);
}

int RunningOpener::stop() {
    process_.signal(SIGTERM);
    return process_.wait().status;
}

std::string TestPeer::Answer::content() const {
    std::string text(4096, '\0');
    const ssize_t size = ::pread(fd.number(), text.data(), text.size(), 0);
    if (size < 0) throw std::runtime_error("the delivered descriptor cannot be read");
    text.resize(static_cast<std::size_t>(size));
    return text;
}

TestPeer::TestPeer(const std::filesystem::path& socket) {
    auto connected = proto::connect(*proto::Address::parse(socket.string()));
    if (!connected) throw std::runtime_error(connected.error().message());
    socket_ = std::move(*connected);
}

void TestPeer::send(std::span<const std::byte> message) const {
    auto sent = proto::send(socket_.borrow(), message, {}, proto::Wait::block);
    if (!sent) throw std::runtime_error(sent.error().message());
}

bool TestPeer::ask(const std::vector<std::string>& paths, std::uint32_t flags, proto::Wait wait) {
    proto::RequestWriter writer(buffer_);
    for (const std::string& path : paths) {
        if (!writer.add({.id = next_id_++, .flags = flags, .path = path}))
            throw std::runtime_error("too many requests");
    }
    auto sent = proto::send(socket_.borrow(), writer.message(), {}, wait);
    if (!sent && sent.error().errno_value == EAGAIN) return false;
    if (!sent) throw std::runtime_error(sent.error().message());
    return true;
}

std::vector<TestPeer::Answer> TestPeer::answers() {
    wait_readable(socket_.borrow());
    proto::ReceivedDescriptors descriptors;
    auto message = proto::receive(socket_.borrow(), buffer_, descriptors, proto::Wait::block);
    if (!message) throw std::runtime_error(message.error().message());
    if (const auto end = proto::read_end(*message))
        throw std::runtime_error("the session was ended: " + std::string(end->reason));
    std::array<proto::Reply, proto::max_requests> room;
    auto replies = proto::read_replies(*message, room);
    if (!replies) throw std::runtime_error("not replies: " + std::string(to_string(replies.error())));
    std::vector<Answer> answers;
    std::size_t next = 0;
    for (const proto::Reply& reply : *replies) {
        answers.push_back({reply.id, reply.status, reply.step, reply.record, std::string(reply.reason),
                           std::string(reply.payload),
                           reply.has_descriptor ? descriptors.take(next++) : proto::UniqueFd()});
    }
    if (next != descriptors.count()) throw std::runtime_error("more descriptors than replies tell of");
    return answers;
}

TestPeer::Answer TestPeer::answer_to(std::uint32_t id) {
    // An answer to an earlier request may come once more after a crash of the broker.
    for (;;) {
        for (Answer& answer : answers()) {
            if (answer.id == id) return std::move(answer);
        }
    }
}

TestPeer::Answer TestPeer::call(const proto::Request& request) {
    proto::RequestWriter writer(buffer_);
    proto::Request numbered = request;
    numbered.id = next_id_++;
    if (!writer.add(numbered)) throw std::runtime_error("the request is too long");
    send(writer.message());
    return answer_to(numbered.id);
}

std::vector<TestPeer::Answer> TestPeer::call_all(const std::vector<proto::Request>& requests,
                                                 proto::Batch batch) {
    proto::RequestWriter writer(buffer_, proto::unknown_cpu, batch);
    const std::uint32_t first = next_id_;
    for (proto::Request request : requests) {
        request.id = next_id_++;
        if (!writer.add(request)) throw std::runtime_error("the requests are too long");
    }
    send(writer.message());
    std::vector<Answer> all;
    // As in answer_to().
    while (all.size() < requests.size())
        for (Answer& answer : answers())
            if (answer.id - first < requests.size()) all.push_back(std::move(answer));
    return all;
}

std::vector<TestPeer::Answer> TestPeer::call_together(const std::vector<proto::Request>& requests) {
    return call_all(requests, proto::Batch::all_or_nothing);
}

std::vector<TestPeer::Answer> TestPeer::call_often(const std::vector<proto::Request>& requests,
                                                   std::size_t count) {
    std::vector<proto::Request> all;
    for (std::size_t number = 0; number < count; ++number) all.push_back(requests[number % requests.size()]);
    return call_all(all, proto::Batch::each_for_itself);
}

TestPeer::Answer TestPeer::open(const std::string& path, std::uint32_t flags) {
    const std::uint32_t id = next_id_;
    ask({path}, flags);
    return answer_to(id);
}

std::vector<TestPeer::Answer> TestPeer::answers(std::size_t count) {
    std::vector<Answer> all;
    while (all.size() < count) std::ranges::move(answers(), std::back_inserter(all));
    return all;
}

std::string TestPeer::wait_for_end() {
    for (std::string reason;;) {
        wait_readable(socket_.borrow());
        proto::ReceivedDescriptors descriptors;
        auto message = proto::receive(socket_.borrow(), buffer_, descriptors, proto::Wait::block);
        if (!message) return reason;
        if (auto end = proto::read_end(*message)) reason = end->reason;
    }
}

std::vector<TestPeer> peers_of(uid_t uid, const RunningOpener& opener, std::size_t count) {
    std::vector<TestPeer> peers;
    if (::seteuid(uid) != 0) throw std::system_error(errno, std::generic_category(), "seteuid");
    while (peers.size() < count) peers.emplace_back(opener.socket());
    if (::seteuid(0) != 0) throw std::system_error(errno, std::generic_category(), "seteuid");
    return peers;
}

}  // namespace fdbroker::test
