// SPDX-License-Identifier: MIT
// `openerctl policy explain`: the decision with its reasons, and as root what is on disk.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

// `@` stands for the directory of the test.
constexpr const char* policy_text = R"(version: 1
roles:
  web: {users: [nobody]}
  adm: {groups: [4]}
  convert: {sockets: [convert]}
rules:
  - {name: site, roles: [web], allow: [read, list, readlink], paths: ["@/www/**"]}
  - {name: keys, deny: all, paths: ["@/www/**/*.key"], reveal: ENOENT}
  - {name: logs, roles: [adm], allow: [read], paths: ["@/log/*"]}
  - {name: in, roles: [convert], allow: [read], paths: ["@/in/*"]}
  - {name: spool, roles: [web], allow: [write, create], paths: ["@/spool/**"], create: {parents: true}}
  - {name: flat, roles: [web], allow: [write, create, mkdir], paths: ["@/flat/**"]}
)";

std::string with_directory(std::string text, const std::filesystem::path& directory) {
    for (std::size_t at = 0; (at = text.find('@', at)) != std::string::npos;)
        text.replace(at, 1, directory.string());
    return text;
}

class Asker {
  public:
    explicit Asker(const TempDir& directory, const std::string& policy = policy_text)
        : directory_(directory) {
        write_file(directory / "policy.yaml", with_directory(policy, directory.path()));
    }

    Outcome ask(const std::string& user, const std::string& operations, const std::string& path,
                std::vector<std::string> more = {}) const {
        std::vector<std::string> arguments{openerctl_program(),        "policy", "explain", "--policy",
                                           directory_ / "policy.yaml", "--as",   user};
        arguments.insert(arguments.end(), more.begin(), more.end());
        arguments.push_back(operations);
        arguments.push_back(with_directory(path, directory_.path()));
        return run({.arguments = std::move(arguments)});
    }
    nlohmann::json ask_json(const std::string& user, const std::string& operations, const std::string& path,
                            std::vector<std::string> more = {}) const {
        more.emplace_back("--json");
        return nlohmann::json::parse(ask(user, operations, path, std::move(more)).out);
    }

  private:
    const TempDir& directory_;
};

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

// Empty: nothing on disk is in the way.
std::string obstacle(const nlohmann::json& answer) {
    const auto& found = answer.at("disk").at("obstacle");
    return found.is_null() ? "" : found.at("errno").get<std::string>();
}

const std::string policy_of_objects = R"(version: 1
rules:
  - {name: plain, allow: [read], paths: ["@/plain/**"]}
  - {name: once, allow: [read], paths: ["@/once/*"], files: {max_links: 1}}
  - {name: writing, allow: [read, write], paths: ["@/writing/*"]}
  - {name: foreign, allow: [read], paths: ["@/foreign/*"]}
  - {name: small, allow: [read], paths: ["@/small/*"], files: {max_size: 3}}
  - {name: owned, allow: [read], paths: ["@/owned/*"], files: {owners: ["${user}"]}}
  - {name: here, allow: [read], paths: ["@/here/**"], files: {same_mount: true}}
  - {name: any, allow: [read], paths: ["@/any/*"], files: {types: [regular, directory, fifo, socket]}}
  - {name: linked, allow: [read], paths: ["@/linked/*"]}
  - {name: gone, allow: [read], paths: ["@/gone/*"]}
)";

