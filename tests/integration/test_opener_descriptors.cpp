// SPDX-License-Identifier: MIT
// Descriptors that a colluding peer sends to a broker or a helper that was taken over: most sockets refuse them, and what
// lies below one is out of reach.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "proto/channel.hpp"
#include "tests/integration/control_peer.hpp"
#include "tests/integration/missing_calls.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/syscall_injector.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

const std::vector<MissingCall> no_passrights = {
    {SCMP_SYS(setsockopt), ENOPROTOOPT, {{2, proto::so_passrights}}}};
const std::vector<MissingCall> no_landlock = {{SCMP_SYS(landlock_create_ruleset), ENOSYS}};

bool kernel_has_landlock() {
    return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, 1) > 0;
}
bool can_take_over() {
    return is_root() && SyscallInjector::is_supported() && can_make_mount_namespace();
}
constexpr const char* needs_take_over = "needs root, mount namespaces, ptrace(2) and x86-64";

// data/ that rules let read and list, and outside/ that no rule names.
struct Tree {
    TempDir directory{TempDir::Place::var_tmp};
    std::string data = directory / "data";
    std::string outside = directory / "outside/secret";
    std::string policy = "version: 1\nrules:\n  - {name: data, allow: [read, list], paths: [\"" + data +
                         "/**\"]}\n  - {name: spool, allow: [modify, mkdir, symlink], paths: [\"" +
                         (directory / "spool").string() + "/**\"], create: {owner: \"${user}\"}}\n";

    Tree() {
        for (const char* name : {"data", "outside", "spool"}) {
            make_directory(directory / name);
            write_file(directory / name / "secret", name, {.mode = 0600});
        }
    }
    std::filesystem::path control() const { return directory / "control.sock"; }
};

proto::UniqueFd descriptor_of(pid_t pid, int number) {
    const proto::UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    proto::UniqueFd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, process.number(), number, 0)));
    if (!copy) throw std::runtime_error("pidfd_getfd");
    return copy;
}

struct HeldSocket {
    int number;
    pid_t maker;  // maker of the pair or, for a connection, of the other end
    bool takes_descriptors;
};

std::vector<HeldSocket> sockets_of(pid_t pid) {
    std::vector<HeldSocket> sockets;
    const DescriptorTable table = DescriptorTable::of(pid);
    for (const auto& [number, what] : table.entries()) {
        if (what.find("socket:") == std::string::npos) continue;
        const proto::UniqueFd copy = descriptor_of(pid, number);
        int takes = 1;  // as on a kernel without the option
        socklen_t size = sizeof takes;
        ::getsockopt(copy.number(), SOL_SOCKET, proto::so_passrights, &takes, &size);
        ucred maker{};
        size = sizeof maker;
        REQUIRE(::getsockopt(copy.number(), SOL_SOCKET, SO_PEERCRED, &maker, &size) == 0);
        sockets.push_back({number, maker.pid, takes != 0});
    }
    return sockets;
}

// The one that `maker` made, or that leads to it.
int socket_from(pid_t holder, pid_t maker) {
    for (const HeldSocket& each : sockets_of(holder))
        if (each.maker == maker) return each.number;
    throw std::runtime_error("no such socket");
}

// How many take descriptors, by who made them.
std::map<pid_t, int> taking_of(pid_t pid) {
    std::map<pid_t, int> taking;
    for (const HeldSocket& each : sockets_of(pid))
        if (each.takes_descriptors) ++taking[each.maker];
    return taking;
}

// Receives from a socket in a directory's list.
constexpr std::array<char, sizeof(std::uint64_t)> zero{};
constexpr std::string_view from_beginning(zero.data(), zero.size());

// Has a helper made, which waits for work afterwards.
pid_t make_helper(const RunningOpener& opener, TestPeer& peer, const Tree& tree) {
    CHECK(peer.call({.call = proto::Call::list, .path = tree.data, .payload = from_beginning}).status == 0);
    const Deadline deadline = in_good_time();
    for (;;) {
        const auto helpers = helpers_of(opener.broker());
        if (helpers.size() == 1) return helpers.front();
        if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("no helper");
    }
}

