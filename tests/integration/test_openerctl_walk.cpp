// SPDX-License-Identifier: MIT
// One engine: what `openerctl policy explain` says of what is on disk is what the opener's peer is told, for every operation
// and every link on the way.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "opener/ctl/disk.hpp"
#include "opener/identity/accounts.hpp"
#include "opener/policy_source/load_policy.hpp"
#include "policy/matching/request_path.hpp"
#include "proto/payload.hpp"
#include "tests/integration/operations_fixture.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using policy::Operation;
using policy::OperationSet;
using proto::Call;

namespace {

constexpr std::string_view every_operation =
    "read, write, append, create, truncate, stat, list, readlink, mkdir, remove, rename, symlink, setattr, "
    "xattr";

// A directory whose rule follows links, one whose rule refuses them, and where their links lead: `to` follows as well,
// `stay` does not, `none` has no rule.
class LinkedTree : public ServedDirectory {
  public:
    LinkedTree() : ServedDirectory({"follow", "refuse", "to", "stay", "none"}) { reset(); }

    void reset() const {
        for (const char* name : {"follow", "refuse", "to", "stay", "none"})
            for (const auto& entry : std::filesystem::directory_iterator(at(name)))
                std::filesystem::remove_all(entry.path());
        for (const char* name : {"to", "stay", "none", "follow", "refuse"}) {
            write_file(at(name + std::string("/file")), "content");
            make_directory(at(name + std::string("/empty")));
            make_directory(at(name + std::string("/dir")));
            write_file(at(name + std::string("/dir/file")), "content");
        }
        write_file(at("to/secret"), "s");
        write_file(at("to/hidden"), "h");
        REQUIRE(::mkfifo(at("to/fifo").c_str(), 0600) == 0);
        for (const char* name : {"follow/", "refuse/"})
            for (const auto& [link, target] : links())
                std::filesystem::create_symlink(target, at(name + std::string(link)));
        std::filesystem::create_symlink("../file", at("to/dir/up"));
    }

    static std::vector<std::pair<const char*, std::string>> links() {
        return {{"l-file", "../to/file"},
                {"l-dir", "../to/dir"},
                {"l-empty", "../to/empty"},
                {"l-chain", "l-chain2"},
                {"l-chain2", "l-file"},
                {"l-loop", "l-loop"},
                {"l-dangling", "../to/new"},
                {"l-deep", "../to/no/new"},
                {"l-none", "../none/file"},
                {"l-secret", "../to/secret"},
                {"l-hidden", "../to/hidden"},
                {"l-stay", "../stay/file"},
                {"l-own", "file"},
                {"l-fifo", "../to/fifo"},
                {"l-root", "/"}};
    }
    static std::vector<std::string> names() {
        std::vector<std::string> all{"file",       "empty",        "missing",   "missing/new", "file/x",
                                     "l-dir/file", "l-dir/up",     "l-dir/new", "l-dir/no/x",  "l-loop/x",
                                     "l-none/x",   "l-hidden/new", "l-file/x",  "dir/file"};
        for (const auto& [link, target] : links()) all.emplace_back(link);
        return all;
    }

