// SPDX-License-Identifier: MIT
// Directories that rules name on a filesystem that does not answer at all: what becomes of the others.
#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "tests/integration/hanging_filesystem.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

constexpr const char* followed = "a directory that rules name is another now";

// A directory on a filesystem that hangs when told to, and one beside it.
struct SilentFixture {
    TempDir directory{TempDir::Place::var_tmp, 0755};
    std::string data = directory / "data";
    std::string elsewhere = directory / "elsewhere";
    std::string mount = directory / "mount";
    std::string silent = mount;

    SilentFixture() {
        make_directory(mount);
        make_directory(data);
        write_file(data + "/file", "first", {.mode = 0600});
    }
    std::string policy() const {
        return "version: 1\nrules:\n  - {name: data, allow: [read], paths: [\"" + data +
               "/**\"]}\n  - {name: silent, allow: [read, stat], paths: [\"" + silent + "/**\"]}\n";
    }
};

}  // namespace

TEST_CASE("silence: a filesystem that does not answer delays no other, and is followed once it answers") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        SilentFixture fixture;
        SUBCASE("where the filesystem is mounted") {}
        SUBCASE("in the filesystem") {
            fixture.silent += "/directory";
        }
        HangingFilesystem filesystem(fixture.mount);
        RunningOpener opener(fixture.directory, fixture.policy());
        TestPeer peer(opener.socket());
        const proto::Request look{.call = proto::Call::stat, .path = fixture.silent};
        CHECK(peer.call(look).status == 0);
        filesystem.stop_answering();
        filesystem.wait_for_hanging(1);
        opener.process().wait_for_error(fixture.silent + " does not answer");
        CHECK(opener.count_events("start", followed) == 0);
        std::filesystem::rename(fixture.data, fixture.elsewhere);
        opener.wait_for_event("start", 1, followed);
        CHECK(peer.open(fixture.data + "/file").status == ENOENT);
        const auto answer = peer.call(look);
        CHECK(answer.status == ETIMEDOUT);
        opener.process().signal(SIGHUP);
        opener.wait_for_event("start", 1, "reload");
        // The new generation notices as well.
        std::filesystem::rename(fixture.elsewhere, fixture.data);
        opener.wait_for_event("start", 2, followed);
        CHECK(peer.open(fixture.data + "/file").content() == "first");
        filesystem.answer_again();
        opener.wait_for_event("start", 3, followed);
        CHECK(peer.call(look).status == 0);
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("silence: an opener starts where one does not answer, and says so") {
    FDBROKER_SKIP_UNLESS(has_fuse(), "needs root, a mount namespace and /dev/fuse");
    run_in_mount_namespace([] {
        const SilentFixture fixture;
        HangingFilesystem filesystem(fixture.mount);
        filesystem.stop_answering();
        const std::string told = fixture.silent + ": its filesystem does not answer";
        RunningOpener opener(fixture.directory, fixture.policy());
        TestPeer peer(opener.socket());
        CHECK(peer.open(fixture.data + "/file").content() == "first");
        CHECK(peer.open(fixture.silent + "/fine").reason ==
              "the rule's directory did not answer when the policy was loaded");
        const std::string control = fixture.directory / "control.sock";
        const Outcome status = run({.arguments = {openerctl_program(), "--control", control, "status"}});
        CHECK(status.out.find(told) != std::string::npos);
        const Outcome check = run({.arguments = RunningOpener::arguments(fixture.directory, {"--check"})});
        CHECK(check.status == 0);
        CHECK(check.out.find("dormant: " + told) != std::string::npos);
        filesystem.answer_again();
        opener.wait_for_event("start", 1, followed);
        CHECK(peer.open(fixture.silent + "/fine").content() == "fine");
        CHECK(opener.stop() == 0);
    });
}
