// SPDX-License-Identifier: MIT
// Every operation of the policy language alone and in its groups, against every request that can be made; and paths that are
// nearly those of a rule. The tables say what is expected without asking the code that decides.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "proto/payload.hpp"
#include "tests/integration/operations_fixture.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;
using proto::Step;

namespace {

using Names = std::set<std::string>;

// As a rule allows them → the operations that this means (fdbroker-policy(5), "Operations").
const std::vector<std::pair<std::string, Names>> grants = {
    {"read", {"read"}},
    {"write", {"write"}},
    {"append", {"append"}},
    {"create", {"create"}},
    {"truncate", {"truncate"}},
    {"stat", {"stat"}},
    {"list", {"list"}},
    {"readlink", {"readlink"}},
    {"mkdir", {"mkdir"}},
    {"remove", {"remove"}},
    {"rename", {"rename"}},
    {"symlink", {"symlink"}},
    {"setattr", {"setattr"}},
    {"xattr", {"xattr"}},
    {"execute", {"execute"}},
    {"modify", {"write", "create", "truncate"}},
    {"manage", {"write", "create", "truncate", "mkdir", "remove", "rename"}},
    {"read, modify", {"read", "write", "create", "truncate"}},
    {"read, append, create", {"read", "append", "create"}},
    {"xattr, setattr", {"xattr", "setattr"}},
};

// Directories by their numbers, each with the one rule.
std::string rule_for_each_grant(const TempDir& directory) {
    std::string policy = "version: 1\nrules:\n";
    for (std::size_t index = 0; index < grants.size(); ++index) {
        const std::string own = directory / std::to_string(index);
        make_directory(own);
        policy += "  - {name: rule" + std::to_string(index) + ", allow: [" + grants[index].first +
                  "], paths: [\"" + own + "/**\"]}\n";
    }
    return policy;
}

struct Asked {
    Call call;
    std::uint32_t flags;
    Names needs;
    std::string payload{};
};

std::vector<Asked> every_request(const std::string& new_name) {
    const auto zero = proto::number_payload(0);
    const std::string beginning(zero.data(), zero.size());
    return {
        {Call::open, O_RDONLY, {"read"}},
        {Call::open, O_WRONLY, {"write"}},
        {Call::open, O_RDWR, {"read", "write"}},
        {Call::open, O_WRONLY | O_APPEND, {"append"}},
        {Call::open, O_RDWR | O_APPEND, {"read", "append"}},
        {Call::open, O_RDONLY | O_CREAT, {"read", "create"}},
        {Call::open, O_WRONLY | O_CREAT, {"write", "create"}},
        {Call::open, O_WRONLY | O_CREAT | O_EXCL, {"write", "create"}},
        {Call::open, O_WRONLY | O_APPEND | O_CREAT, {"append", "create"}},
        {Call::open, O_WRONLY | O_TRUNC, {"write", "truncate"}},
        {Call::open, O_WRONLY | O_APPEND | O_TRUNC, {"append", "truncate"}},
        {Call::open, O_RDWR | O_CREAT | O_TRUNC, {"read", "write", "create", "truncate"}},
        {Call::open, O_DIRECTORY, {"list"}},
        {Call::stat, 0, {"stat"}},
        {Call::list, 0, {"list"}, beginning},
        {Call::readlink, 0, {"readlink"}},
        {Call::mkdir, 0, {"mkdir"}},
        {Call::remove, 0, {"remove"}},
        {Call::rename, 0, {"rename"}, new_name + '\0'},
        {Call::symlink, 0, {"symlink"}, with_nul("target")},
        {Call::setattr, proto::setattr_mode, {"setattr"}},
        {Call::xattr_list, 0, {"xattr"}},
        {Call::xattr_read, 0, {"xattr"}, with_nul("user.a")},
        {Call::xattr_write, 0, {"xattr", "setattr"}, proto::attribute_payload("user.a", "b")},
        {Call::xattr_remove, 0, {"xattr", "setattr"}, with_nul("user.a")},
    };
}

// fcntl.h of the kernel; the C library has 0 for it where every file is large.
constexpr std::uint32_t large_file = 0100000;

// Every bit there is, alone and with those that change files, in every access mode; and what several bits stand for.
std::vector<std::uint32_t> every_flags() {
    std::set<std::uint32_t> alone{0, O_TMPFILE, O_SYNC};
    for (unsigned bit = 2; bit < 32; ++bit) alone.insert(std::uint32_t{1} << bit);
    std::set<std::uint32_t> all;
    for (std::uint32_t access = 0; access <= O_ACCMODE; ++access)
        for (const std::uint32_t flags : alone)
            for (const int changing : {0, O_CREAT, O_TRUNC, O_CREAT | O_TRUNC | O_APPEND})
                all.insert(access | flags | static_cast<std::uint32_t>(changing));
    return {all.begin(), all.end()};
}

// nullopt: EINVAL.
std::optional<Names> needs_of(std::uint32_t flags) {
    constexpr std::uint32_t taken = O_APPEND | O_CREAT | O_EXCL | O_TRUNC | O_DIRECTORY | O_NOFOLLOW |
                                    O_SYNC | O_DSYNC | O_NOATIME | O_DIRECT | O_NONBLOCK | O_NOCTTY |
                                    O_CLOEXEC | large_file;
    const std::uint32_t access = flags & O_ACCMODE;
    if (access == O_ACCMODE || (flags & ~(taken | O_ACCMODE)) != 0) return std::nullopt;
    if (access == O_RDONLY && (flags & O_TRUNC) != 0) return std::nullopt;
    if ((flags & O_CREAT) != 0 && (flags & O_DIRECTORY) != 0) return std::nullopt;
    Names needs;
    if ((flags & O_DIRECTORY) != 0) {
        needs.insert("list");
    } else if (access != O_WRONLY) {
        needs.insert("read");
    }
    if (access != O_RDONLY) needs.insert((flags & O_APPEND) != 0 ? "append" : "write");
    if ((flags & O_CREAT) != 0) needs.insert("create");
    if ((flags & O_TRUNC) != 0) needs.insert("truncate");
    return needs;
}

// The outcome of an open: the errno or the flags of the descriptor, and what is in the file; "none" when there is none.
struct Opened {
    int errno_value = 0;
    int flags = 0;
    std::string content{};
    bool operator==(const Opened&) const = default;
};
Opened look(int errno_value, const proto::UniqueFd& fd, const std::string& path) {
    constexpr int told = O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC | O_NOATIME | O_DIRECT | O_NONBLOCK;
    return {errno_value, fd ? ::fcntl(fd.number(), F_GETFL) & told : 0,
            std::filesystem::exists(path) ? read_file(path) : "none"};
}

// The same by open(2) itself, of a file or of a name that nothing has.
Opened open_itself(const TempDir& directory, std::uint32_t flags, bool is_there) {
    const std::string path = directory / "itself";
    std::filesystem::remove(path);
    if (is_there) write_file(path, "content", {.mode = 0600});
    const proto::UniqueFd fd(::open(path.c_str(), static_cast<int>(flags) | O_CLOEXEC, 0600));
    return look(fd ? 0 : errno, fd, path);
}

bool grants_an_open(const Names& operations) {
    return std::ranges::any_of(Names{"read", "list", "write", "append"},
                               [&](const std::string& name) { return operations.count(name) != 0; });
}

int access_of(const proto::UniqueFd& fd) {
    return ::fcntl(fd.number(), F_GETFL) & O_ACCMODE;
}

}  // namespace

