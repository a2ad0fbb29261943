// SPDX-License-Identifier: MIT
// The calls of fdbroker_posix.h: on a fake's directory each does by the broker what it does by the kernel.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"
#include "tests/unit/test_client_fake_fixture.hpp"
// The struct as c_api.hpp names it.
#define fdbroker fdbroker_handle
#include "worker/client/fdbroker_posix.h"
#undef fdbroker

namespace fdbroker::test {
namespace {

// NULL: the kernel is asked.
fdbroker_handle* asked_broker = nullptr;

// A result, errno, and what else is told.
using Told = std::tuple<long, int, std::string>;
using Use = std::function<long(const std::string& path, std::string& more)>;

Told tell(const Use& use, const std::string& path) {
    std::string more;
    errno = 0;
    const long result = use(path, more);
    return {std::min(result, 0L), result < 0 ? errno : 0, more};
}

// Two equal directories: one for the kernel, one for the broker.
struct Both {
    void check(const char* name, const Use& use, const std::vector<std::string>& paths) const {
        for (const std::string& path : paths) {
            CAPTURE(name);
            CAPTURE(path);
            asked_broker = nullptr;
            const Told expected = tell(use, path.empty() ? "" : kernels.real(path));
            asked_broker = brokers.broker();
            CHECK(tell(use, path) == expected);
            asked_broker = nullptr;
        }
    }
    // The other path of a call with two.
    std::string other(const std::string& path) const {
        return asked_broker == nullptr ? kernels.real(path) : path;
    }

    Seen kernels{};
    Seen brokers{};
};

const std::vector<std::string> kinds_of_paths{"/d/f", "/d/e", "/d/e/", "/d/f/", "/d/f/x", "/absent", ""};

long close_of(int file) {
    if (file >= 0) ::close(file);
    return file;
}

std::string kind_and_size(const struct stat& status) {
    return std::to_string(status.st_mode) + " " +
           std::to_string(S_ISREG(status.st_mode) ? status.st_size : 0);
}

long list(const std::string& path, std::string& more) {
    fdbroker_posix_DIR* directory = fdbroker_posix_opendir(path.c_str());
    if (directory == nullptr) return -1;
    std::vector<std::string> names;
    for (errno = 0; const dirent* entry = fdbroker_posix_readdir(directory);)
        names.push_back(entry->d_name + std::string(entry->d_type == DT_DIR ? "/" : ""));
    const int error = errno;
    std::ranges::sort(names);
    for (const std::string& name : names) more += name + " ";
    const int closed = fdbroker_posix_closedir(directory);
    return error != 0 ? -1 : closed;
}

int is_not_e(const dirent* entry) {
    return entry->d_name != std::string("e") ? 1 : 0;
}

long scan(const std::string& path, std::string& more) {
    dirent** entries = nullptr;
    const int count = fdbroker_posix_scandir(path.c_str(), &entries, is_not_e, ::alphasort);
    for (int index = 0; index < count; ++index) {
        more += entries[index]->d_name + std::string(" ");
        std::free(entries[index]);
    }
    if (count >= 0) std::free(entries);
    return count;
}

long read_stream(const std::string& path, std::string& more) {
    std::FILE* stream = fdbroker_posix_fopen(path.c_str(), "re");
    if (stream == nullptr) return -1;
    char text[20];
    // A directory opens, and cannot be read.
    if (std::fgets(text, sizeof text, stream) != nullptr) more = text;
    return std::fclose(stream);
}

}  // namespace

}  // namespace fdbroker::test

fdbroker_handle* fdbroker_posix_broker() {
    return fdbroker::test::asked_broker;
}

