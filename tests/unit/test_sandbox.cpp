// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "proto/address.hpp"
#include "proto/channel.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"
#include "tests/unit/test_sandbox_child.hpp"
#include "worker/client/c_api.hpp"
#include "worker/sandbox/filter.hpp"
#include "worker/sandbox/landlock.hpp"
#include "worker/sandbox/sandbox.hpp"

namespace fdbroker::worker {
namespace {

using proto::BorrowedFd;
using proto::UniqueFd;
using test::in_child;

constexpr ConfineOptions best_effort{.missing_layer = MissingLayer::go_on};

LayerState state_of(const SandboxReport& report, Layer layer) {
    return report[static_cast<std::size_t>(layer)].state;
}

bool no_new_privs() {
    return ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

// From here on this process has a kernel without that system call.
void fake_lack_of(const char* name, int error) {
    const scmp_filter_ctx context = ::seccomp_init(SCMP_ACT_ALLOW);
    ::seccomp_attr_set(context, SCMP_FLTATR_CTL_NNP, 0);
    const auto action = SCMP_ACT_ERRNO(static_cast<unsigned>(error));
    if (::seccomp_rule_add(context, action, ::seccomp_syscall_resolve_name(name), 0) != 0 ||
        ::seccomp_load(context) != 0)
        throw std::runtime_error("cannot fake the lack of " + std::string(name));
    ::seccomp_release(context);
}

std::string status_line(pid_t process, const std::string& key) {
    std::ifstream file("/proc/" + std::to_string(process) + "/status");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with(key + ":\t")) return line.substr(key.size() + 2);
    return "";
}

}  // namespace

TEST_CASE("sandbox: the kernel sees no capability, no_new_privs and the filter on a confined process") {
    std::array<int, 2> ready{};
    std::array<int, 2> done{};
    REQUIRE(::pipe2(ready.data(), O_CLOEXEC) == 0);
    REQUIRE(::pipe2(done.data(), O_CLOEXEC) == 0);
    const UniqueFd ready_read(ready[0]);
    UniqueFd ready_write(ready[1]);
    const UniqueFd done_read(done[0]);
    UniqueFd done_write(done[1]);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        done_write.reset();
        const bool confined = confine(best_effort).has_value();
        const bool dumpable = ::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0;
        char byte = confined && !dumpable ? 'y' : 'n';
        static_cast<void>(!::write(ready_write.number(), &byte, 1));
        static_cast<void>(!::read(done_read.number(), &byte, 1));
        ::_exit(0);
    }
    ready_write.reset();
    char byte = 0;
    REQUIRE(::read(ready_read.number(), &byte, 1) == 1);
    CHECK(byte == 'y');
    const std::string none = "0000000000000000";
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"}) CHECK(status_line(child, set) == none);
    // Only who has CAP_SETPCAP can empty the bounding set.
    if (test::is_root()) CHECK(status_line(child, "CapBnd") == none);
    CHECK(status_line(child, "NoNewPrivs") == "1");
    CHECK(status_line(child, "Seccomp") == "2");
    done_write.reset();
    REQUIRE(::waitpid(child, nullptr, 0) == child);
}

TEST_CASE("sandbox: the report tells each layer") {
    test::run_in_child([] {
        const auto report = confine(best_effort);
        REQUIRE(report.has_value());
        for (std::size_t index = 0; index < layer_count; ++index)
            CHECK((*report)[index].layer == static_cast<Layer>(index));
        CHECK(state_of(*report, Layer::descriptors) == LayerState::not_asked);
        for (const Layer layer : {Layer::capabilities, Layer::dumpable, Layer::no_new_privs, Layer::seccomp})
            CHECK(state_of(*report, layer) == LayerState::enforced);
    });
    CHECK(to_string(Layer::landlock) == std::string("Landlock"));
}

TEST_CASE("sandbox: someone without privileges is confined as well") {
    FDBROKER_SKIP_UNLESS(test::is_root(), "needs root to be somebody else");
    test::run_as(test::some_user, [] {
        CHECK(confine(best_effort).has_value());
        CHECK(::open("/dev/null", O_RDONLY) == -1);
        CHECK(errno == EPERM);
    });
}