TEST_CASE("sweep: each request is granted by exactly the rules that allow all it needs") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory(TempDir::Place::var_tmp);
    RunningOpener opener(directory, rule_for_each_grant(directory));
    TestPeer peer(opener.socket());
    for (std::size_t index = 0; index < grants.size(); ++index) {
        const std::string path = (directory / std::to_string(index)) / "file";
        CAPTURE(grants[index].first);
        for (const Asked& asked : every_request(path + "2")) {
            CAPTURE(static_cast<int>(asked.call));
            CAPTURE(asked.flags);
            // The same for each, whatever an earlier one has done.
            write_file(path, "content", {.mode = 0600});
            const auto answer =
                peer.call({.call = asked.call, .flags = asked.flags, .path = path, .payload = asked.payload});
            CHECK(answer.step != Step::parse);
            CHECK((answer.step != Step::decide) == std::ranges::includes(grants[index].second, asked.needs));
            if (answer.step == Step::decide) CHECK(answer.status == EACCES);
            if (answer.step == Step::decide && asked.call != Call::open) CHECK(read_file(path) == "content");
            if (answer.fd) CHECK(access_of(answer.fd) == static_cast<int>(asked.flags & O_ACCMODE));
        }
    }
}

TEST_CASE(
    "sweep: every flag of open(2) is refused, or needs its operations and does what open(2) does with it") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory(TempDir::Place::var_tmp);
    const std::vector<std::uint32_t> all = every_flags();
    RunningOpener opener(directory, rule_for_each_grant(directory));
    TestPeer peer(opener.socket());
    for (const bool is_there : {true, false}) {
        std::vector<Opened> expected;
        for (const std::uint32_t flags : all)
            expected.push_back(needs_of(flags) ? open_itself(directory, flags, is_there) : Opened{});
        for (std::size_t index = 0; index < grants.size(); ++index) {
            CAPTURE(grants[index].first);
            CAPTURE(is_there);
            const std::string own = directory / std::to_string(index);
            std::filesystem::remove_all(own + "/files");
            make_directory(own + "/files");
            std::size_t granted = 0;
            for (std::size_t i = 0; i < all.size(); ++i) {
                CAPTURE(all[i]);
                const std::string path = own + "/files/" + std::to_string(i);
                if (is_there) write_file(path, "content", {.mode = 0600});
                const auto answer = peer.open(path, all[i]);
                const Opened opened = look(answer.status, answer.fd, path);
                const auto needs = needs_of(all[i]);
                if (!needs) {
                    CHECK(answer.step == Step::parse);
                    CHECK(opened == Opened{EINVAL, 0, is_there ? "content" : "none"});
                } else if (!std::ranges::includes(grants[index].second, *needs)) {
                    CHECK(answer.step == Step::decide);
                    CHECK(opened == Opened{EACCES, 0, is_there ? "content" : "none"});
                } else {
                    ++granted;
                    CHECK(opened.errno_value == expected[i].errno_value);
                    CHECK(opened.flags == expected[i].flags);
                    CHECK(opened.content == expected[i].content);
                }
            }
            CHECK((granted > 0) == grants_an_open(grants[index].second));
        }
    }
}

