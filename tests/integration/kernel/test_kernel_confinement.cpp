// SPDX-License-Identifier: MIT
// What the kernel does, where the confinement leans on it. A kernel that does otherwise fails here first.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "opener/confinement/landlock.hpp"
#include "opener/confinement/privileges.hpp"
#include "proto/channel.hpp"
#include "tests/integration/confinement_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

namespace {

using opener::BrokerAccount;

const BrokerAccount someone{.uid = some_user, .gid = some_user, .name = {}, .changes = true};

}  // namespace

TEST_CASE("kernel: a bind mount holds the directory it was made from, whatever takes the name afterwards") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs root and mount namespaces");
    const TempDir top;
    for (const char* name : {"source", "target"}) make_directory(top / name);
    write_file(top / "source/file", "old");
    run_in_mount_namespace([&] {
        REQUIRE(::mount((top / "source").c_str(), (top / "target").c_str(), nullptr, MS_BIND, nullptr) == 0);
        std::filesystem::rename(top / "source", top / "moved");
        make_directory(top / "source");
        write_file(top / "source/file", "new");
        CHECK(read_file(top / "target/file") == "old");
    });
}

TEST_CASE("kernel: Landlock restricts neither chown, chmod, utimensat, stat nor O_PATH") {
    FDBROKER_SKIP_UNLESS(is_root() && opener::landlock_version(), "needs root and Landlock");
    const TempDir top;
    const std::string file = top / "file";
    write_file(file, "text");
    run_in_child([&] {
        const proto::UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
        REQUIRE(opener::restrict_by_landlock({}, root.borrow(), *opener::landlock_version()).has_value());
        CHECK(attempt_open(::open(file.c_str(), O_RDONLY)) == EACCES);
        CHECK(attempt(::chown(file.c_str(), some_user, some_user)) == 0);
        CHECK(attempt(::chmod(file.c_str(), 0666)) == 0);
        CHECK(attempt(::utimensat(AT_FDCWD, file.c_str(), nullptr, 0)) == 0);
        struct stat status{};
        CHECK(attempt(::stat(file.c_str(), &status)) == 0);
        CHECK(attempt_open(::open(file.c_str(), O_PATH | O_CLOEXEC)) == 0);
    });
}

TEST_CASE("kernel: CAP_DAC_READ_SEARCH permits to open by handle, past every directory") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir top(TempDir::Place::var_tmp, 0700);
    write_file(top / "file", "text", {.mode = 0600});
    alignas(file_handle) std::array<std::byte, sizeof(file_handle) + MAX_HANDLE_SZ> room{};
    auto* const handle = new (room.data()) file_handle{};
    handle->handle_bytes = MAX_HANDLE_SZ;
    int mount_id = 0;
    const int named = ::name_to_handle_at(AT_FDCWD, (top / "file").c_str(), handle, &mount_id, 0);
    FDBROKER_SKIP_UNLESS(named == 0, "the filesystem of /var/tmp has no handles");
    const proto::UniqueFd mount(::open(top.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (const int capability : {CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE}) {
        run_in_child([&] {
            REQUIRE(opener::drop_privileges(someone, std::uint64_t{1} << capability).has_value());
            const int outcome = attempt_open(::open_by_handle_at(mount.number(), handle, O_RDONLY));
            CHECK(outcome == (capability == CAP_DAC_READ_SEARCH ? 0 : EPERM));
        });
    }
}

TEST_CASE(
    "kernel: a process without capabilities may signal and limit another of the same uid, and of no other") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    for (const uid_t uid : {some_user, other_user}) {
        run_beside([] { REQUIRE(opener::drop_privileges(someone, 0).has_value()); },
                   [&](pid_t victim) {
                       // A thread cannot change its uid alone by setuid(3).
                       run_as(uid, [&] {
                           const int expected = uid == some_user ? 0 : EPERM;
                           CHECK(attempt(::kill(victim, 0)) == expected);
                           const rlimit limit{.rlim_cur = 100, .rlim_max = 100};
                           CHECK(attempt(::prlimit(victim, RLIMIT_NPROC, &limit, nullptr)) == expected);
                       });
                   });
    }
}

TEST_CASE("kernel: a change of uid clears the signal for the parent's death") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    run_in_child([] {
        REQUIRE(::prctl(PR_SET_PDEATHSIG, SIGTERM) == 0);
        REQUIRE(::setresuid(some_user, some_user, some_user) == 0);
        int signal = -1;
        REQUIRE(::prctl(PR_GET_PDEATHSIG, &signal) == 0);
        CHECK(signal == 0);
    });
}

TEST_CASE("kernel: descriptors in flight are counted against the sender's limit, unless it is privileged") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const auto sent_before_refusal = [] {
        std::array<int, 2> ends{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
        const proto::UniqueFd sender(ends[0]);
        const proto::UniqueFd receiver(ends[1]);
        const rlimit few{.rlim_cur = 16, .rlim_max = 16};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
        const std::array<std::byte, 1> message{};
        const std::vector<proto::BorrowedFd> descriptors(10, sender.borrow());
        for (int count = 0; count < 10; ++count) {
            const auto sent = proto::send(sender.borrow(), message, descriptors, proto::Wait::never);
            if (!sent) {
                CHECK(sent.error().errno_value == ETOOMANYREFS);
                return count;
            }
        }
        return 10;
    };
    run_as(some_user, [&] { CHECK(sent_before_refusal() == 2); });
    run_in_child([&] { CHECK(sent_before_refusal() == 10); });
}

#ifdef __x86_64__
TEST_CASE("kernel: a filter for 64-bit calls alone is walked around by the 32-bit entry") {
    run_in_child([] {
        REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(SCMP_ACT_ALLOW),
                                                                       seccomp_release);
        REQUIRE(seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW) == 0);
        REQUIRE(seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), SCMP_SYS(getppid), 0) == 0);
        REQUIRE(seccomp_load(filter.get()) == 0);
        CHECK(attempt(::syscall(SYS_getppid)) == EPERM);
        long result = 64;  // getppid of i386
        asm volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
        CHECK(result > 0);
    });
}
#endif

}  // namespace fdbroker::test
