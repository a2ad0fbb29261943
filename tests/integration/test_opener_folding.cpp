// SPDX-License-Identifier: MIT
// Deny rules on a filesystem where one object answers to several names.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "proto/payload.hpp"
#include "tests/integration/folding_filesystem.hpp"
#include "tests/integration/hanging_filesystem.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;

namespace {

constexpr std::string_view another_name = "bears another one";

struct FoldingFixture {
    TempDir directory{TempDir::Place::var_tmp, 0755};
    std::string data = directory / "data";
    std::string source = directory / "source";
    std::string mount = data + "/cf";

    FoldingFixture() {
        make_directory(data);
        make_directory(mount);
        make_directory(source);
        make_directory(source + "/sub");
        write_file(source + "/secret.key", "secret");
        write_file(source + "/readme.txt", "readme");
        write_file(source + "/sub/inner.txt", "inner");
        std::filesystem::create_symlink("readme.txt", source + "/link");
    }
    // `below`: the directory that the allow rule names.
    std::string policy(const std::string& below, bool denies = true) const {
        std::string text =
            "version: 1\nrules:\n  - {name: all, allow: [read, write, create, stat, list, "
            "remove, rename, readlink], paths: [\"" +
            below + "/**\"], symlinks: follow}\n";
        if (denies) text += "  - {name: keys, deny: all, paths: [\"" + mount + "/**/*.key\"]}\n";
        return text;
    }
};

int status_of(TestPeer& peer, Call call, const std::string& path) {
    return peer.call({.call = call, .path = path}).status;
}

}  // namespace

TEST_CASE("folding: below a deny rule an object is served by the name that its directory lists alone") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const FoldingFixture fixture;
        std::string below = fixture.mount;
        SUBCASE("where the filesystem is mounted") {}
        SUBCASE("above, on another filesystem") {
            below = fixture.data;
        }
        const FoldingFilesystem filesystem(fixture.source, fixture.mount);
        RunningOpener opener(fixture.directory, fixture.policy(below));
        TestPeer peer(opener.socket());
        const auto at = [&](const char* name) { return fixture.mount + "/" + name; };
        CHECK(peer.open(at("readme.txt")).content() == "readme");
        CHECK(peer.open(at("sub/inner.txt")).content() == "inner");
        CHECK(peer.open(at("link")).content() == "readme");
        CHECK(peer.open(at("secret.key")).step == proto::Step::decide);
        const auto refused = peer.open(at("SECRET.KEY"));
        CHECK(refused.status == EACCES);
        CHECK(refused.reason.find(another_name) != std::string::npos);
        CHECK(peer.open(at("Readme.txt")).status == EACCES);
        CHECK(peer.open(at("SUB/inner.txt")).status == EACCES);
        CHECK(peer.open(at("LINK")).status == ELOOP);
        CHECK(peer.open(at("missing.txt")).status == ENOENT);
        CHECK(peer.open(at("SECRET.KEY"), O_WRONLY | O_CREAT).status == EACCES);
        for (const Call call : {Call::stat, Call::remove, Call::readlink})
            CHECK(status_of(peer, call, at("SECRET.KEY")) == EACCES);
        const auto cursor = proto::number_payload(0);
        CHECK(peer.call({.call = Call::list, .path = at("SUB"), .payload = {cursor.data(), cursor.size()}})
                  .status == EACCES);
        const auto rename = [&](const char* from, const char* to) {
            std::string names = at(to);
            names.push_back('\0');
            return peer.call({.call = Call::rename, .path = at(from), .payload = names}).status;
        };
        CHECK(rename("SECRET.KEY", "other") == EACCES);
        CHECK(rename("readme.txt", "SECRET.KEY") == EACCES);
        CHECK(std::filesystem::exists(fixture.source + "/secret.key"));
        CHECK(peer.open(at("new."), O_WRONLY | O_CREAT).status == EINVAL);
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("folding: names that no directory lists are refused below a deny rule, and nowhere else") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const FoldingFixture fixture;
        const FoldingFilesystem filesystem(fixture.source, fixture.mount, Listing::none);
        for (const bool denies : {true, false}) {
            RunningOpener opener(fixture.directory, fixture.policy(fixture.mount, denies));
            TestPeer peer(opener.socket());
            const auto answer = peer.open(fixture.mount + "/README.txt");
            CHECK(answer.status == (denies ? EACCES : 0));
            CHECK((answer.reason.find("does not list") != std::string::npos) == denies);
            CHECK(opener.stop() == 0);
            std::filesystem::remove(fixture.directory / "audit.jsonl");
        }
    });
}

TEST_CASE("folding: --check and lint tell where names may be folded and a deny rule reaches") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const FoldingFixture fixture;
        const FoldingFilesystem filesystem(fixture.source, fixture.mount);
        const std::string file = fixture.directory / "policy.yaml";
        write_file(file, fixture.policy(fixture.mount));
        const auto checked = run({.arguments = {opener_program(), "--check", "--policy", file}});
        CHECK(checked.out.find("names in " + fixture.mount + ": its filesystem may fold names") !=
              std::string::npos);
        const auto linted = run({.arguments = {openerctl_program(), "policy", "check", "--lint", file}});
        CHECK(linted.err.find("[folded-names]") != std::string::npos);
        write_file(file, fixture.policy(fixture.mount, false));
        CHECK(run({.arguments = {opener_program(), "--check", "--policy", file}}).out.find("names in") ==
              std::string::npos);
        CHECK(run({.arguments = {openerctl_program(), "policy", "check", "--lint", file}})
                  .err.find("[folded-names]") == std::string::npos);
    });
}