TEST_CASE("sandbox: a second thread is EBUSY, and nothing has changed") {
    CHECK(in_child([] {
              std::array<int, 2> ends{};
              if (::pipe(ends.data()) != 0) return 1;
              std::jthread other([end = ends[0]] {
                  char byte = 0;
                  static_cast<void>(!::read(end, &byte, 1));
              });
              const auto report = confine({});
              const bool busy = !report && report.error().errno_value == EBUSY;
              const bool unchanged = !no_new_privs() && ::open("/dev/null", O_RDONLY) >= 0;
              ::close(ends[1]);
              other.join();
              if (!busy || !unchanged) return 2;
              return confine(best_effort) ? 0 : 3;
          }) == 0);
}

TEST_CASE(
    "sandbox: a kernel without Landlock is an error, and nothing has changed; or it goes on when told to") {
    FDBROKER_SKIP_UNLESS(test::is_root(), "needs root for a filter without no_new_privs");
    for (const int lack : {ENOSYS, EOPNOTSUPP}) {
        CAPTURE(lack);
        CHECK(in_child([lack] {
                  fake_lack_of("landlock_create_ruleset", lack);
                  const auto refused = confine({});
                  if (refused || refused.error().errno_value != lack) return 1;
                  if (no_new_privs() || ::open("/dev/null", O_RDONLY) < 0) return 2;
                  const auto report = confine(best_effort);
                  if (!report || state_of(*report, Layer::landlock) != LayerState::unavailable) return 3;
                  if ((*report)[static_cast<std::size_t>(Layer::landlock)].detail.empty()) return 4;
                  // The filter does what Landlock would have done.
                  return ::kill(::getppid(), 0) == -1 && ::open("/dev/null", O_RDONLY) == -1 ? 0 : 5;
              }) == 0);
    }
}

TEST_CASE("sandbox: a kernel without seccomp filters is an error, or left out when told to") {
    FDBROKER_SKIP_UNLESS(test::is_root(), "needs root for a filter without no_new_privs");
    CHECK(in_child([] {
              fake_lack_of("seccomp", ENOSYS);
              const auto refused = confine({});
              if (refused || (refused.error().errno_value != ENOSYS && landlock_abi())) return 1;
              if (no_new_privs()) return 2;
              const auto report = confine(best_effort);
              if (!report || state_of(*report, Layer::seccomp) != LayerState::unavailable) return 3;
              return state_of(*report, Layer::no_new_privs) == LayerState::enforced ? 0 : 4;
          }) == 0);
}

TEST_CASE(
    "sandbox: Landlock by itself stops files, and as far as its ABI goes TCP, abstract sockets and signals") {
    const auto abi = landlock_abi();
    FDBROKER_SKIP_UNLESS(abi.has_value(), "this kernel has no Landlock");
    const auto restricted = [&abi](auto attempt) {
        const int outside = in_child([&] { return errno_of(attempt()); });
        CHECK(outside == 0);
        return in_child([&] {
            if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
                !restrict_by_landlock(*abi, {}, Network::none))
                return 0;
            return errno_of(attempt());
        });
    };
    CHECK(restricted([] { return ::open("/etc/passwd", O_RDONLY); }) == EACCES);
    CHECK(restricted([] { return ::execl("/bin/true", "true", nullptr); }) == EACCES);
    if (*abi >= 4) {
        CHECK(restricted([] {
                  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
                  sockaddr_in address{};
                  address.sin_family = AF_INET;
                  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
                  return ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address);
              }) == EACCES);
    }
    if (*abi >= 6) {
        CHECK(restricted([] { return ::kill(::getppid(), 0); }) == EPERM);
        const auto name =
            proto::Address::parse("@fdbroker-test-" + std::to_string(::getpid()))->socket_name();
        const auto* address = reinterpret_cast<const sockaddr*>(&name.address);
        const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        REQUIRE(::bind(listener.number(), address, name.size) == 0);
        REQUIRE(::listen(listener.number(), 4) == 0);
        CHECK(restricted([&] { return ::connect(::socket(AF_UNIX, SOCK_STREAM, 0), address, name.size); }) ==
              EPERM);
    }
}

