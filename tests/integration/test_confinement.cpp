// SPDX-License-Identifier: MIT
// confine() as a whole, on this kernel and on ones that lack something.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "opener/confinement/landlock.hpp"
#include "opener/confinement/widen.hpp"
#include "proto/channel.hpp"
#include "tests/integration/confinement_support.hpp"
#include "tests/integration/missing_calls.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

namespace {

using opener::BoundDirectory;
using opener::confine;
using opener::Confined;
using opener::Layer;
using opener::LayerState;
using opener::probe_confinement;
using policy::Operation;

bool landlock_works() {
    return opener::landlock_version().has_value();
}

// An open by a descriptor of /, as a colluding peer would send it.
int open_below_sent(const proto::UniqueFd& root, const std::string& path, std::uint64_t flags = 0) {
    return attempt_open(openat2_of(root.number(), path.substr(1), flags));
}

const std::vector<MissingCall> no_namespaces = {{SCMP_SYS(unshare), EPERM}};
const std::vector<MissingCall> no_landlock = {{SCMP_SYS(landlock_create_ruleset), ENOSYS}};

}  // namespace

TEST_CASE("confinement: the directories of the rules can be read and written as they say, and nothing else") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    const bool has_landlock = landlock_works();
    const DescriptorTable before = DescriptorTable::now();
    run_in_child([&] {
        const Confined confined = confine_here(tree.plan());
        CHECK((confined.report.missing() == "") == has_landlock);
        CHECK(confined.report[Layer::private_root].state == LayerState::enforced);
        REQUIRE(confined.directories.size() == 2);
        const int allowed = confined.directories[0].fd.number();
        const int spool = confined.directories[1].fd.number();
        CHECK(attempt_open(openat2_of(allowed, "secret")) == 0);
        CHECK(attempt_open(openat2_of(allowed, "secret", O_RDWR)) == EROFS);
        CHECK(attempt_open(openat2_of(spool, "secret", O_RDWR)) == 0);
        CHECK(attempt_open(openat2_of(spool, "new", O_RDWR | O_CREAT)) == 0);
        for (const int directory : {allowed, spool, AT_FDCWD}) {
            CHECK(attempt_open(openat2_of(directory, "../outside/secret")) == ENOENT);
            CHECK(attempt_open(openat2_of(directory, tree.outside + "/secret")) == ENOENT);
            CHECK(attempt_open(openat2_of(directory, "/etc/shadow")) == ENOENT);
            CHECK(attempt_open(openat2_of(directory, "/new", O_RDWR | O_CREAT)) == EROFS);
        }
        CHECK(attempt(::socket(AF_UNIX, SOCK_STREAM, 0)) == EPERM);
        CHECK(attempt_open(::open((tree.allowed + "/secret").c_str(), O_RDONLY)) == EPERM);
    });
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE(
    "confinement: descriptors that nobody asked to keep are closed, those of the plan are close-on-exec") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    run_in_child([&] {
        const proto::UniqueFd kept(::open(tree.outside.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        const int lost = ::open(tree.outside.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const int high = ::fcntl(lost, F_DUPFD_CLOEXEC, 500);
        auto keep = streams_and_pipes();
        keep.push_back(kept.borrow());
        keep.push_back(proto::BorrowedFd());  // an empty one is none
        const auto confined = confine(tree.plan(), keep);
        REQUIRE(confined.has_value());
        CHECK(attempt(::fcntl(kept.number(), F_GETFD)) == 0);
        CHECK(attempt_open(openat2_of(high, "secret")) == EBADF);
        // The number may have been given away since; the descriptor does not lead outside any more.
        CHECK(attempt_open(openat2_of(lost, "../outside/secret")) != 0);
        for (const BoundDirectory& directory : confined->directories) {
            CHECK((::fcntl(directory.fd.number(), F_GETFD) & FD_CLOEXEC) != 0);
        }
    });
}

TEST_CASE("confinement: a dormant directory is reported, the others serve") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    run_in_child([&] {
        const Confined confined =
            confine_here(plan_for({directory_for(tree.allowed, {Operation::read}),
                                   directory_for(tree.outside + "/no", {Operation::read})}));
        REQUIRE(confined.directories.size() == 2);
        CHECK(confined.directories[0].errno_value == 0);
        CHECK(confined.directories[1].errno_value == ENOENT);
        CHECK(confined.directories[1].path == tree.outside + "/no");
        CHECK(attempt_open(openat2_of(AT_FDCWD, tree.outside + "/secret")) == ENOENT);
    });
}

TEST_CASE("confinement: thousands of directories are bound, and of more the one above them") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    std::vector<policy::Directory> directories;
    for (std::size_t number = 0; number < opener::max_planned_directories; ++number) {
        const std::string path = tree.allowed + "/" + std::to_string(number);
        make_directory(path);
        directories.push_back(directory_for(path, {Operation::read}));
    }
    run_in_child([&] {
        const Confined confined = confine_here(plan_for(directories));
        CHECK(confined.directories.size() == opener::max_planned_directories);
        for (const BoundDirectory& directory : confined.directories) CHECK(bool(directory.fd));
    });
    directories.push_back(directory_for(tree.spool, {Operation::read}));
    run_in_child([&] {
        const Confined confined = confine_here(plan_for(directories));
        REQUIRE(confined.directories.size() == 2);
        CHECK(confined.directories[0].path == tree.allowed);
        REQUIRE(confined.directories[0].stands_for);
        CHECK(confined.directories[0].stands_for->size() == opener::max_planned_directories);
        CHECK(bool(confined.directories[0].fd));
        CHECK(confined.directories[1].stands_for == nullptr);
    });
}

