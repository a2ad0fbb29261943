// SPDX-License-Identifier: MIT
// Account, capabilities and limits: as the kernel tells of the process, and as the process finds out by trying.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

#include "opener/confinement/privileges.hpp"
#include "opener/identity/accounts.hpp"
#include "opener/identity/unused_uid.hpp"
#include "tests/integration/confinement_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

namespace {

using opener::BrokerAccount;
using opener::choose_account;

constexpr std::uint64_t only(int capability) {
    return std::uint64_t{1} << capability;
}

const BrokerAccount unused{.uid = some_user, .gid = some_user, .name = {}, .changes = true};

void drop(std::uint64_t capabilities) {
    const auto dropped = opener::drop_privileges(unused, capabilities);
    if (!dropped) throw std::runtime_error(dropped.error().message());
    CHECK(*dropped == "");
}

// The fields of /proc/PID/status, spaces squeezed.
std::map<std::string, std::string> status_of(pid_t pid) {
    std::map<std::string, std::string> fields;
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);) {
        std::istringstream rest(line.substr(line.find(':') + 1));
        std::string value;
        for (std::string word; rest >> word;) value += (value.empty() ? "" : " ") + word;
        fields[line.substr(0, line.find(':'))] = value;
    }
    return fields;
}

}  // namespace

TEST_CASE(
    "privileges: the confined process has the account, the capabilities and the flags of the plan, no more") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs root and mount namespaces");
    const TempDir top;
    const auto plan = plan_for({directory_for(top.path(), {policy::Operation::read})});
    const DescriptorTable before = DescriptorTable::now();
    run_beside(
        [&] {
            const gid_t groups[] = {0, 4, 27};
            REQUIRE(::setgroups(3, groups) == 0);
            REQUIRE(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0);
            (void)confine_here(plan);
        },
        [&](pid_t child) {
            const auto status = status_of(child);
            const std::string uid = std::to_string(plan.account.uid);
            const std::string gid = std::to_string(plan.account.gid);
            CHECK(status.at("Uid") == uid + " " + uid + " " + uid + " " + uid);
            CHECK(status.at("Gid") == gid + " " + gid + " " + gid + " " + gid);
            CHECK(status.at("Groups") == "");
            CHECK(status.at("CapInh") == "0000000000000000");
            CHECK(status.at("CapPrm") == "0000000000000004");  // CAP_DAC_READ_SEARCH
            CHECK(status.at("CapEff") == "0000000000000004");
            CHECK(status.at("CapBnd") == "0000000000000000");
            CHECK(status.at("CapAmb") == "0000000000000000");
            CHECK(status.at("NoNewPrivs") == "1");
            CHECK(status.at("Seccomp") == "2");
            CHECK(status.at("Threads") == "1");
            // A process that is not dumpable has its files in /proc owned by root.
            struct stat files{};
            REQUIRE(::stat(("/proc/" + std::to_string(child) + "/fd").c_str(), &files) == 0);
            CHECK(files.st_uid == 0);
        });
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("privileges: inherited and ambient capabilities go as well") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    run_beside(
        [] {
            __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
            __user_cap_data_struct data[2]{};
            REQUIRE(::syscall(SYS_capget, &header, data) == 0);
            data[0].inheritable = only(CAP_CHOWN);
            REQUIRE(::syscall(SYS_capset, &header, data) == 0);
            REQUIRE(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == 0);
            drop(only(CAP_FOWNER));
        },
        [](pid_t child) {
            const auto status = status_of(child);
            CHECK(status.at("CapInh") == "0000000000000000");
            CHECK(status.at("CapPrm") == "0000000000000008");
            CHECK(status.at("CapEff") == "0000000000000008");
            CHECK(status.at("CapBnd") == "0000000000000000");
            CHECK(status.at("CapAmb") == "0000000000000000");
        });
}

TEST_CASE("privileges: every securebit is set and locked") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    run_in_child([] {
        drop(only(CAP_SETPCAP));  // with which they could be changed if they were not locked
        // NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE and their locks, and KEEP_CAPS locked off.
        CHECK(::prctl(PR_GET_SECUREBITS) == 0b11101111);
        CHECK(attempt(::prctl(PR_SET_SECUREBITS, 0)) == EPERM);
        CHECK(attempt(::prctl(PR_SET_KEEPCAPS, 1)) == EPERM);
    });
}

TEST_CASE("privileges: a call beyond the capabilities is refused, and was possible before") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir top;
    const std::string secret = top / "secret";
    write_file(secret, "secret", {.mode = 0600});
    const pid_t parent = ::getpid();
    const auto attempts = [&] {
        return std::vector{attempt_open(::open(secret.c_str(), O_WRONLY)),
                           attempt(::chmod(secret.c_str(), 0600)),
                           attempt(::chown(secret.c_str(), 0, 0)),
                           attempt_open(::open((top / "new").c_str(), O_WRONLY | O_CREAT, 0600)),
                           attempt(::unlink((top / "new").c_str())),
                           attempt(::kill(parent, 0)),
                           attempt(::chroot("/")),
                           attempt(::setgid(0)),
                           attempt(::setuid(0))};
    };
    run_in_child([&] { CHECK(attempts() == std::vector(9, 0)); });
    write_file(top / "new", "");
    run_in_child([&] {
        drop(only(CAP_DAC_READ_SEARCH));
        CHECK(attempt_open(::open(secret.c_str(), O_RDONLY)) == 0);
        CHECK(attempts() == std::vector{EACCES, EPERM, EPERM, EACCES, EACCES, EPERM, EPERM, EPERM, EPERM});
        CHECK(attempt(::mount("none", top.path().c_str(), "tmpfs", 0, nullptr)) == EPERM);
    });
    run_in_child([&] {
        drop(0);
        CHECK(attempt_open(::open(secret.c_str(), O_RDONLY)) == EACCES);
    });
}