namespace fdbroker::test {

TEST_CASE("posix names: looking at files tells what the kernel tells") {
    const auto before = DescriptorTable::now();
    {
        const Both both;
        both.check(
            "open",
            [](auto& path, auto&) {
                return close_of(fdbroker_posix_open(path.c_str(), O_RDONLY | O_CLOEXEC));
            },
            kinds_of_paths);
        both.check("fopen", read_stream, kinds_of_paths);
        const auto look = [](auto& path, std::string& more) -> long {
            struct stat status{};
            const int result = fdbroker_posix_stat(path.c_str(), &status);
            more = kind_and_size(status);
            return result;
        };
        both.check("stat", look, kinds_of_paths);
        const auto look_at_link = [](auto& path, std::string& more) -> long {
            struct stat status{};
            const int result = fdbroker_posix_lstat(path.c_str(), &status);
            more = kind_and_size(status);
            return result;
        };
        both.check("lstat", look_at_link, {"/d/f", "/d/l", "/d/k", "/absent", ""});
        both.check(
            "access", [](auto& path, auto&) { return fdbroker_posix_access(path.c_str(), R_OK); },
            kinds_of_paths);
        both.check("opendir", list, {"/d", "/d/", "/d/e", "/d/f", "/absent", ""});
        both.check("scandir", scan, {"/d", "/d/", "/d/e", "/d/f", "/absent", ""});
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE(
    "posix names: targets of links are cut as readlink(2) cuts them, and real paths lie in a given buffer or "
    "a new one") {
    const Both both;
    for (const std::size_t size : {1U, 2U, 100U})
        both.check("readlink",
                   [size](auto& path, std::string& more) -> long {
                       std::string target(size, '\0');
                       const ssize_t length = fdbroker_posix_readlink(path.c_str(), target.data(), size);
                       if (length > 0) more = target.substr(0, static_cast<std::size_t>(length));
                       return length;
                   },
                   {"/d/l", "/d/k", "/d/f", "/absent", ""});
    both.check("realpath",
               [&](auto& path, std::string& more) -> long {
                   char buffer[PATH_MAX];
                   const char* given = fdbroker_posix_realpath(path.c_str(), buffer);
                   char* made = fdbroker_posix_realpath(path.c_str(), nullptr);
                   if (given == nullptr || made == nullptr) return -1;
                   if (given == std::string(made)) more = given;
                   std::free(made);
                   if (asked_broker == nullptr) more.erase(0, both.kernels.real("").size());
                   return 0;
               },
               {"/d/e/../f", "/d/l", "/d/e/g", "/absent", "/d/f/", ""});
}

TEST_CASE("posix names: calls that change files do what the kernel does") {
    const Both both;
    const auto check = [&](const char* name, const Use& use, const std::vector<std::string>& paths) {
        both.check(name, use, paths);
        both.check("the directory then", list, {"/d", "/d/e"});
    };
    check(
        "create",
        [](auto& path, auto&) {
            return close_of(fdbroker_posix_open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
        },
        {"/d/new", "/d/f", "/d/e", "/absent/x", ""});
    check("mkdir", [](auto& path, auto&) { return fdbroker_posix_mkdir(path.c_str(), 0755); },
          {"/d/made", "/d/made", "/d/f", "/absent/x", ""});
    check("symlink", [](auto& path, auto&) { return fdbroker_posix_symlink("f", path.c_str()); },
          {"/d/s", "/d/f", "/absent/x", ""});
    check("chmod", [](auto& path, auto&) { return fdbroker_posix_chmod(path.c_str(), 0604); },
          {"/d/f", "/d/made", "/absent", ""});
    check("rename",
          [&](auto& path, auto&) {
              return fdbroker_posix_rename(path.c_str(), both.other("/d/moved").c_str());
          },
          {"/d/new", "/absent", "/d/made", ""});
    check("unlink", [](auto& path, auto&) { return fdbroker_posix_unlink(path.c_str()); },
          {"/d/moved", "/d/e", "/absent", "/d/f/", ""});
    check("rmdir", [](auto& path, auto&) { return fdbroker_posix_rmdir(path.c_str()); },
          {"/d/made", "/d/e", "/d/f", "/absent", ""});
    check("remove", [](auto& path, auto&) { return fdbroker_posix_remove(path.c_str()); },
          {"/d/s", "/d/e", "/d/e/g", "/d/e", "/absent", ""});
}

TEST_CASE("posix names: an unnamed file of the kernel's has the mode it is given") {
    const TempDir directory;
    const proto::UniqueFd file(
        fdbroker_posix_open(directory.path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    FDBROKER_SKIP_UNLESS(file || errno != EOPNOTSUPP, "the filesystem has no unnamed files");
    REQUIRE(file);
    struct stat status{};
    REQUIRE(::fstat(file.number(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
}

TEST_CASE("posix names: times are set to given ones and to now") {
    const Both both;
    const auto told_time = [](const std::string& path, std::string& more) {
        struct stat status{};
        if (fdbroker_posix_stat(path.c_str(), &status) == 0)
            more = std::to_string(status.st_atime) + " " + std::to_string(status.st_mtim.tv_sec) + " " +
                   std::to_string(status.st_mtim.tv_nsec);
    };
    both.check("utime",
               [&](auto& path, std::string& more) -> long {
                   const utimbuf times{.actime = 1000, .modtime = 2000};
                   const int result = fdbroker_posix_utime(path.c_str(), &times);
                   told_time(path, more);
                   return result;
               },
               {"/d/f", "/d", "/absent"});
    both.check("utimes",
               [&](auto& path, std::string& more) -> long {
                   const timeval times[2]{{.tv_sec = 3000, .tv_usec = 1}, {.tv_sec = 4000, .tv_usec = 5}};
                   const int result = fdbroker_posix_utimes(path.c_str(), times);
                   told_time(path, more);
                   return result;
               },
               {"/d/f", "/d/e/g", "/absent"});
    both.check("now",
               [](auto& path, std::string& more) -> long {
                   const int result = fdbroker_posix_utime(path.c_str(), nullptr);
                   struct stat status{};
                   if (fdbroker_posix_stat(path.c_str(), &status) == 0 && status.st_mtime > 1'000'000)
                       more = "now";
                   return result;
               },
               {"/d/f", "/absent"});
}

TEST_CASE("posix names: chdir leads relative paths, to directories alone") {
    const Both both;
    asked_broker = both.brokers.broker();
    CHECK(fdbroker_posix_chdir("/d/f") == -1);
    CHECK(errno == ENOTDIR);
    CHECK(fdbroker_posix_chdir("/absent") == -1);
    CHECK(errno == ENOENT);
    CHECK(fdbroker_posix_chdir("/d") == 0);
    struct stat status{};
    CHECK(fdbroker_posix_stat("f", &status) == 0);
    CHECK(status.st_size == 7);
    asked_broker = nullptr;
}

}  // namespace fdbroker::test