TEST_CASE("confinement: a process with a second thread is not confined, since that one would not be") {
    const Tree tree;
    run_in_child([&] {
        std::jthread other([](std::stop_token stop) {
            while (!stop.stop_requested()) std::this_thread::yield();
        });
        const auto confined = confine(tree.plan(), streams_and_pipes());
        REQUIRE_FALSE(confined.has_value());
        CHECK(confined.error().errno_value == EINVAL);
        CHECK(attempt_open(::open("/etc/hostname", O_RDONLY)) == 0);
    });
}

TEST_CASE("confinement: on top of the private root Landlock leaves what is bound and as it is bound") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace() && landlock_works(), needs_namespaces);
    const Tree tree;
    for (const bool can_refuse : {true, false}) {
        run_in_child([&] {
            if (!can_refuse) take_away({{SCMP_SYS(setsockopt), ENOPROTOOPT, {{2, proto::so_passrights}}}});
            const bool by_itself = !can_refuse || !proto::can_refuse_descriptors();
            const proto::UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
            auto keep = streams_and_pipes();
            keep.push_back(root.borrow());
            const auto confined = confine(tree.plan(), keep, [&](Confined& so_far) -> proto::Result<void> {
                CHECK(bool(so_far.landlock_of_children) != by_itself);
                if (by_itself) return {};
                // The child forked here; before restricting itself it is held by the private root alone.
                CHECK(open_below_sent(root, tree.outside + "/secret") == 0);
                return opener::restrict_by_ruleset(so_far.landlock_of_children.borrow());
            });
            REQUIRE(confined.has_value());
            CHECK(confined->report[Layer::landlock].state == LayerState::enforced);
            CHECK((confined->report[Layer::landlock].detail.find("the broker, which peers") !=
                   std::string::npos) == by_itself);
            CHECK(open_below_sent(root, tree.outside + "/secret") == EACCES);
            CHECK(open_below_sent(root, tree.outside + "/new", O_RDWR | O_CREAT) == EACCES);
            CHECK(open_below_sent(root, tree.outside, O_DIRECTORY) == EACCES);
            CHECK(open_below_sent(root, tree.allowed + "/secret") == 0);
            CHECK(open_below_sent(root, tree.allowed + "/secret", O_RDWR) == EACCES);
            CHECK(attempt_open(openat2_of(confined->directories.at(0).fd.number(), "secret")) == 0);
            const BoundDirectory& spool = confined->directories.at(1);
            CHECK(attempt_open(openat2_of(spool.fd.number(), "secret", O_RDWR | O_TRUNC)) == 0);
            CHECK(attempt_open(openat2_of(spool.fd.number(), "new", O_RDWR | O_CREAT)) == 0);
            CHECK(attempt_open(openat2_of(spool.read_only.number(), "secret")) == 0);
        });
    }
}