TEST_CASE("privileges: the signal for the parent's death outlives the change of uid") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    run_in_child([] {
        REQUIRE(::prctl(PR_SET_PDEATHSIG, SIGTERM) == 0);
        drop(0);
        int signal = 0;
        REQUIRE(::prctl(PR_GET_PDEATHSIG, &signal) == 0);
        CHECK(signal == SIGTERM);
        CHECK(::prctl(PR_GET_DUMPABLE) == 0);
    });
}

TEST_CASE("privileges: a process that keeps its uid cannot be ptraced by that uid") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    run_as(some_user, [] {
        REQUIRE(::prctl(PR_SET_DUMPABLE, 1) == 0);
        const BrokerAccount same{.uid = some_user, .gid = some_user, .name = {}, .changes = false};
        const auto dropped = opener::drop_privileges(same, 0);
        REQUIRE(dropped.has_value());
        CHECK(*dropped == "bounding set and securebits stay: no CAP_SETPCAP");
        CHECK(::prctl(PR_GET_DUMPABLE) == 0);
    });
}

TEST_CASE("privileges: many descriptors, and no core file") {
    run_in_child([] {
        rlimit before{};
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
        rlimit low{.rlim_cur = 64, .rlim_max = before.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
        const auto shortcoming = opener::set_limits();
        REQUIRE(shortcoming.has_value());
        rlimit after{};
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &after) == 0);
        CHECK(after.rlim_cur == after.rlim_max);
        CHECK(after.rlim_max >= before.rlim_max);
        CHECK(shortcoming->empty() == (after.rlim_cur >= opener::wanted_descriptors));
        rlimit core{};
        REQUIRE(::getrlimit(RLIMIT_CORE, &core) == 0);
        CHECK(core.rlim_max == 0);
    });
}

TEST_CASE("account: the named one, else fdbroker's, else a uid that nobody has") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const DescriptorTable before = DescriptorTable::now();
    const auto named = choose_account("nobody");
    REQUIRE(named.has_value());
    CHECK(named->uid == nobody);
    CHECK(named->name == "nobody");
    CHECK(named->changes);
    const auto own = choose_account(std::nullopt);
    REQUIRE(own.has_value());
    if (const auto account = opener::SystemAccounts().find_user("fdbroker")) {
        CHECK(own->uid == account->uid);
    } else {
        CHECK(own->uid >= 61184);
        CHECK(own->uid <= 65519);
        CHECK(own->gid == own->uid);
        CHECK(own->name == "");
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("account: a name without an account, or root, is an error") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    CHECK(choose_account("no such user").error().errno_value == ENOENT);
    CHECK(choose_account("root").error().errno_value == EINVAL);
}

TEST_CASE("account: every id that a process has counts as taken") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    run_beside(
        [] {
            REQUIRE(::setresgid(30101, 30102, 30103) == 0);
            REQUIRE(::setresuid(30104, 30105, 30106) == 0);
        },
        [](pid_t) {
            const auto ids = opener::ids_of_processes();
            CHECK(ids.contains(0));
            for (std::uint32_t id = 30101; id <= 30106; ++id) CHECK(ids.contains(id));
            CHECK_FALSE(ids.contains(30107));
        });
}

TEST_CASE("account: taken uids are passed over, from anywhere in the range and round the end") {
    constexpr std::uint32_t last = opener::last_unassigned_uid - opener::first_unassigned_uid;
    const auto nothing = [](uid_t) { return false; };
    CHECK(opener::find_unused_uid(0, nothing) == opener::first_unassigned_uid);
    CHECK(opener::find_unused_uid(last, nothing) == opener::last_unassigned_uid);
    CHECK(opener::find_unused_uid(0xffffffff, nothing) >= opener::first_unassigned_uid);
    CHECK(opener::find_unused_uid(0xffffffff, nothing) <= opener::last_unassigned_uid);
    CHECK(opener::find_unused_uid(last, [](uid_t uid) { return uid == opener::last_unassigned_uid; }) ==
          opener::first_unassigned_uid);
    CHECK(opener::find_unused_uid(5, [](uid_t uid) { return uid != opener::first_unassigned_uid + 4; }) ==
          opener::first_unassigned_uid + 4);
    CHECK_FALSE(opener::find_unused_uid(0, [](uid_t) { return true; }).has_value());
}

TEST_CASE("account: a process that is not root keeps its uid") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    run_as(nobody, [] {
        const auto own = choose_account(std::nullopt);
        REQUIRE(own.has_value());
        CHECK(own->uid == nobody);
        CHECK_FALSE(own->changes);
        CHECK(choose_account("nobody").has_value());
        CHECK(choose_account("daemon").error().errno_value == EPERM);
    });
}

}  // namespace fdbroker::test
