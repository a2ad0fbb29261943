// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <linux/capability.h>

#include <algorithm>
#include <string>
#include <vector>

#include "opener/confinement/confinement.hpp"
#include "opener/confinement/directory_watch.hpp"
#include "opener/confinement/known_mounts.hpp"
#include "opener/confinement/widen.hpp"

namespace fdbroker::test {

namespace {

using opener::BrokerAccount;
using opener::ConfinementPlan;
using opener::ConfinementReport;
using opener::Layer;
using opener::LayerState;
using opener::plan_confinement;
using policy::Directory;
using policy::Operation;
using policy::OperationSet;

const BrokerAccount broker{.uid = 61200, .gid = 61200, .name = {}, .changes = true};

Directory directory(const std::string& path, OperationSet operations) {
    return {.path = path, .operations = operations};
}

// "path:rwxd" per planned directory, letters of what it may.
std::string planned(const std::vector<Directory>& directories) {
    std::string text;
    for (const auto& entry : plan_confinement(directories, broker).directories) {
        text += (text.empty() ? "" : " ") + entry.path + ":" + (entry.writable ? "w" : "") +
                (entry.executable ? "x" : "") + (entry.devices ? "d" : "");
    }
    return text;
}

std::uint64_t capabilities_of(OperationSet operations, bool create_owners = false) {
    Directory only = directory("/srv", operations);
    only.create_owners = create_owners;
    return plan_confinement({{only}}, broker).capabilities;
}

std::uint64_t bits(std::initializer_list<int> capabilities) {
    std::uint64_t set = 0;
    for (const int capability : capabilities) set |= std::uint64_t{1} << capability;
    return set;
}

}  // namespace

TEST_CASE("confinement: directories are planned in order of their path, read-only unless a rule writes") {
    CHECK(planned({}) == "");
    CHECK(planned({directory("/srv/b", {Operation::read}), directory("/srv/a", {Operation::list})}) ==
          "/srv/a: /srv/b:");
    for (unsigned number = 0; number < policy::operation_count; ++number) {
        const auto operation = static_cast<Operation>(number);
        CAPTURE(number);
        const bool reads =
            OperationSet{Operation::read, Operation::stat, Operation::list, Operation::readlink}.contains(
                operation);
        const std::string expected = operation == Operation::execute ? "/srv:x" : reads ? "/srv:" : "/srv:w";
        CHECK(planned({directory("/srv", {operation})}) == expected);
    }
}

TEST_CASE("confinement: devices are planned only where a rule names them") {
    Directory dev = directory("/dev", {Operation::read});
    dev.devices = true;
    CHECK(planned({dev, directory("/srv", {Operation::read})}) == "/dev:d /srv:");
}

TEST_CASE("confinement: a directory inside another is planned only where its attributes differ") {
    const OperationSet read{Operation::read};
    const OperationSet write{Operation::write};
    const OperationSet execute{Operation::execute};
    CHECK(planned({directory("/srv", read), directory("/srv/www", {Operation::stat})}) == "/srv:");
    CHECK(planned({directory("/srv", read), directory("/srv/spool", write)}) == "/srv: /srv/spool:w");
    CHECK(planned({directory("/srv/spool", write), directory("/", read)}) == "/: /srv/spool:w");
    // The rights of the outer directory's rules hold in the inner directory, too.
    CHECK(planned({directory("/srv", write), directory("/srv/www", read)}) == "/srv:w");
    CHECK(planned({directory("/srv", execute), directory("/srv/spool", write)}) == "/srv:x /srv/spool:wx");
    CHECK(planned({directory("/a", read), directory("/a/b", write), directory("/a/b/c", execute)}) ==
          "/a: /a/b:w /a/b/c:wx");
}

TEST_CASE("confinement: a name that only begins like another is not inside it") {
    const OperationSet read{Operation::read};
    const OperationSet write{Operation::write};
    CHECK(planned({directory("/a", read), directory("/a-b", read), directory("/a/c", write)}) ==
          "/a: /a-b: /a/c:w");
    CHECK(planned({directory("/srv", write), directory("/srv2", read)}) == "/srv:w /srv2:");
}

TEST_CASE("confinement: the same directory named twice gets what both need") {
    CHECK(planned({directory("/srv", {Operation::write}), directory("/srv", {Operation::execute})}) ==
          "/srv:wx");
}

TEST_CASE("confinement: every named directory keeps its own operations") {
    const ConfinementPlan plan = plan_confinement(
        {{directory("/srv", {Operation::read}), directory("/srv/www", {Operation::stat})}}, broker);
    REQUIRE(plan.named.size() == 2);
    CHECK(plan.named[0].operations == OperationSet{Operation::read});
    CHECK(plan.named[1].operations == OperationSet{Operation::stat});
}

TEST_CASE("confinement: more directories than can be bound are replaced by a common parent") {
    const OperationSet read{Operation::read};
    const OperationSet write{Operation::write};
    std::vector<Directory> directories{directory("/etc/app", read), directory("/srv/t/spool", write)};
    for (int tenant = 0; tenant < 10'000; ++tenant)
        directories.push_back(directory(fmt::format("/srv/t/{}/data", tenant), read));
    CHECK(planned(directories) == "/etc/app: /srv/t: /srv/t/spool:w");
    const ConfinementPlan plan = plan_confinement(directories, broker);
    CHECK(plan.directories[0].stands_for == nullptr);
    REQUIRE(plan.directories[1].stands_for);
    CHECK(plan.directories[1].stands_for->size() == 10'000);
    CHECK(std::ranges::is_sorted(*plan.directories[1].stands_for));
    CHECK(opener::width_of("/srv/t", plan.directories[1].stands_for)->text() ==
          "bound for 10000 directories that rules name, up to 2 levels below it");
    CHECK(describe(plan, nullptr)
              .find("directory /srv/t: read-only, nosuid, nodev, noexec; wider than the rules: "
                    "bound for 10000 directories") != std::string::npos);
    REQUIRE(plan.named.size() == 3);
    CHECK(plan.named[1].path == "/srv/t");
    CHECK(plan.named[1].operations == read);
}

TEST_CASE("confinement: no more is bound in common than has to be, the deepest first") {
    const OperationSet read{Operation::read};
    std::vector<Directory> directories;
    for (const char* path : {"/a/x/1", "/a/x/2", "/a/x/3", "/a/y/1", "/b/1", "/b/2"})
        directories.push_back(directory(path, read));
    const auto widened_to = [&](std::size_t most) {
        ConfinementPlan plan = plan_confinement(directories, broker);
        opener::widen(plan, most);
        std::string text;
        for (const auto& each : plan.directories) {
            const auto width = opener::width_of(each.path, each.stands_for);
            text +=
                (text.empty() ? "" : " ") + each.path + (width ? fmt::format("={}", width->directories) : "");
        }
        CHECK(plan.named.size() == plan.directories.size());
        return text;
    };
    CHECK(widened_to(6) == "/a/x/1 /a/x/2 /a/x/3 /a/y/1 /b/1 /b/2");
    CHECK(widened_to(5) == "/a/x=3 /a/y/1 /b/1 /b/2");
    CHECK(widened_to(3) == "/a=4 /b/1 /b/2");
    CHECK(widened_to(2) == "/a=4 /b=2");
    CHECK(widened_to(1) == "/=6");
    // A directory that rules name and that others are bound by stays the rules'.
    directories.push_back(directory("/a", OperationSet{Operation::execute}));
    directories.push_back(directory("/a/x", OperationSet{Operation::write}));
    CHECK(widened_to(3) == "/a /a/x /b=2");
    CHECK(widened_to(2) == "/a=1 /b=2");
}

TEST_CASE("confinement: the capabilities are those that the rules need") {
    const auto search = bits({CAP_DAC_READ_SEARCH});
    CHECK(capabilities_of({}) == 0);
    for (const Operation operation :
         {Operation::read, Operation::stat, Operation::list, Operation::readlink, Operation::execute}) {
        CHECK(capabilities_of({operation}) == search);
    }
    for (const Operation operation :
         {Operation::write, Operation::append, Operation::truncate, Operation::xattr}) {
        CHECK(capabilities_of({operation}) == bits({CAP_DAC_OVERRIDE}));
    }
    CHECK(capabilities_of({Operation::create}) == bits({CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE}));
    CHECK(capabilities_of({Operation::mkdir}) == bits({CAP_DAC_OVERRIDE, CAP_FOWNER}));
    CHECK(capabilities_of({Operation::symlink}) == bits({CAP_DAC_OVERRIDE, CAP_FOWNER}));
    CHECK(capabilities_of({Operation::remove}) == bits({CAP_DAC_OVERRIDE, CAP_FOWNER}));
    CHECK(capabilities_of({Operation::rename}) == bits({CAP_DAC_OVERRIDE, CAP_FOWNER}));
    CHECK(capabilities_of({Operation::setattr}) == bits({CAP_DAC_READ_SEARCH, CAP_FOWNER}));
    CHECK(capabilities_of({Operation::read}, true) == bits({CAP_DAC_READ_SEARCH, CAP_CHOWN}));
}

TEST_CASE("confinement: a user other than root keeps no capability") {
    const BrokerAccount user{.uid = 1000, .gid = 1000, .name = {}, .changes = false};
    CHECK(plan_confinement({{directory("/srv", OperationSet::all())}}, user).capabilities == 0);
}

TEST_CASE("confinement: making the directories above a file needs the capabilities of mkdir") {
    policy::Directory spool = directory("/srv", {Operation::create});
    CHECK_FALSE(plan_confinement({{spool}}, broker).calls.make_directories);
    spool.makes_parents = true;
    const ConfinementPlan plan = plan_confinement({{spool}}, broker);
    CHECK(plan.calls.make_directories);
    CHECK((plan.capabilities & bits({CAP_FOWNER})) != 0);
}

TEST_CASE("confinement: fsync and leases are permitted only where the policy lets a file be put") {
    policy::Directory spool = directory("/var/spool", {Operation::write, Operation::create});
    CHECK_FALSE(plan_confinement({{spool}}, broker).calls.put);
    spool.operations.insert(Operation::truncate);
    CHECK(plan_confinement({{spool}}, broker).calls.put);
}

TEST_CASE("confinement: leases and memory files are for rules that deliver snapshots") {
    policy::Directory settings = directory("/etc/app", {Operation::read});
    CHECK_FALSE(plan_confinement({{settings}}, broker).calls.snapshot);
    CHECK((plan_confinement({{settings}}, broker).capabilities & bits({CAP_LEASE})) == 0);
    settings.snapshots = true;
    CHECK(plan_confinement({{settings}}, broker).calls.snapshot);
    CHECK((plan_confinement({{settings}}, broker).capabilities & bits({CAP_LEASE})) != 0);
}

TEST_CASE("confinement: rename is permitted where an operation gives or takes a name by renaming") {
    for (const Operation operation :
         {Operation::create, Operation::mkdir, Operation::symlink, Operation::remove, Operation::rename})
        CHECK(plan_confinement({{directory("/srv", {operation})}}, broker).calls.rename);
    CHECK_FALSE(plan_confinement({{directory("/srv", {Operation::write})}}, broker).calls.rename);
}

TEST_CASE("confinement: pipes are for rules that deliver streams") {
    policy::Directory log = directory("/var/log/app", {Operation::append});
    CHECK_FALSE(plan_confinement({{log}}, broker).calls.stream);
    log.streams = true;
    CHECK(plan_confinement({{log}}, broker).calls.stream);
}

TEST_CASE("confinement: inotify is for rules that let stat or read") {
    for (const Operation operation : {Operation::stat, Operation::read})
        CHECK(plan_confinement({{directory("/srv", {operation})}}, broker).calls.watch);
    CHECK_FALSE(
        plan_confinement({{directory("/srv", {Operation::write, Operation::list})}}, broker).calls.watch);
}

TEST_CASE("confinement: a policy that only reads gets no call that modifies") {
    const ConfinementPlan plan =
        plan_confinement({{directory("/srv", {Operation::read, Operation::stat, Operation::list,
                                              Operation::readlink, Operation::execute})}},
                         broker);
    CHECK_FALSE(plan.calls.truncate);
    CHECK_FALSE(plan.calls.create);
    CHECK_FALSE(plan.calls.give_away);
    CHECK_FALSE(plan.calls.set_attributes);
    CHECK_FALSE(plan.calls.make_directories);
    CHECK_FALSE(plan.calls.remove);
    CHECK_FALSE(plan.calls.rename);
    CHECK_FALSE(plan.calls.symlink);
    CHECK_FALSE(plan.calls.extended_attributes);
    CHECK_FALSE(plan.calls.put);
}

TEST_CASE("confinement: a report is complete when no layer is missing, and names those that are") {
    ConfinementReport report;
    for (auto& layer : report.layers) layer.state = LayerState::enforced;
    CHECK(report.complete());
    CHECK(report.missing() == "");
    report[Layer::seccomp] = {.state = LayerState::missing, .detail = "seccomp_load: Invalid argument"};
    CHECK_FALSE(report.complete());
    CHECK(report.missing() == "seccomp: seccomp_load: Invalid argument");
}

TEST_CASE("confinement: the description names account, capabilities, directories and layers") {
    const ConfinementPlan plan = plan_confinement(
        {{directory("/srv", {Operation::read}), directory("/srv/spool", {Operation::write})}}, broker);
    CHECK(describe(plan, nullptr) ==
          "runs as: uid 61200, gid 61200 (no account)\n"
          "capabilities: dac_override, dac_read_search\n"
          "system calls: those of a reader\n"
          "helpers: confined in the same way; what makes them may also fork and make socket pairs\n"
          "directory /srv: read-only, nosuid, nodev, noexec\n"
          "directory /srv/spool: writable, nosuid, nodev, noexec\n");
    ConfinementReport report;
    report[Layer::private_root].detail = "unshare: no";
    CHECK(describe(plan, &report).find("layer private root: MISSING: unshare: no\n") != std::string::npos);
}

TEST_CASE("directory watch: a mount counts that is at a directory, below it or above it, with its options") {
    const std::string table =
        "22 1 0:20 / / rw - ext4 /dev/sda rw\n"
        "30 22 0:30 / /srv ro,nodev - tmpfs none rw\n"
        "31 22 0:31 / /srv/www rw shared:1 - tmpfs none rw\n"
        "32 31 0:32 / /srv/www/a\\040b rw - tmpfs none rw\n"
        "33 22 0:33 / /srv/wwwx rw - tmpfs none rw\n"
        "a line that is none\n";
    using opener::mounts_about;
    using Mounts = std::vector<std::string>;
    const auto mounts = opener::listed_mounts(table);
    CHECK(mounts_about(mounts, Mounts{"/srv/www"}) ==
          Mounts{"22 rw /", "30 ro,nodev /srv", "31 rw /srv/www", "32 rw /srv/www/a b"});
    CHECK(mounts_about(mounts, Mounts{"/home", "/srv/wwwx/a"}) ==
          Mounts{"22 rw /", "30 ro,nodev /srv", "33 rw /srv/wwwx"});
    CHECK(mounts_about(mounts, Mounts{"/"}).size() == 5);
    CHECK(mounts_about({}, Mounts{"/"}).empty());
}

TEST_CASE("directory watch: a directory is on the mount whose point is nearest above it, or there") {
    const auto mounts = opener::listed_mounts(
        "22 1 0:20 / / rw - ext4 /dev/sda rw\n"
        "30 22 0:30 / /srv rw - tmpfs none rw\n"
        "31 30 0:31 / /srv/www rw - fuse none rw\n");
    const auto point_of = [&](std::string_view path) { return opener::mount_point_of(path, mounts); };
    CHECK(point_of("/srv/www/a/b") == "/srv/www");
    CHECK(point_of("/srv/www") == "/srv/www");
    CHECK(point_of("/srv/wwwx") == "/srv");
    CHECK(point_of("/home") == "/");
    // Where there is no table, none is known to be on another's.
    CHECK(opener::mount_point_of("/home", {}) == "/home");
}

}  // namespace fdbroker::test
