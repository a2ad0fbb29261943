// SPDX-License-Identifier: MIT
// Paths as open(2) reads them, and the calls that POSIX has beside it. The kernel itself says what is right: the same calls
// on the fake's directory.
#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <map>
#include <string>
#include <vector>

#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/verdict.hpp"
#include "tests/unit/test_client_fake_fixture.hpp"
#include "worker/client/paths.hpp"
#include "worker/sandbox/filter_builder.hpp"

namespace fdbroker::test {
namespace {

using proto::UniqueFd;
using worker::canonical_path;
using namespace std::string_literals;

int error_of(long result) {
    return result < 0 ? -static_cast<int>(result) : 0;
}

// The errno of a system call.
int kernel_error(long result) {
    return result < 0 ? errno : 0;
}

// Closes what was opened.
int error_of_open(int descriptor) {
    const UniqueFd closed(descriptor);
    return error_of(descriptor);
}

std::string normalized(const char* base, const char* path) {
    char out[PATH_MAX];
    const ssize_t size = fdbroker_normalize(base, path, out, sizeof out);
    if (size < 0) return std::to_string(size);
    CHECK(static_cast<std::size_t>(size) == std::string(out).size());
    return out;
}

// Endings and insertions that leave a path what it is, or make it a directory's.
const std::vector<std::string> ways_to_write{
    "/d/f",    "//d///f",  "/d/./f", "/./d/f",  "/d/e/../f",  "/../d/f", "/d/f/",   "/d/f/.", "/d/f//",
    "/d",      "/d/",      "/d/.",   "/d//",    "/d/e/..",    "/",       "//",      "/.",     "/..",
    "/absent", "/absent/", "/d/f/x", "/d/f/x/", "/d/.hidden", "/d/...",  "/d/f/..f"};

}  // namespace

TEST_CASE("client paths: different spellings are the same path") {
    const std::vector<std::array<const char*, 3>> cases{{"/", "a", "/a"},
                                                        {"/b", "a", "/b/a"},
                                                        {"/b", "/a", "/a"},
                                                        {"/b", ".", "/b"},
                                                        {"/b", "..", "/"},
                                                        {"/b", "../..", "/"},
                                                        {"/b/c", "../a//.", "/b/a"},
                                                        {"/b/", "a/", "/b/a"},
                                                        {"/b//c/..", "./a", "/b/a"},
                                                        {nullptr, "/a/../..", "/"},
                                                        {nullptr, "//", "/"},
                                                        {"/", "", "-2"},
                                                        {nullptr, "a", "-2"},
                                                        {"b", "a", "-2"},
                                                        {"", "a", "-2"},
                                                        {"/b", "...", "/b/..."}};
    for (const auto& [base, path, expected] : cases) {
        CAPTURE(path);
        CHECK(normalized(base, path) == expected);
    }
    char out[5];
    CHECK(fdbroker_normalize(nullptr, "/abcd", out, sizeof out) == -ERANGE);
    CHECK(fdbroker_normalize(nullptr, "/abc/", out, sizeof out) == 4);
    CHECK(fdbroker_normalize(nullptr, nullptr, out, sizeof out) == -EFAULT);
}

TEST_CASE("client paths: a path that is canonical stays as it is") {
    for (const char* path : {"/", "/a", "/a/b", "/.a", "/a./b..", "/..."}) {
        CAPTURE(path);
        CHECK(worker::read_path(path).is_canonical);
        CHECK(canonical_path("/x", path) == path);
    }
    for (const char* path : {"", "a", "//", "/a/", "/a//b", "/./a", "/a/.", "/a/..", "/..", "./a"})
        CHECK_FALSE(worker::read_path(path).is_canonical);
}

TEST_CASE("client paths: open and stat say of every way to write a path what the kernel says") {
    const Seen seen;
    for (const std::string& path : ways_to_write) {
        CAPTURE(path);
        // The kernel looks below the directory, and there is nothing above the fake's root.
        const std::string real = seen.real(path == "/.." ? "/" : path == "/../d/f" ? "/d/f" : path);
        struct stat expected{};
        struct stat told{};
        const int error = kernel_error(::stat(real.c_str(), &expected));
        CHECK(error_of(fdbroker_stat_posix(seen.broker(), path.c_str(), 0, &told)) == error);
        CHECK(told.st_ino == expected.st_ino);
        CHECK(told.st_mode == expected.st_mode);
        const int opened = ::open(real.c_str(), O_RDONLY | O_CLOEXEC);
        CHECK(error_of_open(fdbroker_open(seen.broker(), path.c_str(), O_RDONLY, 0)) == kernel_error(opened));
        if (opened >= 0) ::close(opened);
    }
}

TEST_CASE("client paths: endings name the same kinds of files as with the kernel") {
    const Seen seen;
    fdbroker_handle* broker = seen.broker();
    const auto both = [&](const char* path, auto ours, auto kernels) {
        CAPTURE(path);
        CHECK(error_of(ours(path)) == kernel_error(kernels(seen.real(path).c_str())));
    };
    const auto remove = [&](const char* path) { return fdbroker_remove(broker, path, 0); };
    const auto unlink = [](const char* path) { return ::unlink(path); };
    both("/d/f/", remove, unlink);
    const auto make = [&](const char* path) { return fdbroker_mkdir(broker, path, 0755); };
    both("/d/f/", make, [](const char* path) { return ::mkdir(path, 0755); });
    CHECK(make("/d/new/") == 0);
    const auto create = [&](const char* path) {
        return fdbroker_open(broker, path, O_CREAT | O_WRONLY, 0600);
    };
    both("/d/made/", create,
         [](const char* path) { return ::open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600); });
    const auto link = [&](const char* path) { return fdbroker_symlink(broker, "f", path); };
    both("/d/link/", link, [](const char* path) { return ::symlink("f", path); });
    both(
        "/d/link", [&](const char* path) { return fdbroker_symlink(broker, "", path); },
        [](const char* path) { return ::symlink("", path); });
    char target[10];
    both(
        "/d/e/", [&](const char* path) { return fdbroker_readlink(broker, path, target, sizeof target); },
        [&](const char* path) { return ::readlink(path, target, sizeof target); });
    const auto move = [&](const char* path) { return fdbroker_rename(broker, path, "/d/moved", 0); };
    both("/d/f/", move, [&](const char* path) { return ::rename(path, seen.real("/d/moved").c_str()); });
    both(
        "/d/f", [&](const char* path) { return fdbroker_rename(broker, path, "/d/moved/", 0); },
        [&](const char* path) { return ::rename(path, seen.real("/d/moved/").c_str()); });
    CHECK(fdbroker_rename(broker, "/d/new/", "/d/newer/", 0) == 0);
    CHECK(fdbroker_remove(broker, "/d/newer/", AT_REMOVEDIR) == 0);
    fdbroker_attributes attributes{};
    attributes.size = sizeof attributes;
    attributes.set = FDBROKER_SET_MODE;
    attributes.mode = 0640;
    both(
        "/d/f/", [&](const char* path) { return fdbroker_setattr(broker, path, &attributes); },
        [](const char* path) { return ::chmod(path, 0640); });
    CHECK(fdbroker_setattr(broker, "/d/./f", &attributes) == 0);
    std::uint64_t put = 0;
    CHECK(fdbroker_put(broker, "/d/f/", 0600, &put) == -EISDIR);
}

