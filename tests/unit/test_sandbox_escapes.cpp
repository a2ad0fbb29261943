// SPDX-License-Identifier: MIT
// What a process tries that has been taken over, the attempts of `worker sandbox-report`. Each is made by a child as it
// is, by one behind the filter alone, by one that has confined itself as a program with the library does, and by one that
// is confined as `worker` is.
#include <doctest/doctest.h>
#include <sched.h>
#include <sys/prctl.h>

#include <fstream>
#include <set>
#include <string>
#include <string_view>

#include "tests/support/verdict.hpp"
#include "tests/unit/test_sandbox_child.hpp"
#include "worker/sandbox/escapes.hpp"
#include "worker/sandbox/filter.hpp"
#include "worker/sandbox/sandbox.hpp"

namespace fdbroker::test {
namespace {

using worker::Escape;
using worker::EscapeGroup;
using worker::EscapeScene;

constexpr int not_entered = 200;  // above every errno

int ending_of(const Escape& escape, const std::function<bool()>& enter) {
    const auto scene = EscapeScene::make();
    REQUIRE(scene.has_value());
    return in_child([&] { return enter() ? errno_of(escape.attempt(*scene)) : not_entered; });
}

bool enter_filter_alone() {
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && worker::enter_filter(worker::Signals::filter);
}

void check_stopped(const char* where, int ending) {
    CAPTURE(where);
    CHECK(ending != 0);
    CHECK(ending != not_entered);
}

// An attempt that does not even work unconfined says nothing. A kernel may be too old for it, and these are known to fail
// on some machines for their configuration.
void check_possible(const Escape& escape) {
    static const std::set<std::string> not_everywhere{"make an x32 system call",
                                                      "make a 32-bit system call",
                                                      "type into a terminal",
                                                      "use io_uring",
                                                      "use bpf",
                                                      "count events of the processor",
                                                      "handle page faults",
                                                      "watch a whole filesystem",
                                                      "connect over TCP while it sends",
                                                      "take a pidfd from a socket it holds",
                                                      "let any process trace it",
                                                      "set the flags of a file, the younger way",
                                                      "map a shadow stack"};
    if (not_everywhere.contains(escape.what)) return;
    const int ending = ending_of(escape, [] { return true; });
    CHECK((ending == 0 || ending == ENOSYS));
}

// The System V objects of this IPC namespace: /proc/sysvipc has a line for each, below a headline.
std::size_t ipc_objects() {
    std::size_t lines = 0;
    for (const char* kind : {"shm", "msg", "sem"}) {
        std::ifstream table(std::string("/proc/sysvipc/") + kind);
        for (std::string line; std::getline(table, line);) ++lines;
    }
    return lines;
}

void check(EscapeGroup group) {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root for what only root may do unconfined");
    for (const Escape& escape : worker::escapes(group)) {
        CAPTURE(escape.what);
        check_possible(escape);
        if (escape.filter == worker::FilterSays::refuse) {
            check_stopped("filter", ending_of(escape, enter_filter_alone));
            check_stopped(
                "library", ending_of(escape, [] {
                    return worker::confine({.missing_layer = worker::MissingLayer::go_on}).has_value();
                }));
        }
        check_stopped("worker", ending_of(escape, [] { return worker::enter_as_worker().has_value(); }));
    }
}

}  // namespace

TEST_CASE("sandbox: no way out by a path") {
    check(EscapeGroup::paths);
}

TEST_CASE("sandbox: no way out by a descriptor") {
    check(EscapeGroup::descriptors);
}

TEST_CASE("sandbox: no way out by a socket") {
    check(EscapeGroup::sockets);
}

TEST_CASE("sandbox: no way out by another program") {
    check(EscapeGroup::programs);
}

TEST_CASE("sandbox: no way out by another process") {
    check(EscapeGroup::processes);
}

TEST_CASE("sandbox: the attempts leave no System V object behind") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root for an IPC namespace");
    CHECK(in_child([] {
              if (::unshare(CLONE_NEWIPC) != 0) return not_entered;
              const std::size_t before = ipc_objects();
              const auto scene = EscapeScene::make();
              for (const Escape& escape : worker::escapes(EscapeGroup::processes))
                  if (std::string_view(escape.what).starts_with("make ") ||
                      std::string_view(escape.what).starts_with("share "))
                      static_cast<void>(escape.attempt(*scene));
              return before != 0 && ipc_objects() == before ? 0 : 1;
          }) == 0);
}

TEST_CASE("sandbox: no way around the filter") {
    check(EscapeGroup::kernel);
}

}  // namespace fdbroker::test