TEST_CASE("confinement: where a filter forbids Landlock to be used it is reported missing") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace() && landlock_works(), needs_namespaces);
    const Tree tree;
    run_in_child([&] {
        take_away({{SCMP_SYS(landlock_restrict_self), EPERM}});
        const Confined confined = confine_here(tree.plan());
        CHECK(confined.report.missing().starts_with("Landlock: landlock_restrict_self"));
        CHECK_FALSE(bool(confined.landlock_of_children));
    });
}

TEST_CASE("confinement: without namespaces Landlock stands in, and the report says that it is the weaker") {
    FDBROKER_SKIP_UNLESS(is_root() && landlock_works(), "needs root and Landlock");
    const Tree tree;
    write_file(tree.outside + "/public", "");
    run_in_child([&] {
        take_away(no_namespaces);
        const Confined confined = confine_here(tree.plan());
        CHECK_FALSE(confined.report.complete());
        CHECK(confined.report.missing().find("private root: unshare") == 0);
        CHECK(confined.report[Layer::landlock].state == LayerState::enforced);
        CHECK(confined.report[Layer::landlock].detail.find("owners, modes and times") != std::string::npos);
        REQUIRE(confined.directories.size() == 2);
        const int allowed = confined.directories[0].fd.number();
        const int spool = confined.directories[1].fd.number();
        CHECK(attempt_open(openat2_of(allowed, "secret")) == 0);
        CHECK(attempt_open(openat2_of(allowed, "secret", O_RDWR)) == EACCES);
        CHECK(attempt_open(openat2_of(allowed, "new", O_RDWR | O_CREAT)) == EACCES);
        CHECK(attempt_open(openat2_of(spool, "secret", O_RDWR)) == 0);
        CHECK(attempt_open(openat2_of(spool, "new", O_RDWR | O_CREAT)) == 0);
        CHECK(attempt_open(openat2_of(allowed, "../outside/public")) == EACCES);
        CHECK(attempt_open(openat2_of(AT_FDCWD, "/etc/shadow")) == EACCES);
        // The filter and the capabilities hold where Landlock does not.
        CHECK(attempt(::chmod((tree.spool + "/secret").c_str(), 0644)) == EPERM);
        CHECK(attempt(::chown((tree.spool + "/secret").c_str(), 1, 1)) == EPERM);
    });
}

TEST_CASE("confinement: each Landlock right is given only to rules that need it") {
    FDBROKER_SKIP_UNLESS(is_root() && landlock_works(), "needs root and Landlock");
    const auto attempts = [](const std::string& directory) {
        const auto path = [&](const char* name) { return directory + "/" + name; };
        return std::vector{attempt_open(::open(path("file").c_str(), O_RDONLY)),
                           attempt_open(::open(path("file").c_str(), O_WRONLY)),
                           attempt_open(::open(directory.c_str(), O_RDONLY | O_DIRECTORY)),
                           attempt_open(::open(path("new").c_str(), O_WRONLY | O_CREAT, 0600)),
                           attempt(::truncate(path("file").c_str(), 0)),
                           attempt(::mkdir(path("dir").c_str(), 0700)),
                           attempt(::unlink(path("victim").c_str())),
                           attempt(::symlink("x", path("link").c_str())),
                           attempt(::mkfifo(path("fifo").c_str(), 0600))};
    };
    struct Case {
        policy::OperationSet operations;
        std::vector<std::size_t> possible;  // indexes of the attempts above
    };
    const Case cases[] = {
        {{}, {}},
        {{Operation::stat}, {}},
        {{Operation::read}, {0}},
        {{Operation::append}, {1}},
        {{Operation::write}, {1, 4}},
        {{Operation::list}, {2}},
        {{Operation::create}, {1, 3, 4, 6}},
        {{Operation::truncate}, {4}},
        {{Operation::write, Operation::create, Operation::truncate}, {0, 1, 2, 3, 4, 6}},
        {{Operation::mkdir}, {2, 5}},
        {{Operation::remove}, {2, 5, 6, 7, 8}},
        {{Operation::symlink}, {6, 7}},
        {{Operation::setattr}, {0, 2}},
        {{Operation::xattr}, {0, 2}},
    };
    const int version = *opener::landlock_version();
    for (const Case& entry : cases) {
        const TempDir top;
        const std::string directory = top / "d";
        make_directory(directory);
        for (const char* name : {"/file", "/victim"}) write_file(directory + name, "text");
        run_in_child([&] {
            const proto::UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
            const auto plan = plan_for({directory_for(directory, entry.operations)});
            REQUIRE(opener::restrict_by_landlock(plan, root.borrow(), version).has_value());
            std::vector<int> expected(9, EACCES);
            for (const std::size_t index : entry.possible) expected[index] = 0;
            if (version < 3) expected[4] = 0;
            CHECK(attempts(directory) == expected);
        });
    }
    const TempDir top;
    for (const char* name : {"file", "victim"}) write_file(top / name, "text");
    run_in_child([&] { CHECK(attempts(top.path()) == std::vector(9, 0)); });
}