TEST_CASE("client paths: empty paths, long names and long paths fail as with the kernel") {
    const Seen seen;
    const std::string long_name(256, 'n');
    std::string long_path;
    while (long_path.size() < 4096) long_path += "/abcdefg";
    const std::vector<std::string> paths{
        "",        "/d/" + long_name,        "/" + long_name + "/x", "/d/" + long_name.substr(1),
        long_path, long_path.substr(0, 4095)};
    for (const std::string& path : paths) {
        CAPTURE(path.size());
        struct stat status{};
        // Below the directory, unless its own name would make the path too long.
        const std::string real = path.empty() || path.size() > 300 ? path : seen.real(path);
        const int error = kernel_error(::stat(real.c_str(), &status));
        CHECK(error_of(fdbroker_stat_posix(seen.broker(), path.c_str(), 0, &status)) == error);
        CHECK(error_of_open(fdbroker_open(seen.broker(), path.c_str(), O_RDONLY, 0)) == error);
        CHECK(fdbroker_mkdir(seen.broker(), path.c_str(), 0700) == (path.size() == 258 ? 0 : -error));
    }
    CHECK(fdbroker_rename(seen.broker(), "/d/f", "", 0) == -ENOENT);
    CHECK(fdbroker_rename(seen.broker(), "/d/f", ("/" + long_name).c_str(), 0) == -ENAMETOOLONG);
    CHECK(fdbroker_reason(seen.broker()) == "client: the path or a name in it is too long"s);
}

