// SPDX-License-Identifier: MIT
// A put of the C++ client library, through a real opener.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "tests/integration/put_client.hpp"
#include "tests/integration/put_fixture.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using Ends = std::vector<int>;

namespace {

bool always(int) {
    return true;
}
bool never(int) {
    return false;
}

}  // namespace

TEST_CASE("put in C++: a commit replaces the file, and without one the file stays") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file"), other = fixture.at("put/other");
    RunningOpener opener(fixture.directory(), fixture.policy());
    run_as(some_user, [&] {
        const auto before = DescriptorTable::now();
        CHECK(put_client::put(opener.socket(), path, "given up", never) == Ends{});
        CHECK(put_client::put(opener.socket(), path, "new", always) == Ends{0});
        CHECK(put_client::put(opener.socket(), other, "made", always, RENAME_NOREPLACE) == Ends{0});
        bool tried = false;
        const auto once = [&](int) { return !std::exchange(tried, true); };
        CHECK(put_client::put(opener.socket(), other, "again", once, RENAME_NOREPLACE) == Ends{EEXIST});
        CHECK(put_client::put(opener.socket(), "/etc/passwd", "", always) == Ends{EACCES});
        CHECK(DescriptorTable::now().changes_since(before) == "");
    });
    CHECK(fixture.content("put/file") == "new");
    CHECK(fixture.content("put/other") == "made");
    CHECK(fixture.names("put") == 2);
    CHECK(opener.stop() == 0);
}

TEST_CASE("put in C++: a commit succeeds once nobody else can write to the file") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    run_as(some_user, [&] {
        proto::UniqueFd writer;
        const auto goes_on = [&](int descriptor) {
            writer = proto::UniqueFd(writer ? -1 : ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
            return true;
        };
        CHECK(put_client::put(opener.socket(), fixture.at("put/file"), "new", goes_on) == Ends{EBUSY, 0});
    });
    CHECK(fixture.content("put/file") == "new");
    CHECK(opener.stop() == 0);
}

TEST_CASE("put in C++: nothing is left when the program dies or another policy comes") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    CHECK_THROWS_WITH(run_in_child([&] {
                          put_client::put(opener.socket(), path, "new",
                                          [](int) { return ::raise(SIGKILL) == 0; });
                      }),
                      "the child was ended by signal 9");
    std::size_t asked = 0;
    const auto after_a_reload = [&](int) {
        if (asked++ > 0) return false;
        opener.process().signal(SIGHUP);
        opener.wait_for_event("start", 2);
        return true;
    };
    CHECK(put_client::put(opener.socket(), path, "new", after_a_reload) == Ends{ESTALE});
    CHECK(fixture.content("put/file") == "old");
    CHECK(fixture.names("put") == 1);
    CHECK(opener.stop() == 0);
}