// Objects that these rules are about. In a mount namespace.
void make_objects(const TempDir& directory) {
    for (const char* name : {"plain", "plain/d", "plain/mount", "plain/proc", "once", "writing", "foreign",
                             "small", "owned", "here", "here/mount", "any", "any/d"})
        make_directory(directory / name);
    REQUIRE(::chown((directory / "foreign").c_str(), some_user, some_user) == 0);
    for (const char* name : {"plain/b", "once/a", "writing/a", "foreign/a"}) {
        write_file(directory / name, "abc");
        std::filesystem::create_hard_link(directory / name, (directory / name).string() + "-too");
    }
    write_file(directory / "plain/a", "a");
    write_file(directory / "small/abc", "abc");
    write_file(directory / "small/abcd", "abcd");
    write_file(directory / "owned/roots", "a");
    write_file(directory / "owned/others", "a", {.uid = some_user});
    std::filesystem::create_symlink("plain", directory / "linked");
    std::filesystem::create_symlink("a", directory / "plain/link");
    std::filesystem::create_symlink("d", directory / "plain/dlink");
    write_file(directory / "plain/d/a", "a");
    REQUIRE(::mkfifo((directory / "any/fifo").c_str(), 0644) == 0);
    REQUIRE(::mkfifo((directory / "plain/fifo").c_str(), 0644) == 0);
    REQUIRE(::mknod((directory / "any/socket").c_str(), S_IFSOCK | 0644, 0) == 0);
    for (const char* name : {"plain/mount", "here/mount"}) {
        REQUIRE(::mount("tmpfs", (directory / name).c_str(), "tmpfs", 0, nullptr) == 0);
        write_file(directory / (std::string(name) + "/a"), "a");
    }
    REQUIRE(::mount("proc", (directory / "plain/proc").c_str(), "proc", 0, nullptr) == 0);
}

}  // namespace

TEST_CASE("policy explain: a refusal is status 1, with each step and the nearest misses") {
    const TempDir directory;
    const Asker asker(directory);
    const Outcome other = asker.ask("root", "read", "@/www/index.html");
    CHECK(other.status == 1);
    CHECK(other.err.empty());
    CHECK(contains(other.out, "refused: no rule allows read\n"));
    CHECK(contains(other.out, "policy.yaml:7 rule \"site\""));
    CHECK(contains(other.out, "web: not held"));
    CHECK(contains(other.out, "the peer holds none of its roles: web"));
    CHECK_FALSE(contains(other.out, "on disk"));

    const Outcome denied = asker.ask("nobody", "read", "@/www/tls.key");
    CHECK(denied.status == 1);
    CHECK(contains(denied.out, "refused by rule \"keys\"\n"));

    const auto json = asker.ask_json("nobody", "read", "@/www/tls.key");
    CHECK(json["allowed"] == false);
    CHECK(json["decision"]["rule"] == "keys");
    CHECK(json["decision"]["errno"] == "ENOENT");
    CHECK(json["decision"]["location"]["line"] == 8);
    CHECK(json["rules"][0]["outcome"] == "overridden");
    CHECK(json["rules"][1]["outcome"] == "denies");
    CHECK(json["near_misses"][0]["rule"] == "site");
    CHECK(json["disk"].is_null());
}

TEST_CASE("policy explain: the peer is completed from its account, its groups and its socket are as given") {
    const TempDir directory;
    const Asker asker(directory);
    const auto told = asker.ask_json("nobody", "read", "@/log/a");
    CHECK(told["peer"]["uid"] == 65534);
    CHECK(told["peer"]["user"] == "nobody");
    CHECK(told["decision"]["allowed"] == false);
    CHECK(asker.ask_json("65534", "read", "@/www/a")["peer"]["user"] == "nobody");

    const auto grouped = asker.ask_json("30001", "read", "@/log/a", {"--groups", "100,adm"});
    CHECK(grouped["peer"]["groups"] == nlohmann::json{100, 4});
    CHECK(grouped["peer"]["user"].is_null());
    CHECK(grouped["peer"]["gid"].is_null());
    CHECK(grouped["decision"]["rule"] == "logs");
    CHECK(asker.ask_json("root", "read", "@/log/a", {"--groups", ""})["peer"]["groups"].empty());

    CHECK(asker.ask_json("30001", "read", "@/in/a")["decision"]["allowed"] == false);
    CHECK(asker.ask_json("30001", "read", "@/in/a", {"--on-socket", "convert"})["decision"]["rule"] == "in");
}

TEST_CASE("policy explain: several operations need a grant each, and words for several may be given") {
    const TempDir directory;
    const Asker asker(directory);
    const auto json = asker.ask_json("nobody", "modify,read", "@/spool/a");
    CHECK(json["operations"] == nlohmann::json{"read", "write", "create", "truncate"});
    CHECK(json["decision"]["operations"] == nlohmann::json{"read", "truncate"});
}