// Code that has taken a process over: it receives a descriptor and opens below it.
class TakenOver {
  public:
    explicit TakenOver(pid_t pid) : pid_(pid), process_(pid) {
        scratch_ = process_.call(
            SYS_mmap, {0, std::size_t{4096}, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0});
        REQUIRE(scratch_ > 0);
    }

    // Receives a descriptor from a socket of the traced process; the number there, or a negative errno.
    int receive_from(int socket) {
        struct {
            msghdr header{};
            iovec buffer{};
            std::array<char, 64> text{};
            alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
        } memory;
        const auto address_of = [&](const void* member) {
            const auto offset = static_cast<const char*>(member) - reinterpret_cast<const char*>(&memory);
            return reinterpret_cast<void*>(scratch_ + offset);
        };
        memory.buffer = {.iov_base = address_of(&memory.text), .iov_len = memory.text.size()};
        memory.header.msg_iov = static_cast<iovec*>(address_of(&memory.buffer));
        memory.header.msg_iovlen = 1;
        memory.header.msg_control = address_of(&memory.control);
        memory.header.msg_controllen = memory.control.size();
        access(&memory, sizeof memory, &::pwrite);
        const long got = process_.call(SYS_recvmsg, {socket, scratch_, MSG_DONTWAIT});
        if (got < 0) return static_cast<int>(got);
        access(&memory, sizeof memory, &::pread);
        if (memory.header.msg_controllen < CMSG_LEN(sizeof(int))) return -ENOMSG;
        int number = -1;
        std::memcpy(&number, CMSG_DATA(reinterpret_cast<cmsghdr*>(&memory.control)), sizeof number);
        return number;
    }

    // 0 or an errno.
    int open_below(int directory, const std::string& path, std::uint64_t flags = O_RDONLY) {
        const open_how how{.flags = flags, .mode = 0, .resolve = 0};
        const long fd = process_.call(
            SYS_openat2, {directory, path.substr(1), InjectedArgument::bytes_of(how), sizeof how});
        if (fd < 0) return static_cast<int>(-fd);
        process_.call(SYS_close, {fd});
        return 0;
    }

  private:
    void access(void* memory, std::size_t size, auto* transfer) const {
        const proto::UniqueFd file(
            ::open(("/proc/" + std::to_string(pid_) + "/mem").c_str(), O_RDWR | O_CLOEXEC));
        REQUIRE(transfer(file.number(), memory, size, scratch_) == static_cast<ssize_t>(size));
    }

    pid_t pid_;
    SyscallInjector process_;
    long scratch_ = 0;
};

// A colluding peer's message, with an O_PATH descriptor of / attached.
void send_root(proto::BorrowedFd socket) {
    const proto::UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    const std::array<std::byte, 1> message{};
    const proto::BorrowedFd attached = root.borrow();
    REQUIRE(proto::send(socket, message, std::span(&attached, 1), proto::Wait::block));
}

// As `status` tells it.
std::string landlock_of(const Tree& tree) {
    const auto status = ControlPeer(tree.control()).ask_json("status --json");
    for (const auto& layer : status["confinement"]["layers"])
        if (layer["layer"] == "Landlock")
            return layer["state"].get<std::string>() + ": " + layer["detail"].get<std::string>();
    return "";
}

// A taken-over broker opens a file below the root that a peer has sent in.
void collude_with_broker(const Tree& tree, int outside, std::string_view landlock) {
    RunningOpener opener(tree.directory, tree.policy);
    CHECK(landlock_of(tree).starts_with(landlock));
    TestPeer peer(opener.socket());
    CHECK(peer.open(tree.data + "/secret").content() == "data");
    const int connection = socket_from(opener.broker(), ::getpid());
    TakenOver broker(opener.broker());
    send_root(peer.socket());
    const int root = broker.receive_from(connection);
    REQUIRE(root >= 0);
    CHECK(broker.open_below(root, "/etc/shadow") == outside);
    CHECK(broker.open_below(root, tree.outside) == outside);
    CHECK(broker.open_below(root, tree.data + "/secret") == 0);
    CHECK(broker.open_below(root, tree.data + "/secret", O_WRONLY) == (outside == 0 ? 0 : EACCES));
}