TEST_CASE("client paths: relative ones begin in the directory that was set, and in none at first") {
    const Seen seen;
    fdbroker_handle* broker = seen.broker();
    CHECK(fdbroker_open(broker, "f", O_RDONLY, 0) == -ENOENT);
    CHECK(fdbroker_reason(broker) == "client: the path is relative, and the connection has no directory"s);
    REQUIRE(fdbroker_set_directory(broker, "/d//e/") == 0);
    CHECK(error_of_open(fdbroker_open(broker, "g", O_RDONLY, 0)) == 0);
    CHECK(error_of_open(fdbroker_open(broker, "../f", O_RDONLY, 0)) == 0);
    CHECK(error_of_open(fdbroker_open(broker, "/d/f", O_RDONLY, 0)) == 0);
    REQUIRE(fdbroker_set_directory(broker, "..") == 0);
    CHECK(seen.fake.read("./f") == "content");
    CHECK(fdbroker_rename(broker, "f", "e/moved", 0) == 0);
    CHECK(seen.fake.read("/d/e/moved") == "content");
    std::array<fdbroker_request, 2> requests{};
    for (auto& request : requests) request.size = sizeof request;
    requests[0].path = "e/moved";
    requests[1].path = ".//e/g";
    std::array<int, 2> fds{};
    REQUIRE(fdbroker_open_many(broker, requests.data(), requests.size(), fds.data()) == 0);
    for (const int fd : fds) CHECK(error_of_open(fd) == 0);
    CHECK(fdbroker_set_directory(broker, "") == -ENOENT);
    REQUIRE(fdbroker_set_directory(broker, nullptr) == 0);
    CHECK(fdbroker_open(broker, "e/moved", O_RDONLY, 0) == -ENOENT);
}