TEST_CASE("policy explain: a path of any bytes is printed without its control bytes, and as valid JSON") {
    const TempDir directory;
    const Asker asker(directory);
    const Outcome outcome = asker.ask("root", "read", "/a\x1b[31m\xff");
    CHECK(outcome.status == 1);
    CHECK(contains(outcome.out, "/a\\x1b[31m"));
    CHECK_FALSE(contains(outcome.out, "\x1b"));
    CHECK(asker.ask_json("root", "read", "/a\xff")["path"] == "/a\\xff");
}

TEST_CASE("policy explain: wrong usage is status 2, an invalid policy 3") {
    const TempDir directory;
    const Asker asker(directory);
    const std::string nowhere = directory / "no.sock";
    const Outcome no_opener = run({.arguments = {openerctl_program(), "--control", nowhere, "policy",
                                                 "explain", "--as", "root", "read", "/a"}});
    CHECK(no_opener.status == 4);
    CHECK(contains(no_opener.err, "openerctl: the opener at " + nowhere + " cannot be reached: "));

    const struct {
        Outcome outcome;
        const char* message;
    } cases[] = {
        {asker.ask("no-such-user", "read", "/a"), "openerctl: --as: \"no-such-user\" does not exist"},
        {asker.ask("-1", "read", "/a"), "openerctl: --as"},
        {asker.ask("4294967295", "read", "/a"), "openerctl: --as: 4294967295 is no id"},
        {asker.ask("root", "reed", "/a"), "openerctl: reed: "},
        {asker.ask("root", "read,", "/a"), "openerctl: : "},
        {asker.ask("root", "read", "a"), "openerctl: a: the path is relative"},
        {asker.ask("root", "read", "/a/../b"), "openerctl: /a/../b: "},
        {asker.ask("root", "read", "/a", {"--groups", "adm,no-such-group"}),
         "openerctl: --groups: \"no-such-group\" does not exist"},
    };
    for (const auto& one : cases) {
        CAPTURE(one.outcome.err);
        CHECK(one.outcome.status == 2);
        CHECK(one.outcome.err.starts_with(one.message));
        CHECK(one.outcome.out.empty());
    }

    const Asker wrong(directory, "version: 1\nrules: none\n");
    const Outcome invalid = wrong.ask("root", "read", "/a");
    CHECK(invalid.status == 3);
    CHECK(contains(invalid.err, "policy.yaml:2:"));
    CHECK(wrong.ask_json("root", "read", "/a")["valid"] == false);
}

TEST_CASE("policy explain: a grant is status 0, and root sees each step on disk") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    const Asker asker(directory);
    make_directory(directory / "www");
    write_file(directory / "www/a", "four", {.mode = 0640, .uid = some_user});
    const Outcome granted = asker.ask("nobody", "read", "@/www/a");
    CHECK(granted.status == 0);
    CHECK(contains(granted.out, "allowed by rule \"site\"\n"));
    CHECK(contains(granted.out, "/www/a: regular file, owner 30001, mode 0640, 1 link, 4 bytes\n"));
    CHECK(contains(granted.out, "files of rule \"site\": fulfilled\n"));

    const auto json = asker.ask_json("nobody", "read", "@/www/a");
    CHECK(json["allowed"] == true);
    CHECK(json["disk"]["steps"].front()["path"] == "/");
    const auto& last = json["disk"]["steps"].back();
    CHECK(last["path"] == (directory / "www/a").string());
    CHECK(last["type"] == "regular file");
    CHECK(last["owner"] == some_user);
    CHECK(last["mode"] == "0640");
    CHECK(last["links"] == 1);
    CHECK(last["size"] == 4);
    CHECK(json["disk"]["obstacle"].is_null());
}