// A taken-over helper does so; the peer sends the root over the broker's end of the helper channel.
void collude_with_helper(const Tree& tree, int outside) {
    RunningOpener opener(tree.directory, tree.policy);
    TestPeer peer(opener.socket());
    const pid_t pid = make_helper(opener, peer, tree);
    const pid_t zygote =
        std::stoi(read_file("/proc/" + std::to_string(pid) + "/stat")
                      .substr(read_file("/proc/" + std::to_string(pid) + "/stat").rfind(')') + 4));
    const proto::UniqueFd brokers_end = descriptor_of(opener.broker(), socket_from(opener.broker(), zygote));
    TakenOver helper(pid);
    send_root(brokers_end.borrow());
    const int root = helper.receive_from(socket_from(pid, zygote));
    REQUIRE(root >= 0);
    CHECK(helper.open_below(root, "/etc/shadow") == outside);
    CHECK(helper.open_below(root, tree.outside) == outside);
    CHECK(helper.open_below(root, tree.outside, O_WRONLY) == outside);
    CHECK(helper.open_below(root, tree.data + "/secret") == 0);
}

}  // namespace

TEST_CASE("descriptors: sockets of confined processes refuse them, but for those that hand connections on") {
    FDBROKER_SKIP_UNLESS(can_take_over() && proto::can_refuse_descriptors(),
                         "needs root, mount namespaces and SO_PASSRIGHTS (Linux 6.16)");
    const Tree tree;
    RunningOpener opener(tree.directory, tree.policy);
    const ControlPeer control(tree.control());
    CHECK(landlock_of(tree).starts_with("enforced: version "));
    TestPeer peer(opener.socket());
    const pid_t helper = make_helper(opener, peer, tree);
    const pid_t broker = opener.broker();
    const pid_t watcher = watcher_of(broker);
    // The supervisor hands over connections, zygotes hand over helpers' channels.
    CHECK(taking_of(broker) == std::map<pid_t, int>{{opener.process().pid(), 1}, {broker, 2}});
    std::size_t zygotes = 0;
    for (const pid_t child : children_of(broker)) {
        if (child == watcher) continue;
        ++zygotes;
        CHECK(sockets_of(child).size() == 1);
        CHECK(taking_of(child).empty());
    }
    CHECK(zygotes == 2);
    // A helper takes duplicates of connections from the broker, and may still hold the one that it has answered on.
    CHECK(taking_of(helper).size() == 1);
    CHECK(taking_of(watcher).empty());
    const auto probes = children_of(watcher);
    CHECK(probes.size() == 1);
    for (const pid_t probe : probes) {
        CHECK(sockets_of(probe).size() == 1);
        CHECK(taking_of(probe).empty());
    }
}

TEST_CASE("descriptors: without SO_PASSRIGHTS Landlock keeps a broker from what lies below one sent to it") {
    FDBROKER_SKIP_UNLESS(can_take_over() && kernel_has_landlock(), needs_take_over);
    const Tree tree;
    run_in_child([&] {
        take_away(no_passrights);
        collude_with_broker(tree, EACCES, "enforced: version ");
    });
}

TEST_CASE("descriptors: with neither SO_PASSRIGHTS nor Landlock it is said that the broker is not kept") {
    FDBROKER_SKIP_UNLESS(can_take_over(), needs_take_over);
    const Tree tree;
    run_in_child([&] {
        take_away(no_passrights);
        take_away(no_landlock);
        collude_with_broker(tree, 0, "missing: landlock_create_ruleset");
    });
}

TEST_CASE("descriptors: Landlock keeps a helper from what lies below one that the broker lets a peer send") {
    FDBROKER_SKIP_UNLESS(can_take_over() && kernel_has_landlock(), needs_take_over);
    collude_with_helper(Tree(), EACCES);
}

TEST_CASE("descriptors: a kernel without Landlock is no kernel for --require-confinement") {
    FDBROKER_SKIP_UNLESS(can_take_over(), needs_take_over);
    const Tree tree;
    run_in_child([&] {
        take_away(no_landlock);
        collude_with_helper(tree, 0);
        const auto outcome = run(
            {.arguments = RunningOpener::arguments(tree.directory, {"--check", "--require-confinement"})});
        CHECK(outcome.status == 1);
        CHECK(outcome.out.find("layer Landlock: MISSING: landlock_create_ruleset") != std::string::npos);
        CHECK(outcome.err.find("--require-confinement: Landlock:") != std::string::npos);
    });
}