TEST_CASE("confinement: a mount call that the kernel lacks leads to Landlock, never to half a root") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace() && landlock_works(),
                         "needs root, mount namespaces and Landlock");
    const Tree tree;
    const MissingCall calls[] = {{SCMP_SYS(mount_setattr), ENOSYS}, {SCMP_SYS(open_tree), ENOSYS},
                                 {SCMP_SYS(fsopen), ENOSYS},        {SCMP_SYS(pivot_root), EPERM},
                                 {SCMP_SYS(setns), ENOSYS},         {SCMP_SYS(mount), EACCES}};
    for (const MissingCall& call : calls) {
        CAPTURE(call.number);
        run_in_child([&] {
            take_away({call});
            const Confined confined = confine_here(tree.plan());
            CHECK(confined.report[Layer::private_root].state == LayerState::missing);
            CHECK(confined.report[Layer::landlock].state == LayerState::enforced);
            CHECK(attempt_open(openat2_of(confined.directories.at(0).fd.number(), "secret")) == 0);
            CHECK(attempt_open(openat2_of(AT_FDCWD, "/etc/shadow")) == EACCES);
        });
    }
}

TEST_CASE(
    "confinement: without CAP_SYS_CHROOT, CAP_CHOWN and CAP_DAC_OVERRIDE there is a private root all the "
    "same") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    run_in_child([&] {
        __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
        std::array<__user_cap_data_struct, 2> data{};
        REQUIRE(::syscall(SYS_capget, &header, data.data()) == 0);
        for (const int capability : {CAP_SYS_CHROOT, CAP_CHOWN, CAP_DAC_OVERRIDE}) {
            data[0].permitted &= ~(1U << capability);
            data[0].effective &= ~(1U << capability);
        }
        REQUIRE(::syscall(SYS_capset, &header, data.data()) == 0);
        REQUIRE(::prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0);
        // Each change of the filesystem uid clears it.
        int death_signal = 0;
        const auto confined =
            confine(tree.plan(), streams_and_pipes(), [&](Confined&) -> proto::Result<void> {
                CHECK(::prctl(PR_GET_PDEATHSIG, &death_signal) == 0);
                return {};
            });
        REQUIRE(confined.has_value());
        CHECK(death_signal == SIGUSR1);
        CHECK(confined->report[Layer::private_root].state == LayerState::enforced);
        CHECK(attempt_open(openat2_of(confined->directories.at(0).fd.number(), "secret")) == 0);
    });
}

TEST_CASE("confinement: with neither namespaces nor Landlock the rest holds, and both are reported missing") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Tree tree;
    run_in_child([&] {
        take_away(no_namespaces);
        take_away(no_landlock);
        const Confined confined = confine_here(tree.plan());
        CHECK(confined.report[Layer::private_root].state == LayerState::missing);
        CHECK(confined.report[Layer::landlock].state == LayerState::missing);
        CHECK(confined.report[Layer::seccomp].state == LayerState::enforced);
        CHECK(confined.report.missing().find("Landlock: landlock_create_ruleset") != std::string::npos);
    });
}