TEST_CASE(
    "policy explain: what is on disk is told beside the decision, and decides the status with --on-disk") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    const Asker asker(directory);
    make_directory(directory / "www");
    make_directory(directory / "data");
    write_file(directory / "data/a", "a");
    std::filesystem::create_symlink("../data", directory / "www/link");
    std::filesystem::create_symlink("/proc/self/exe", directory / "www/last");
    const std::string link = directory / "www/link";
    const std::string reason = link + ": \"" + link + "\" is a symbolic link (ELOOP)\n";

    const Outcome told = asker.ask("nobody", "read", "@/www/link/a");
    CHECK(told.status == 0);
    CHECK(contains(told.out, "allowed by rule \"site\"\n"));
    CHECK(contains(told.out, "on disk, it would be refused: " + reason));
    CHECK(contains(told.out, "holds ../data, leads to " + (directory / "data").string() + "\n"));
    const Outcome counted = asker.ask("nobody", "read", "@/www/link/a", {"--on-disk"});
    CHECK(counted.status == 1);
    CHECK(counted.out.starts_with("refused by what is on disk: " + reason));

    const auto json = asker.ask_json("nobody", "read", "@/www/link/a");
    CHECK(json["allowed"] == true);
    CHECK(json["decision"]["allowed"] == true);
    CHECK(obstacle(json) == "ELOOP");
    CHECK(json["disk"]["obstacle"]["path"] == link);
    CHECK(json["disk"]["steps"].back()["target"] == "../data");
    CHECK(json["disk"]["steps"].back()["leads_to"] == (directory / "data").string());
    CHECK(asker.ask_json("nobody", "read", "@/www/link/a", {"--on-disk"})["allowed"] == false);

    CHECK(obstacle(asker.ask_json("nobody", "read", "@/www/last")) == "ELOOP");
    CHECK(asker.ask_json("nobody", "read", "@/www/last")["disk"]["steps"].back()["target"] ==
          "/proc/self/exe");
    CHECK(obstacle(asker.ask_json("nobody", "readlink", "@/www/last")).empty());
    CHECK(obstacle(asker.ask_json("nobody", "readlink", "@/www/link/a")) == "ELOOP");
}

TEST_CASE("policy explain: a link that its rule follows leads to what is granted there, step by step") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    const Asker asker(directory, R"(version: 1
rules:
  - {name: one, allow: [read], paths: ["@/a/**"], symlinks: follow}
  - {name: two, allow: [read], paths: ["@/b/**"], symlinks: follow}
)");
    for (const char* name : {"a", "b", "b/v1"}) make_directory(directory / name);
    write_file(directory / "b/v1/f", "f");
    std::filesystem::create_symlink("../b/..data/f", directory / "a/l");
    std::filesystem::create_symlink("v1", directory / "b/..data");
    std::filesystem::create_symlink("/etc/passwd", directory / "a/out");
    const Outcome followed = asker.ask("nobody", "read", "@/a/l", {"--on-disk"});
    CHECK(followed.status == 0);
    CHECK(contains(followed.out, "/a/l: symbolic link"));
    CHECK(contains(followed.out, "/b/..data: symbolic link"));
    CHECK(contains(followed.out, "/b/v1/f: regular file"));
    CHECK(contains(followed.out, "files of rule \"two\": fulfilled\n"));
    const Outcome out = asker.ask("nobody", "read", "@/a/out", {"--on-disk"});
    CHECK(out.status == 1);
    CHECK(contains(out.out, "is a symbolic link that leads to what no rule allows (EACCES)\n"));
}

TEST_CASE("policy explain: a file to be made may be missing, and may not exist") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    const Asker asker(directory);
    for (const char* name : {"flat", "flat/there", "spool"}) make_directory(directory / name);
    CHECK(obstacle(asker.ask_json("nobody", "write", "@/flat/new")) == "ENOENT");
    CHECK(obstacle(asker.ask_json("nobody", "write,create", "@/flat/new")).empty());
    CHECK(contains(asker.ask("nobody", "write,create", "@/flat/new").out, "/flat/new: is not there yet\n"));
    CHECK(obstacle(asker.ask_json("nobody", "create", "@/flat/deep/new")) == "ENOENT");
    CHECK(obstacle(asker.ask_json("nobody", "create", "@/spool/deep/new")).empty());
    CHECK(obstacle(asker.ask_json("nobody", "mkdir", "@/flat/new")).empty());
    CHECK(obstacle(asker.ask_json("nobody", "mkdir", "@/flat/there")) == "EEXIST");
    CHECK(obstacle(asker.ask_json("nobody", "create", "@/flat/there")) == "EISDIR");
}