TEST_CASE("sandbox: all descriptors but the standard ones and those named are closed when asked for") {
    CHECK(in_child([] {
              std::vector<UniqueFd> opened;
              for (int count = 0; count < 20; ++count) opened.emplace_back(::open("/dev/null", O_RDONLY));
              const std::vector<BorrowedFd> kept{opened[7].borrow(), opened[3].borrow(), opened[8].borrow(),
                                                 BorrowedFd(0)};
              const auto report = confine({.missing_layer = MissingLayer::go_on, .keep_only = kept});
              if (!report || state_of(*report, Layer::descriptors) != LayerState::enforced) return 1;
              for (int number = 0; number < 1000; ++number) {
                  const bool named = std::ranges::any_of(
                      kept, [number](BorrowedFd descriptor) { return descriptor.number() == number; });
                  const bool open = ::fcntl(number, F_GETFD) != -1;
                  if (number <= 2 ? !open : open != named) return 2;
              }
              return 0;
          }) == 0);
}

TEST_CASE("sandbox: once is enough, a second time is EPERM") {
    CHECK(in_child([] {
              if (!confine(best_effort)) return 1;
              const int error = fdbroker_confine(0);
              return error == -EPERM ? 0 : 2;
          }) == 0);
}

TEST_CASE("sandbox: flags that are none are EINVAL, and nothing has changed") {
    CHECK(in_child([] {
              if (fdbroker_confine(64) != -EINVAL || fdbroker_confine(~0u) != -EINVAL) return 1;
              return ::open("/dev/null", O_RDONLY) >= 0 ? 0 : 2;
          }) == 0);
}

TEST_CASE("sandbox: a process may signal itself, whoever restricts signals") {
    for (const Signals signals : {Signals::filter, Signals::landlock})
        CHECK(in_child([signals] {
                  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !enter_filter(signals)) return 1;
                  std::signal(SIGUSR1, [](int) {});
                  if (::raise(SIGUSR1) != 0 || ::kill(::getpid(), SIGUSR1) != 0) return 2;
                  return ::pthread_kill(::pthread_self(), SIGUSR1) == 0 ? 0 : 3;
              }) == 0);
    CHECK(in_child([]() -> int {
              if (!confine(best_effort)) return 1;
              std::abort();
          }) == test::by_signal + SIGABRT);
}

// ---- what must go on working

