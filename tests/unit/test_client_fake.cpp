// SPDX-License-Identifier: MIT
// The broker inside the process, with which programs test themselves; and with it every call of the library from end to
// end.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/unit/test_client_fake_fixture.hpp"

namespace fdbroker::test {
namespace {

using proto::UniqueFd;
using namespace std::string_literals;

std::vector<std::string> names_in(const Fake& fake, const char* path) {
    std::vector<std::string> names;
    const auto note = [](void* to, const fdbroker_entry* entry) {
        static_cast<std::vector<std::string>*>(to)->push_back(entry->name);
        return 0;
    };
    CHECK(fdbroker_list(fake.broker(), path, note, &names) == 0);
    std::ranges::sort(names);
    return names;
}

}  // namespace

TEST_CASE("fake: files are opened, made, listed, renamed and removed") {
    const auto before = DescriptorTable::now();
    {
        const Fake fake;
        fake.file("/srv/www/index.html", "hello");
        CHECK(fake.read("/srv/www/index.html") == "hello");
        CHECK(fdbroker_open(fake.broker(), "/srv/www/absent", O_RDONLY, 0) == -ENOENT);
        CHECK(fdbroker_reason(fake.broker()) == "resolve: No such file or directory"s);
        const UniqueFd made(fdbroker_open(fake.broker(), "/srv/new", O_WRONLY | O_CREAT | O_EXCL, 0640));
        REQUIRE(made);
        CHECK(::write(made.number(), "new", 3) == 3);
        CHECK(fake.read("/srv/new") == "new");
        CHECK(fdbroker_mkdir(fake.broker(), "/srv/d", 0755) == 0);
        CHECK(fdbroker_rename(fake.broker(), "/srv/new", "/srv/d/old", 0) == 0);
        CHECK(names_in(fake, "/srv") == std::vector{"d"s, "www"s});
        CHECK(fdbroker_remove(fake.broker(), "/srv/d", AT_REMOVEDIR) == -ENOTEMPTY);
        CHECK(fdbroker_remove(fake.broker(), "/srv/d/old", 0) == 0);
        CHECK(fdbroker_remove(fake.broker(), "/srv/d", AT_REMOVEDIR) == 0);
        CHECK(names_in(fake, "/srv") == std::vector{"www"s});
        CHECK(fdbroker_open(fake.broker(), "/srv/../../etc/passwd", O_RDONLY, 0) == -ENOENT);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("fake: attributes are told and set, links made, read and not followed") {
    const Fake fake;
    fake.file("/a", "12345");
    struct statx status{};
    REQUIRE(fdbroker_stat(fake.broker(), "/a", 0, &status) == 0);
    CHECK(status.stx_size == 5);
    CHECK(S_ISREG(status.stx_mode));
    fdbroker_attributes attributes{};
    attributes.size = sizeof attributes;
    attributes.set = FDBROKER_SET_MODE | FDBROKER_SET_TIMES;
    attributes.mode = 0600;
    attributes.access = {.tv_sec = 1000, .tv_nsec = 0};
    attributes.modification = {.tv_sec = 2000, .tv_nsec = 5};
    REQUIRE(fdbroker_setattr(fake.broker(), "/a", &attributes) == 0);
    REQUIRE(fdbroker_stat(fake.broker(), "/a", 0, &status) == 0);
    CHECK((status.stx_mode & 07777) == 0600);
    CHECK(status.stx_mtime.tv_sec == 2000);
    CHECK(status.stx_mtime.tv_nsec == 5);
    REQUIRE(fdbroker_symlink(fake.broker(), "a", "/l") == 0);
    char target[10];
    CHECK(fdbroker_readlink(fake.broker(), "/l", target, sizeof target) == 1);
    CHECK(target == "a"s);
    CHECK(fdbroker_open(fake.broker(), "/l", O_RDONLY, 0) == -ELOOP);
    attributes.modification.tv_sec = 3000;
    attributes.set = FDBROKER_SET_TIMES;
    CHECK(fdbroker_setattr(fake.broker(), "/l", &attributes) == -ELOOP);
    attributes.set |= FDBROKER_SET_LINK;
    CHECK(fdbroker_setattr(fake.broker(), "/l", &attributes) == 0);
    REQUIRE(fdbroker_stat(fake.broker(), "/l", AT_SYMLINK_NOFOLLOW, &status) == 0);
    CHECK(status.stx_mtime.tv_sec == 3000);
    REQUIRE(fdbroker_stat(fake.broker(), "/a", 0, &status) == 0);
    CHECK(status.stx_mtime.tv_sec == 2000);
    attributes.set |= FDBROKER_SET_MODE;
    CHECK(fdbroker_setattr(fake.broker(), "/l", &attributes) == -EOPNOTSUPP);
    char value[10] = "";
    if (fdbroker_setxattr(fake.broker(), "/a", "user.k", "v", 1, 0) == 0) {
        CHECK(fdbroker_getxattr(fake.broker(), "/a", "user.k", value, sizeof value) == 1);
        CHECK(value == "v"s);
        CHECK(fdbroker_listxattr(fake.broker(), "/a", value, sizeof value) == 7);
        CHECK(fdbroker_removexattr(fake.broker(), "/a", "user.k") == 0);
        CHECK(fdbroker_listxattr(fake.broker(), "/a", value, sizeof value) == 0);
    }
}

TEST_CASE("fake: a put appears whole when it is committed, and never when it is discarded") {
    const auto before = DescriptorTable::now();
    {
        const Fake fake;
        fake.file("/a", "old");
        for (const bool commits : {false, true}) {
            std::uint64_t put = 0;
            {
                const UniqueFd file(fdbroker_put(fake.broker(), "/a", 0600, &put));
                REQUIRE(file);
                CHECK(::write(file.number(), "new", 3) == 3);
                CHECK(fdbroker_commit(fake.broker(), "/a", put, 0) == -EBUSY);
            }
            CHECK(fake.read("/a") == "old");
            CHECK((commits ? fdbroker_commit(fake.broker(), "/a", put, 0)
                           : fdbroker_discard(fake.broker(), "/a", put)) == 0);
            CHECK(fake.read("/a") == (commits ? "new" : "old"));
            CHECK(fdbroker_commit(fake.broker(), "/a", put, 0) == -ESTALE);
        }
        CHECK(names_in(fake, "/") == std::vector{"a"s});
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE(
    "fake: a watch tells what has changed through the fake, and what changes beside it with the next call") {
    const auto before = DescriptorTable::now();
    {
        Fake fake;
        fake.file("/d/a", "old");
        UniqueFd watch(
            fdbroker_watch(fake.broker(), "/d/a", FDBROKER_WATCH_CONTENT | FDBROKER_WATCH_REPLACED));
        REQUIRE(watch);
        const auto told = [&] {
            pollfd waited{.fd = watch.number(), .events = POLLIN, .revents = 0};
            unsigned char changes = 0;
            if (::poll(&waited, 1, 0) == 0) return -1;
            return ::read(watch.number(), &changes, 1) == 1 ? int{changes} : 0;
        };
        CHECK(told() == -1);
        fake.file("/d/a", "another");
        fake.file("/d/b", "");
        CHECK(told() == FDBROKER_WATCH_CONTENT);
        CHECK(told() == -1);
        REQUIRE(fdbroker_remove(fake.broker(), "/d/a", 0) == 0);
        fake.file("/d/a", "new");
        // The second change waits until the first is read.
        CHECK(told() == (FDBROKER_WATCH_CONTENT | FDBROKER_WATCH_REPLACED));
        CHECK(told() == -1);
        {
            const UniqueFd file(fdbroker_open(fake.broker(), "/d/a", O_WRONLY | O_APPEND, 0));
            CHECK(::write(file.number(), "x", 1) == 1);
        }
        CHECK(fake.read("/d/b") == "");
        CHECK(told() == (FDBROKER_WATCH_CONTENT | FDBROKER_WATCH_REPLACED));
        CHECK(fdbroker_watch(fake.broker(), "/d/none", 8) == -EINVAL);
        CHECK(fdbroker_watch(fake.broker(), "/d/none", 0) == -EINVAL);
        CHECK(fdbroker_watch(fake.broker(), "/none/a", FDBROKER_WATCH_CONTENT) == -ENOENT);
        CHECK(fdbroker_watch(fake.broker(), "/d/a/", FDBROKER_WATCH_CONTENT) == -ENOTDIR);
        CHECK(fdbroker_watch(nullptr, "/d/a", FDBROKER_WATCH_CONTENT) == -EFAULT);
        // The write came after the look at the request to open.
        CHECK(told() == FDBROKER_WATCH_CONTENT);
        fake.client.reset();
        CHECK(told() == 0);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("fake: failures are had for the asking, as often as asked") {
    const Fake fake;
    fake.file("/a", "x");
    fake.file("/b", "x");
    REQUIRE(fdbroker_fake_fail(fake.fake, "/a", EACCES, "no rule allows read", 2) == 0);
    for (int time = 0; time < 2; ++time) {
        CHECK(fdbroker_open(fake.broker(), "/a", O_RDONLY, 0) == -EACCES);
        CHECK(fdbroker_reason(fake.broker()) == "decide: no rule allows read"s);
        CHECK(fake.read("/b") == "x");
    }
    CHECK(fake.read("/a") == "x");
    REQUIRE(fdbroker_fake_fail(fake.fake, nullptr, EIO, nullptr, 0) == 0);
    CHECK(fdbroker_open(fake.broker(), "/a", O_RDONLY, 0) == -EIO);
    CHECK(fdbroker_open(fake.broker(), "/b", O_RDONLY, 0) == -EIO);
    REQUIRE(fdbroker_fake_fail(fake.fake, nullptr, 0, nullptr, 0) == 0);
    CHECK(fake.read("/b") == "x");
    CHECK(fdbroker_fake_fail(fake.fake, "/a", 4096, nullptr, 0) == -EINVAL);
}

TEST_CASE("fake: a directory of the test's own may be its root") {
    const TempDir directory;
    write_file(directory / "given", "content");
    {
        const Fake fake(directory.path().c_str());
        CHECK(fake.read("/given") == "content");
    }
    CHECK(std::filesystem::exists(directory / "given"));
    fdbroker_fake* fake = nullptr;
    CHECK(fdbroker_fake_new(&fake, (directory / "absent").c_str()) == -ENOENT);
    CHECK(fake == nullptr);
}

TEST_CASE("fake: a large directory is listed page by page") {
    const Fake fake;
    for (int index = 0; index < 500; ++index)
        fake.file(("/d/" + std::string(200, 'n') + std::to_string(index)).c_str(), "");
    CHECK(names_in(fake, "/d").size() == 500);
}

TEST_CASE("fake: many at once, all or nothing, and without waiting") {
    const auto before = DescriptorTable::now();
    {
        const Fake fake;
        fake.file("/a", "a");
        std::vector<fdbroker_request> requests(300, request_for("/a"));
        std::vector<int> fds(300);
        REQUIRE(fdbroker_open_many(fake.broker(), requests.data(), 300, fds.data()) == 0);
        for (const int fd : fds) {
            const UniqueFd file(fd);
            CHECK(content_of(fd) == "a");
        }
        requests[1] = request_for("/absent");
        REQUIRE(fdbroker_open_many_flags(fake.broker(), requests.data(), 3, fds.data(),
                                         FDBROKER_ALL_OR_NOTHING) == 0);
        CHECK(fds[0] == -ECANCELED);
        CHECK(fds[1] == -ENOENT);
        CHECK(fds[2] == -ECANCELED);
        requests[1] = request_for("/new");
        requests[1].flags = O_WRONLY | O_CREAT;
        REQUIRE(fdbroker_open_many_flags(fake.broker(), requests.data(), 2, fds.data(),
                                         FDBROKER_ALL_OR_NOTHING) == 0);
        CHECK(fds[0] == -EINVAL);
        CHECK(fds[1] == -EINVAL);
        CHECK(names_in(fake, "/") == std::vector{"a"s});
        requests.assign(1000, request_for("/a"));
        for (const fdbroker_request& request : requests)
            REQUIRE(fdbroker_submit(fake.broker(), &request, 1) == 1);
        std::size_t seen = 0;
        while (seen < requests.size()) {
            pollfd waited{.fd = fdbroker_descriptor(fake.broker()), .events = POLLIN, .revents = 0};
            REQUIRE(::poll(&waited, 1, 60000) == 1);
            std::vector<fdbroker_completion> done(50);
            done[0].size = sizeof done[0];
            const int count = fdbroker_complete(fake.broker(), done.data(), done.size(), 0);
            REQUIRE(count >= 0);
            for (int index = 0; index < count; ++index) {
                const UniqueFd file(done[static_cast<std::size_t>(index)].result);
                CHECK(content_of(file.number()) == "a");
                ++seen;
            }
        }
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

}  // namespace fdbroker::test
