// SPDX-License-Identifier: MIT
// What a program may ask of its sandbox beyond the least: namespaces, limits, fstat(3).
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "proto/unique_fd.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"
#include "tests/unit/test_sandbox_child.hpp"
#include "worker/client/c_api.hpp"
#include "worker/sandbox/filter.hpp"
#include "worker/sandbox/fstat_handler.hpp"
#include "worker/sandbox/namespaces.hpp"
#include "worker/sandbox/sandbox.hpp"

namespace fdbroker::worker {
namespace {

using test::by_signal;
using test::in_child;

constexpr unsigned best_effort = FDBROKER_CONFINE_BEST_EFFORT;

}  // namespace

TEST_CASE("namespaces: an empty read-only root, no network but a loopback that is down, one's own number") {
    FDBROKER_SKIP_UNLESS(namespaces_available().has_value(), "this process may have no namespaces");
    const uid_t uid = ::getuid();
    CHECK(in_child([uid] {
              const auto entered = enter_namespaces();
              if (!entered) return entered.error().errno_value;
              if (::getuid() != uid || ::geteuid() != uid) return 201;
              if (::open("/etc/passwd", O_RDONLY) >= 0 || errno != ENOENT) return 202;
              if (::open("/proc/self/status", O_RDONLY) >= 0 || errno != ENOENT) return 203;
              if (::mkdir("/x", 0700) == 0 || errno != EROFS) return 204;
              if (::open("..", O_RDONLY) < 0 || ::open("../etc", O_RDONLY) >= 0) return 205;
              const int socket = ::socket(AF_INET, SOCK_DGRAM, 0);
              sockaddr_in address{};
              address.sin_family = AF_INET;
              address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
              const long connected =
                  ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address);
              return errno_of(connected) == ENETUNREACH ? 0 : 206;
          }) == 0);
}

TEST_CASE("namespaces: whoever may not have them is told, and nothing has changed") {
    FDBROKER_SKIP_UNLESS(namespaces_available().has_value(), "this process may have no namespaces");
    CHECK(in_child([] {
              // A single user namespace, and none below: user_namespaces(7).
              if (!enter_user_namespace(0)) return 201;
              {
                  std::ofstream limit("/proc/sys/user/max_user_namespaces");
                  limit << 0 << std::flush;
                  if (!limit) return 202;
              }
              const auto available = namespaces_available();
              if (available || available.error().errno_value != ENOSPC) return 203;
              const auto report = confine({.missing_layer = MissingLayer::go_on, .namespaces = Wish::yes});
              if (!report) return 204;
              const LayerReport& layer = (*report)[static_cast<std::size_t>(Layer::namespaces)];
              return layer.state == LayerState::unavailable && !layer.detail.empty() ? 0 : 205;
          }) == 0);
}

TEST_CASE("sandbox: with limits there is no core dump, no process, no thread, and no way back") {
    FDBROKER_SKIP_UNLESS(test::is_root(), "needs root to be somebody else");
    test::run_as(test::some_user, [] {
        REQUIRE(fdbroker_confine(best_effort | FDBROKER_CONFINE_LIMITS) == 0);
        CHECK(::fork() == -1);
        CHECK(errno == EAGAIN);
        CHECK_THROWS_AS(std::jthread([] {}), std::system_error);
        for (const auto resource : {RLIMIT_CORE, RLIMIT_NPROC, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE}) {
            rlimit limit{};
            CHECK(::getrlimit(resource, &limit) == 0);
            CHECK(limit.rlim_max == 0);
            limit.rlim_max = 1;
            CHECK(::setrlimit(resource, &limit) == -1);
        }
    });
}

#if defined(__x86_64__) || defined(__aarch64__)

TEST_CASE("sandbox: fstat tells of a descriptor, whichever system call the C library makes of it") {
    CHECK(in_child([] {
              const int file = ::memfd_create("test", 0);
              if (::ftruncate(file, 4711) != 0 || fdbroker_confine(best_effort) != 0) return 201;
              struct stat status{};
              if (::fstat(file, &status) != 0 || status.st_size != 4711) return 202;
              status = {};
              errno = 77;
              if (::syscall(SYS_newfstatat, file, "", &status, AT_EMPTY_PATH) != 0 || errno != 77) return 203;
              if (status.st_size != 4711) return 204;
              if (errno_of(::syscall(SYS_newfstatat, 999, "", &status, AT_EMPTY_PATH)) != EBADF) return 205;
              if (errno_of(::syscall(SYS_newfstatat, file, "", 1, AT_EMPTY_PATH)) != EFAULT) return 206;
              return 0;
          }) == 0);
}

TEST_CASE("sandbox: with a path in it the same call is refused") {
    CHECK(in_child([] {
              const int directory = ::open("/", O_RDONLY | O_DIRECTORY);
              if (fdbroker_confine(best_effort) != 0) return 201;
              struct stat status{};
              for (const char* path : {"etc", "/etc/passwd", "."})
                  for (const int flags : {0, AT_EMPTY_PATH, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW})
                      if (errno_of(::fstatat(directory, path, &status, flags)) != EPERM) return 202;
              return 0;
          }) == 0);
}

TEST_CASE("sandbox: fstat is served in threads and forked children as well") {
    CHECK(in_child([] {
              const int file = ::memfd_create("test", 0);
              if (fdbroker_confine(best_effort) != 0) return 201;
              int result = -1;
              std::jthread([&] {
                  struct stat status{};
                  result = ::fstat(file, &status);
              }).join();
              if (result != 0) return 202;
              const pid_t child = ::fork();
              if (child == 0) {
                  struct stat status{};
                  ::_exit(errno_of(::fstat(file, &status)));
              }
              int status = -1;
              return ::waitpid(child, &status, 0) == child && status == 0 ? 0 : 203;
          }) == 0);
}

TEST_CASE("sandbox: a program's own SIGSYS handler, or its wish for none, is left alone") {
    const auto refused = [](unsigned flags, void (*before)()) {
        return in_child([flags, before] {
            before();
            struct sigaction old{};
            struct sigaction now{};
            ::sigaction(SIGSYS, nullptr, &old);
            const int file = ::memfd_create("test", 0);
            if (fdbroker_confine(best_effort | flags) != 0) return 201;
            ::sigaction(SIGSYS, nullptr, &now);
            if (old.sa_handler != now.sa_handler) return 202;
            struct stat status{};
            return errno_of(::syscall(SYS_newfstatat, file, "", &status, AT_EMPTY_PATH));
        });
    };
    CHECK(refused(FDBROKER_CONFINE_NO_SIGSYS, [] {}) == EPERM);
    CHECK(refused(0, [] { std::signal(SIGSYS, [](int) {}); }) == EPERM);
    CHECK(refused(0, [] { std::signal(SIGSYS, SIG_IGN); }) == EPERM);
    CHECK(refused(0, [] {
              sigset_t all;
              sigfillset(&all);
              ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
          }) == EPERM);
}

TEST_CASE("sandbox: a SIGSYS that is not for fstat ends the process as ever") {
    CHECK(in_child([] {
              if (install_fstat_handler() != Fstat::served) return 201;
              std::raise(SIGSYS);
              return 0;
          }) == by_signal + SIGSYS);
}

#endif

}  // namespace fdbroker::worker