namespace {

// Runs in a confined child with one end of a socket pair and a file in memory.
int in_confined_child(const std::function<bool(const UniqueFd& socket, const UniqueFd& file)>& body) {
    const auto before = test::DescriptorTable::now();
    int result = -1;
    {
        std::array<int, 2> ends{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
        const UniqueFd ours(ends[0]);
        const UniqueFd theirs(ends[1]);
        const UniqueFd file(::memfd_create("test", MFD_CLOEXEC));
        REQUIRE(::write(file.number(), "content", 7) == 7);
        const std::array<std::byte, 1> message{};
        const std::array borrowed{file.borrow()};
        REQUIRE(proto::send(ours.borrow(), message, borrowed, proto::Wait::block));
        result = in_child([&] {
            if (!confine(best_effort)) return 1;
            return body(theirs, file) ? 0 : 2;
        });
    }
    CHECK(test::DescriptorTable::now().changes_since(before) == "");
    return result;
}

}  // namespace

TEST_CASE("sandbox: messages and files travel into a confined process") {
    CHECK(in_confined_child([](const UniqueFd& socket, const UniqueFd&) {
              std::array<std::byte, 16> buffer{};
              proto::ReceivedDescriptors descriptors;
              if (!proto::receive(socket.borrow(), buffer, descriptors, proto::Wait::block)) return false;
              if (descriptors.count() != 1) return false;
              const UniqueFd file = descriptors.take(0);
              std::array<char, 16> text{};
              if (::pread(file.number(), text.data(), text.size(), 0) != 7) return false;
              return proto::send(socket.borrow(), buffer, {}, proto::Wait::block).has_value();
          }) == 0);
}

TEST_CASE("sandbox: files that are held can be read, written, mapped, locked, sized and duplicated") {
    CHECK(in_confined_child([](const UniqueFd&, const UniqueFd& file) {
              const int number = file.number();
              void* mapping = ::mmap(nullptr, 7, PROT_READ | PROT_WRITE, MAP_SHARED, number, 0);
              if (mapping == MAP_FAILED || std::memcmp(mapping, "content", 7) != 0) return false;
              struct flock lock{};
              lock.l_type = F_WRLCK;
              const UniqueFd copy(::fcntl(number, F_DUPFD_CLOEXEC, 0));
              return ::munmap(mapping, 7) == 0 && ::lseek(number, 0, SEEK_END) == 7 &&
                     ::write(number, "!", 1) == 1 && ::ftruncate(number, 4) == 0 && ::fsync(number) == 0 &&
                     ::fcntl(number, F_SETLK, &lock) == 0 && copy &&
                     ::fcntl(number, F_SETFL, ::fcntl(number, F_GETFL) | O_APPEND) == 0;
          }) == 0);
}

TEST_CASE("sandbox: memory, time, random numbers and standard streams go on working") {
    CHECK(in_confined_child([](const UniqueFd&, const UniqueFd& file) {
              std::vector<std::vector<char>> blocks;
              for (std::size_t size = 1; size < (1u << 26); size *= 2) blocks.emplace_back(size, 'x');
              timespec now{};
              timespec instant{.tv_sec = 0, .tv_nsec = 1};
              std::array<char, 8> random{};
              if (::clock_gettime(CLOCK_MONOTONIC, &now) != 0 || ::nanosleep(&instant, nullptr) != 0 ||
                  ::getentropy(random.data(), random.size()) != 0 || ::time(nullptr) == 0)
                  return false;
              std::FILE* stream = ::fdopen(::dup(file.number()), "r+");
              if (stream == nullptr) return false;
              std::rewind(stream);
              std::array<char, 16> text{};
              const bool read = std::fgets(text.data(), text.size(), stream) != nullptr;
              return read && std::string(text.data()) == "content" && std::fputs("more", stream) >= 0 &&
                     std::fclose(stream) == 0;
          }) == 0);
}

TEST_CASE("sandbox: threads, fork, pipes and epoll go on working") {
    CHECK(in_confined_child([](const UniqueFd& socket, const UniqueFd&) {
              int answer = 0;
              {
                  std::vector<std::jthread> threads;
                  std::atomic<int> sum = 0;
                  for (int count = 0; count < 8; ++count)
                      threads.emplace_back([&sum] {
                          const std::vector<char> block(1 << 20, 'x');
                          sum += block.back() == 'x' ? 1 : 0;
                      });
                  threads.clear();
                  answer = sum;
              }
              std::array<int, 2> ends{};
              if (answer != 8 || ::pipe2(ends.data(), O_CLOEXEC) != 0) return false;
              const pid_t child = ::fork();
              if (child < 0) return false;
              if (child == 0) {
                  static_cast<void>(!::write(ends[1], "x", 1));
                  ::_exit(0);
              }
              int status = -1;
              pollfd waited{.fd = ends[0], .events = POLLIN, .revents = 0};
              if (::poll(&waited, 1, -1) != 1 || ::waitpid(child, &status, 0) != child || status != 0)
                  return false;
              const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
              epoll_event event{.events = EPOLLIN, .data = {}};
              return ::epoll_ctl(epoll.number(), EPOLL_CTL_ADD, socket.number(), &event) == 0 &&
                     ::epoll_wait(epoll.number(), &event, 1, -1) == 1;
          }) == 0);
}

TEST_CASE("sandbox: a socket that listens already goes on accepting") {
    const auto name =
        proto::Address::parse("@fdbroker-test-accept-" + std::to_string(::getpid()))->socket_name();
    const auto* address = reinterpret_cast<const sockaddr*>(&name.address);
    const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(listener.number(), address, name.size) == 0);
    REQUIRE(::listen(listener.number(), 4) == 0);
    const UniqueFd connection(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(connection.number(), address, name.size) == 0);
    CHECK(in_child([&] {
              if (!confine(best_effort)) return 1;
              const UniqueFd accepted(::accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC));
              return accepted && ::send(accepted.number(), "x", 1, MSG_NOSIGNAL) == 1 ? 0 : 2;
          }) == 0);
    char byte = 0;
    CHECK(::read(connection.number(), &byte, 1) == 1);
}

}  // namespace fdbroker::worker