TEST_CASE("confinement: without seccomp filters that layer is reported missing") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    run_in_child([&] {
        take_away({{SCMP_SYS(seccomp), ENOSYS}, {SCMP_SYS(prctl), EINVAL, {{0, PR_SET_SECCOMP}}}});
        const Confined confined = confine_here(tree.plan());
        CHECK(confined.report.missing().find("seccomp: prctl: PR_SET_SECCOMP: Invalid argument") !=
              std::string::npos);
        CHECK(confined.report[Layer::private_root].state == LayerState::enforced);
        // The private root holds by itself.
        CHECK(attempt_open(::open("/etc/shadow", O_RDONLY)) == ENOENT);
    });
}

TEST_CASE("confinement: a kernel without openat2 is no kernel to start on") {
    const Tree tree;
    run_in_child([&] {
        take_away({{SCMP_SYS(openat2), ENOSYS}});
        const auto confined = confine(tree.plan(), streams_and_pipes());
        REQUIRE_FALSE(confined.has_value());
        CHECK(confined.error().errno_value == ENOSYS);
        CHECK(confined.error().message().find("openat2") == 0);
    });
}

TEST_CASE("confinement: a capability that the process lacks to begin with is no error, and is told") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    run_in_child([&] {
        __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
        __user_cap_data_struct data[2]{};
        REQUIRE(::syscall(SYS_capget, &header, data) == 0);
        data[0].permitted &= ~(1U << CAP_DAC_READ_SEARCH);
        data[0].effective = data[0].permitted;
        REQUIRE(::syscall(SYS_capset, &header, data) == 0);
        const Confined confined = confine_here(plan_for({directory_for(tree.allowed, {Operation::read})}));
        CHECK(confined.report[Layer::capabilities].detail ==
              "without dac_read_search, which this process does not have");
        CHECK(attempt_open(openat2_of(confined.directories.at(0).fd.number(), "secret")) == EACCES);
    });
}

TEST_CASE("confinement: someone who is not root is confined as far as a user namespace allows") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Tree tree;
    write_file(tree.allowed + "/public", "");
    run_as(some_user, [&] {
        const Confined confined = confine_here(tree.plan());
        CHECK(confined.report[Layer::own_account].state == LayerState::missing);
        CHECK(confined.report[Layer::own_account].detail.find("uid 30001") != std::string::npos);
        CHECK(confined.report[Layer::capabilities].state == LayerState::enforced);
        CHECK(confined.report[Layer::seccomp].state == LayerState::enforced);
        const int allowed = confined.directories.at(0).fd.number();
        CHECK(attempt_open(openat2_of(allowed, "public")) == 0);
        CHECK(attempt_open(openat2_of(allowed, "secret")) == EACCES);
        CHECK(attempt_open(openat2_of(AT_FDCWD, "/etc/hostname")) != 0);
    });
}

TEST_CASE("confinement: a probe tells what would be enforced and what be dormant, and changes nothing") {
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), needs_namespaces);
    const Tree tree;
    const auto plan = plan_for({directory_for(tree.allowed, {Operation::read}),
                                directory_for(tree.outside + "/no\xff", {Operation::read})});
    const DescriptorTable before = DescriptorTable::now();
    std::vector<opener::DormantDirectory> dormant;
    const auto report = probe_confinement(plan, &dormant);
    REQUIRE(report.has_value());
    CHECK((report->missing() == "") == landlock_works());
    REQUIRE(dormant.size() == 1);
    CHECK(dormant[0].errno_value == ENOENT);
    CHECK(dormant[0].path.starts_with(tree.outside + "/no"));
    CHECK(DescriptorTable::now().changes_since(before) == "");
    CHECK(::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
    CHECK(::geteuid() == 0);
    run_in_child([&] {
        take_away(no_namespaces);
        const auto weaker = probe_confinement(plan, nullptr);
        REQUIRE(weaker.has_value());
        CHECK(weaker->missing().find("private root") == 0);
    });
    run_in_child([&] {
        take_away({{SCMP_SYS(openat2), ENOSYS}});
        const auto failed = probe_confinement(plan, nullptr);
        REQUIRE_FALSE(failed.has_value());
        CHECK(failed.error().errno_value == ENOSYS);
        CHECK(failed.error().message().find("openat2") != std::string::npos);
    });
}

}  // namespace fdbroker::test