TEST_CASE("sweep: a path that is nearly a rule's is none of the rule's") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory(TempDir::Place::var_tmp);
    make_directory(directory / "d");
    make_directory(directory / "d/tree");
    for (const char* name : {"d/mbog", "d/mbogo", "d/mbogos", "d/mbo", "d/MBOGO", "d/treex", "d/tree/x"})
        write_file(directory / name, name, {.mode = 0600});
    const std::string base = directory / "d";
    RunningOpener opener(directory, "version: 1\nrules:\n  - {name: one, allow: [read, stat], paths: [\"" +
                                        base +
                                        "/mbogo\"]}\n  - {name: below, allow: [read, stat], paths: [\"" +
                                        base + "/tree/**\"]}\n");
    TestPeer peer(opener.socket());
    CHECK(peer.open(base + "/mbogo").content() == "d/mbogo");
    CHECK(peer.open(base + "/tree/x").content() == "d/tree/x");
    // A name below is refused by the path alone; the directory itself may be looked at.
    CHECK(peer.open(base + "/tree").step == Step::decide);
    CHECK(peer.call({.call = Call::stat, .path = base + "/tree"}).status == 0);
    for (const char* name : {"/mbog", "/mbogos", "/mbo", "/MBOGO", "/mbogo/x", "/mbogo\n", "/mbogo ",
                             "/treex", "/tre", "/Tree/x", "/TREE/x", "", "/x/mbogo", "/tre/x"})
        CHECK(peer.open(base + name).step == Step::decide);
    for (const char* name : {"/mbogo/", "//mbogo", "/./mbogo", "/tree/../mbogo", "/tree/", "/tree/./x",
                             "/tree//x", "/mbogo/..", "/mbogo/."}) {
        const auto answer = peer.open(base + name);
        CHECK(answer.step == Step::parse);
        CHECK(answer.status == EINVAL);
    }
    CHECK(peer.open("d/mbogo").step == Step::parse);
}