    std::string policy() const {
        const std::string allow = "allow: [" + std::string(every_operation) + "], ";
        return ServedDirectory::policy(
            "version: 1\nrules:\n"
            "  - {name: follow, " +
            allow +
            "paths: [\"DATA/follow/**\", \"DATA/to/**\"], symlinks: follow, rename: {directories: true}}\n"
            "  - {name: refuse, " +
            allow +
            "paths: [\"DATA/refuse/**\", \"DATA/stay/**\"], rename: {directories: true}}\n"
            "  - {name: secret, deny: all, paths: [\"DATA/to/secret\"]}\n"
            "  - {name: hidden, deny: all, paths: [\"DATA/to/hidden\"], reveal: ENOENT}\n");
    }
};

struct Asked {
    OperationSet operations;
    Call call;
    std::uint32_t flags = 0;
    std::uint32_t mode = 0;
    std::string payload{};
};

std::vector<Asked> requests(const std::string& path) {
    const auto zero = proto::number_payload(0);
    return {{{Operation::read}, Call::open, O_RDONLY},
            {{Operation::write}, Call::open, O_WRONLY},
            {{Operation::append}, Call::open, O_WRONLY | O_APPEND},
            {{Operation::read, Operation::write}, Call::open, O_RDWR},
            {{Operation::write, Operation::create}, Call::open, O_WRONLY | O_CREAT},
            {{Operation::read, Operation::create}, Call::open, O_RDONLY | O_CREAT},
            {{Operation::write, Operation::truncate}, Call::open, O_WRONLY | O_TRUNC},
            {{Operation::stat}, Call::stat},
            {{Operation::list}, Call::list, 0, 0, std::string(zero.data(), zero.size())},
            {{Operation::readlink}, Call::readlink},
            {{Operation::mkdir}, Call::mkdir, 0, 0755},
            {{Operation::remove}, Call::remove},
            {{Operation::rename}, Call::rename, 0, 0, with_nul(path + "-moved")},
            {{Operation::symlink}, Call::symlink, 0, 0, with_nul("target")},
            {{Operation::setattr}, Call::setattr, proto::setattr_mode, 0600},
            {{Operation::xattr}, Call::xattr_list}};
}

bool is_directory(const std::string& path) {
    std::error_code ignored;
    return std::filesystem::is_directory(std::filesystem::symlink_status(path, ignored));
}

}  // namespace

TEST_CASE("explain: every operation on every link says what the peer is told, errno and reason") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const LinkedTree tree;
    const RunningOpener opener(tree.directory(), tree.policy());
    const auto loaded = opener::load_policy(opener.policy());
    REQUIRE(loaded);
    const policy::Peer self = loaded->policy.identify({.user = "root", .group = "root"});
    TestPeer peer(opener.socket());
    std::set<std::pair<int, std::string>> outcomes;
    for (const char* below : {"follow/", "refuse/"}) {
        for (const std::string& name : LinkedTree::names()) {
            const std::string path = tree.at(below + name);
            for (const Asked& asked : requests(path)) {
                // Whether somebody reads a FIFO cannot be known without opening it.
                if (name == "l-fifo" && asked.call == Call::open && (asked.flags & O_ACCMODE) == O_WRONLY)
                    continue;
                CAPTURE(path);
                CAPTURE(static_cast<int>(asked.call));
                CAPTURE(asked.flags);
                const auto report = ctl::look_on_disk(loaded->policy, self, asked.operations,
                                                      policy::RequestPath::parse(path).value());
                const bool removes_directory = asked.call == Call::remove && is_directory(path);
                const auto told = peer.call({.call = asked.call,
                                             .flags = removes_directory ? AT_REMOVEDIR : asked.flags,
                                             .mode = asked.mode,
                                             .path = path,
                                             .payload = asked.payload});
                CHECK((report.obstacle ? report.obstacle->errno_value : 0) == told.status);
                // `reveal: ENOENT` hides the reason from the peer, not from the administrator.
                const bool hidden = told.status == ENOENT && report.obstacle &&
                                    report.obstacle->reason.ends_with("leads to what no rule allows");
                if (!hidden) CHECK((report.obstacle ? report.obstacle->reason : "") == told.reason);
                outcomes.emplace(told.status, hidden ? "hidden" : report.obstacle ? "seen" : "done");
                if (told.status == 0) tree.reset();
            }
        }
    }
    for (const int status : {0, ELOOP, ENOENT, EACCES, ENOTDIR, EEXIST, EISDIR, EINVAL})
        CHECK(std::ranges::any_of(outcomes, [&](const auto& one) { return one.first == status; }));
    CHECK(outcomes.contains({ENOENT, "hidden"}));
}