TEST_CASE("descriptors: the process that watches directories opens nothing") {
    FDBROKER_SKIP_UNLESS(can_take_over() && kernel_has_landlock(), needs_take_over);
    const Tree tree;
    RunningOpener opener(tree.directory, tree.policy);
    const pid_t pid = watcher_of(opener.broker());
    int root = -1;
    const DescriptorTable table = DescriptorTable::of(pid);
    for (const auto& [number, what] : table.entries())
        if (what == "/") root = number;
    REQUIRE(root >= 0);
    TakenOver watcher(pid);
    CHECK(watcher.open_below(root, "/etc/shadow") == EACCES);
    CHECK(watcher.open_below(root, tree.outside) == EACCES);
    CHECK(watcher.open_below(root, tree.outside, O_PATH) == 0);
}

TEST_CASE("descriptors: the process that watches directories ends with a broker whose death it is not told") {
    FDBROKER_SKIP_UNLESS(can_take_over(), needs_take_over);
    const Tree tree;
    RunningOpener opener(tree.directory, tree.policy);
    const pid_t watcher = watcher_of(opener.broker());
    const proto::UniqueFd end = end_of(watcher);
    CHECK(SyscallInjector(watcher).call(SYS_prctl, {1 /* PR_SET_PDEATHSIG */, 0}) == 0);
    ::kill(opener.broker(), SIGKILL);
    wait_readable(end.borrow());
}

TEST_CASE(
    "descriptors: what confined processes write goes through the supervisor, and nothing else leads out") {
    FDBROKER_SKIP_UNLESS(can_take_over(), needs_take_over);
    const Tree tree;
    write_file(tree.directory / "policy.yaml", tree.policy);
    const std::string log = tree.directory / "log";
    // The log is the audit's and the messages', as of an opener in a terminal or started by a script.
    std::vector<std::string> arguments = RunningOpener::arguments(tree.directory, {});
    arguments.back() = "-";
    arguments.insert(arguments.begin(),
                     {"/bin/sh", "-c", "log=$1; shift; exec \"$@\" > \"$log\" 2>&1", "sh", log});
    Process opener = Process::start({.arguments = arguments});
    wait_for_text(log, "serving");
    TestPeer peer(tree.directory / "opener.sock");
    CHECK(peer.call({.call = proto::Call::list, .path = tree.data, .payload = from_beginning}).status == 0);
    const pid_t broker = newest_broker(opener.pid());
    std::vector<pid_t> confined{broker};
    for (std::size_t i = 0; i < confined.size(); ++i)
        for (const pid_t child : children_of(confined[i])) confined.push_back(child);
    CHECK(confined.size() >= 6);
    for (const pid_t pid : confined) {
        const DescriptorTable table = DescriptorTable::of(pid);
        for (const auto& [number, what] : table.entries()) {
            CHECK(what != log);
            if (number == STDIN_FILENO || number == STDOUT_FILENO)
                CHECK((what == "/dev/null" || what.starts_with("socket:") || what == "/"));
            if (number == STDERR_FILENO) CHECK(what.starts_with("pipe:"));
        }
    }
    {
        SyscallInjector taken(broker);
        CHECK(taken.call(SYS_lseek, {STDERR_FILENO, 0, SEEK_SET}) == -ESPIPE);
        CHECK(taken.call(SYS_ftruncate, {STDERR_FILENO, 0}) < 0);
        CHECK(taken.call(SYS_write, {STDERR_FILENO, "last\x1bwords", 10}) == 10);
    }
    ::kill(broker, SIGKILL);
    const std::string text = wait_for_text(log, "starting another");
    const std::size_t words = text.find("\nlast\\x1bwords\n");
    REQUIRE(words != std::string::npos);
    CHECK(words < text.find("the broker of generation 1"));
    opener.signal(SIGTERM);
    CHECK(opener.wait().status == 0);
}