TEST_CASE("policy explain: a directory is listed and not opened as a file, a file is no directory") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir directory;
    const Asker asker(directory);
    make_directory(directory / "www");
    make_directory(directory / "www/d");
    write_file(directory / "www/a", "a");
    CHECK(obstacle(asker.ask_json("nobody", "list", "@/www/d")).empty());
    CHECK(obstacle(asker.ask_json("nobody", "read", "@/www/d")) == "EISDIR");
    CHECK(obstacle(asker.ask_json("nobody", "list", "@/www/a")) == "ENOTDIR");
    CHECK(obstacle(asker.ask_json("nobody", "read", "@/www/a/b")) == "ENOTDIR");
}

TEST_CASE("policy explain: the part on disk says what the opener tells a peer") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs mount namespaces");
    const TempDir directory;
    run_in_mount_namespace([&] {
        make_objects(directory);
        const Asker asker(directory, policy_of_objects);
        RunningOpener opener(directory, with_directory(policy_of_objects, directory.path()));
        TestPeer peer(opener.socket());
        const struct {
            const char* path;
            const char* errno_name;  // empty: granted; null: as fs.protected_hardlinks is
        } cases[] = {
            {"plain/a", ""},
            {"plain/b", nullptr},
            {"plain/missing", "ENOENT"},
            {"plain/d", "EISDIR"},
            {"plain/a/b", "ENOTDIR"},
            {"plain/link", "ELOOP"},
            {"plain/dlink/a", "ELOOP"},
            {"plain/fifo", "EACCES"},
            {"plain/mount/a", ""},
            {"plain/proc/version", "EACCES"},
            {"once/a", "EACCES"},
            {"writing/a", "EACCES"},
            {"foreign/a", "EACCES"},
            {"small/abc", ""},
            {"small/abcd", "EFBIG"},
            {"owned/roots", ""},
            {"owned/others", "EACCES"},
            {"here/mount/a", "EXDEV"},
            {"any/fifo", ""},
            {"any/d", "EISDIR"},
            {"any/socket", "ENXIO"},
            {"linked/a", "ELOOP"},
            {"gone/a", "ENOENT"},
        };
        for (const auto& one : cases) {
            CAPTURE(one.path);
            const int status = peer.open(directory / one.path).status;
            const std::string told = status == 0 ? "" : ::strerrorname_np(status);
            if (one.errno_name != nullptr) CHECK(told == one.errno_name);
            CHECK(obstacle(asker.ask_json("root", "read", "@/" + std::string(one.path))) == told);
        }
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE(
    "policy explain: the status depends on nobody's rights; without root the disk could not be looked at") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root, to become somebody else");
    const TempDir directory;
    const Asker asker(directory);
    std::filesystem::create_symlink("/nonexistent", directory / "www");
    CHECK(asker.ask("nobody", "read", "@/www/a").status == 0);
    run_as(some_user, [&] {
        const Outcome outcome = asker.ask("nobody", "read", "@/www/a");
        CHECK(outcome.status == 0);
        CHECK(contains(outcome.out, "on disk: could not be looked at, which takes root\n"));
        const auto json = asker.ask_json("nobody", "read", "@/www/a");
        CHECK(json["disk"].is_null());
        CHECK(json["disk_not_seen"] == "which takes root");
        const Outcome counted = asker.ask("nobody", "read", "@/www/a", {"--on-disk"});
        CHECK(counted.status == 1);
        CHECK(counted.err == "openerctl: --on-disk: the disk could not be looked at, which takes root\n");
    });
}