TEST_CASE("client paths: submitted requests read paths as the others do") {
    const Seen seen;
    fdbroker_handle* broker = seen.broker();
    REQUIRE(fdbroker_set_directory(broker, "/d") == 0);
    const auto request = [](unsigned call, const char* path, std::uint64_t tag,
                            const char* second = nullptr) {
        fdbroker_request made{};
        made.size = sizeof made;
        made.call = call;
        made.path = path;
        made.tag = tag;
        made.second = second;
        return made;
    };
    const std::array requests{
        request(FDBROKER_CALL_STAT, "e/", 1),   request(FDBROKER_CALL_STAT, "f/", 2),
        request(FDBROKER_CALL_STAT, "", 3),     request(FDBROKER_CALL_OPEN, "e/./g", 4),
        request(FDBROKER_CALL_REMOVE, "f/", 5), request(FDBROKER_CALL_RENAME, "e//g", 6, "./h")};
    REQUIRE(fdbroker_submit(broker, requests.data(), requests.size()) == static_cast<int>(requests.size()));
    std::map<std::uint64_t, int> results;
    while (results.size() < requests.size()) {
        std::array<fdbroker_completion, 8> done{};
        done.front().size = sizeof done.front();
        const int count = fdbroker_complete(broker, done.data(), done.size(), 60'000);
        REQUIRE(count > 0);
        for (const auto& one : std::span(done).first(static_cast<std::size_t>(count)))
            results[one.tag] =
                error_of_open(one.call == FDBROKER_CALL_OPEN || one.result < 0 ? one.result : -0);
    }
    CHECK(results[1] == 0);
    CHECK(results[2] == ENOTDIR);
    CHECK(results[3] == ENOENT);
    CHECK(results[4] == 0);
    CHECK(results[5] == ENOTDIR);
    CHECK(results[6] == 0);
    CHECK(seen.fake.read("/d/h").empty());
}

TEST_CASE("client posix: stat tells all that stat(2) does") {
    const Seen seen;
    struct stat ours{};
    struct stat theirs{};
    for (const char* path : {"/d/f", "/d"}) {
        REQUIRE(fdbroker_stat_posix(seen.broker(), path, 0, &ours) == 0);
        REQUIRE(::stat(seen.real(path).c_str(), &theirs) == 0);
        CHECK(ours.st_dev == theirs.st_dev);
        CHECK(ours.st_ino == theirs.st_ino);
        CHECK(ours.st_mode == theirs.st_mode);
        CHECK(ours.st_nlink == theirs.st_nlink);
        CHECK(ours.st_uid == theirs.st_uid);
        CHECK(ours.st_size == theirs.st_size);
        CHECK(ours.st_blocks == theirs.st_blocks);
        CHECK(ours.st_blksize == theirs.st_blksize);
        CHECK(ours.st_mtim.tv_sec == theirs.st_mtim.tv_sec);
        CHECK(ours.st_mtim.tv_nsec == theirs.st_mtim.tv_nsec);
        CHECK(ours.st_ctim.tv_nsec == theirs.st_ctim.tv_nsec);
    }
    REQUIRE(fdbroker_stat_posix(seen.broker(), "/d/l", AT_SYMLINK_NOFOLLOW, &ours) == 0);
    CHECK(S_ISLNK(ours.st_mode));
    CHECK(fdbroker_stat_posix(seen.broker(), "/d/f", 0, nullptr) == -EFAULT);
}

TEST_CASE("client posix: access says what open would, and changes nothing") {
    const Seen seen;
    fdbroker_handle* broker = seen.broker();
    CHECK(fdbroker_access(broker, "/d/f", F_OK) == 0);
    CHECK(fdbroker_access(broker, "/d/f", R_OK | W_OK) == 0);
    CHECK(seen.fake.read("/d/f") == "content");
    CHECK(fdbroker_access(broker, "/d/f", X_OK) == -EACCES);
    REQUIRE(::chmod(seen.real("/d/f").c_str(), 0755) == 0);
    CHECK(fdbroker_access(broker, "/d/f", R_OK | X_OK) == 0);
    CHECK(fdbroker_access(broker, "/d/absent", F_OK) == -ENOENT);
    CHECK(fdbroker_access(broker, "/d/absent", W_OK) == -ENOENT);
    CHECK(fdbroker_access(broker, "/d", R_OK | X_OK) == 0);
    CHECK(fdbroker_access(broker, "/d/f/", F_OK) == -ENOTDIR);
    CHECK(fdbroker_access(broker, "/d/f", 8) == -EINVAL);
    REQUIRE(fdbroker_fake_fail(seen.fake.fake, "/d/f", EACCES, "no rule", 0) == 0);
    CHECK(fdbroker_access(broker, "/d/f", F_OK) == -EACCES);
    CHECK(fdbroker_access(broker, "/d/f", R_OK) == -EACCES);
    CHECK(fdbroker_reason(broker) == "decide: no rule"s);
}

TEST_CASE("client posix: a real path has no links, and is that of something that is there") {
    const Seen seen;
    fdbroker_handle* broker = seen.broker();
    const auto real = [&](const char* path) {
        char out[PATH_MAX];
        const ssize_t size = fdbroker_realpath(broker, path, out, sizeof out);
        return size < 0 ? std::to_string(size) : std::string(out, static_cast<std::size_t>(size));
    };
    REQUIRE(::symlink("../../d/./k", seen.real("/d/e/up").c_str()) == 0);
    REQUIRE(::symlink("loop", seen.real("/d/loop").c_str()) == 0);
    CHECK(real("/d/f") == "/d/f");
    CHECK(real("//d/./e/../f") == "/d/f");
    CHECK(real("/d/l") == "/d/f");
    CHECK(real("/d/k/g") == "/d/e/g");
    CHECK(real("/d/k/") == "/d/e");
    CHECK(real("/d/e/up/up/g") == "/d/e/g");
    CHECK(real("/") == "/");
    CHECK(real("/d/loop") == std::to_string(-ELOOP));
    CHECK(real("/d/absent") == std::to_string(-ENOENT));
    CHECK(real("/d/f/") == std::to_string(-ENOTDIR));
    CHECK(real("/d/l/") != "/d/f");
    CHECK(real("f") == std::to_string(-ENOENT));
    REQUIRE(fdbroker_set_directory(broker, "/d") == 0);
    CHECK(real("k/g") == "/d/e/g");
    char small[4];
    CHECK(fdbroker_realpath(broker, "/d/f", small, sizeof small) == -ERANGE);
    // A directory on the way that the policy does not tell of is one.
    REQUIRE(fdbroker_fake_fail(seen.fake.fake, "/d", EACCES, "no rule", 0) == 0);
    CHECK(real("/d/l") == "/d/f");
    CHECK(fdbroker_reason(broker) == ""s);
}

TEST_CASE("client posix: directories are read entry by entry, with their status on request") {
    const auto before = DescriptorTable::now();
    {
        const Seen seen;
        fdbroker_handle* broker = seen.broker();
        for (int index = 0; index < 2000; ++index)
            seen.fake.file(("/many/" + std::to_string(index)).c_str(), "x");
        for (const unsigned flags : {0u, FDBROKER_DIR_STATUS}) {
            fdbroker_dir* directory = nullptr;
            REQUIRE(fdbroker_opendir(broker, "/many/", flags, &directory) == 0);
            std::vector<std::string> names;
            const fdbroker_entry* entry = nullptr;
            int got = 0;
            while ((got = fdbroker_readdir(directory, &entry)) > 0) {
                names.emplace_back(entry->name);
                CHECK((entry->status != nullptr) == (flags != 0));
                CHECK(entry->status_error == 0);
                if (flags == 0) continue;
                CHECK(entry->status->stx_size == 1);
                CHECK(entry->status->stx_ino == entry->inode);
                struct stat status{};
                fdbroker_status_posix(entry->status, &status);
                CHECK(S_ISREG(status.st_mode));
            }
            CHECK(got == 0);
            CHECK(entry == nullptr);
            CHECK(fdbroker_readdir(directory, &entry) == 0);
            std::ranges::sort(names);
            CHECK(names.size() == 2000);
            CHECK(std::ranges::adjacent_find(names) == names.end());
            CHECK(fdbroker_closedir(directory) == 0);
        }
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("client posix: an entry's status is the link's own, and one that is refused says why") {
    const Seen seen;
    REQUIRE(fdbroker_fake_fail(seen.fake.fake, "/d/f", EACCES, "no rule", 0) == 0);
    fdbroker_dir* directory = nullptr;
    REQUIRE(fdbroker_opendir(seen.broker(), "/d", FDBROKER_DIR_STATUS, &directory) == 0);
    std::map<std::string, int> errors;
    const fdbroker_entry* entry = nullptr;
    while (fdbroker_readdir(directory, &entry) > 0) {
        errors[entry->name] = entry->status_error;
        if (entry->name == "l"s) CHECK(S_ISLNK(entry->status->stx_mode));
        if (entry->name == "f"s) CHECK(entry->status == nullptr);
    }
    CHECK(errors == std::map<std::string, int>{{"e", 0}, {"f", EACCES}, {"k", 0}, {"l", 0}});
    CHECK(fdbroker_closedir(directory) == 0);
    CHECK(fdbroker_opendir(seen.broker(), "/d/absent", 0, &directory) == -ENOENT);
    CHECK(directory == nullptr);
    CHECK(fdbroker_opendir(seen.broker(), "/d/e/g", 0, &directory) == -ENOTDIR);
    CHECK(fdbroker_opendir(seen.broker(), "/d", 2, &directory) == -EINVAL);
    CHECK(fdbroker_opendir(seen.broker(), nullptr, 0, &directory) == -EFAULT);
    CHECK(fdbroker_closedir(nullptr) == -EFAULT);
}

TEST_CASE("fake: without openat2, as under valgrind, paths lead to the same") {
    // Under valgrind itself all other cases show it.
    FDBROKER_SKIP_UNLESS(::syscall(SYS_openat2, AT_FDCWD, ".", nullptr, 0) != 0 && errno != ENOSYS,
                         "openat2 is missing already");
    const Seen seen;
    const auto told = [](fdbroker_handle* broker) {
        std::vector<int> errors;
        for (const char* path :
             {"/", "/d", "/d/f", "/d/e/g", "/d/l", "/d/k/g", "/d/f/x", "/absent", "/absent/x"})
            for (const int flags : {O_RDONLY, O_WRONLY, O_RDONLY | O_DIRECTORY}) {
                errors.push_back(error_of_open(fdbroker_open(broker, path, flags, 0)));
                struct stat status{};
                errors.push_back(error_of(fdbroker_stat_posix(broker, path, AT_SYMLINK_NOFOLLOW, &status)));
                errors.push_back(static_cast<int>(status.st_ino % 1000));
            }
        errors.push_back(error_of_open(fdbroker_open(broker, "/d/new", O_CREAT | O_WRONLY, 0600)));
        errors.push_back(error_of(fdbroker_remove(broker, "/d/new", 0)));
        return errors;
    };
    const std::vector<int> expected = told(seen.broker());
    run_in_child([&] {
        worker::FilterBuilder filter(SCMP_ACT_ALLOW, SCMP_ACT_ALLOW);
        filter.refuse("openat2", ENOSYS);
        REQUIRE(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        REQUIRE(filter.load());
        // A fake of this process, since a connection does not pass over fork.
        fdbroker_handle* broker = nullptr;
        REQUIRE(fdbroker_fake_connect(seen.fake.fake, &broker) == 0);
        const Client here(broker);
        CHECK(told(broker) == expected);
    });
}

TEST_CASE("client posix: streams are those of fopen") {
    const auto before = DescriptorTable::now();
    {
        const Seen seen;
        fdbroker_handle* broker = seen.broker();
        const auto written = [&](const char* mode, const char* text) {
            FILE* stream = fdbroker_fopen(broker, "/d/f", mode);
            REQUIRE(stream != nullptr);
            CHECK(std::fputs(text, stream) >= 0);
            CHECK(std::fclose(stream) == 0);
            return seen.fake.read("/d/f");
        };
        CHECK(written("r+", "C") == "Content");
        CHECK(written("a", "!") == "Content!");
        CHECK(written("w", "new") == "new");
        CHECK(written("w+be", "b") == "b");
        FILE* stream = fdbroker_fopen(broker, "/d/f", "re");
        REQUIRE(stream != nullptr);
        CHECK(std::fgetc(stream) == 'b');
        CHECK((::fcntl(::fileno(stream), F_GETFD) & FD_CLOEXEC) != 0);
        std::fclose(stream);
        errno = 0;
        CHECK(fdbroker_fopen(broker, "/d/f", "wx") == nullptr);
        CHECK(errno == EEXIST);
        CHECK(fdbroker_fopen(broker, "/d/absent", "r") == nullptr);
        CHECK(errno == ENOENT);
        CHECK(fdbroker_reason(broker) == "resolve: No such file or directory"s);
        for (const char* mode : {"", "q", "+r"}) {
            CHECK(fdbroker_fopen(broker, "/d/f", mode) == nullptr);
            CHECK(errno == EINVAL);
        }
        CHECK(fdbroker_fopen(nullptr, "/d/f", "r") == nullptr);
        CHECK(errno == EFAULT);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

}  // namespace fdbroker::test
