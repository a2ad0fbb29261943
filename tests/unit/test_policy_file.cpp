// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "opener/policy_source/policy_file.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

namespace {

using opener::fragment_reader;
using opener::read_policy_file;

// The result of reading: "ok" or the error.
std::string verdict_on(const std::string& path) {
    const auto read = read_policy_file(path);
    if (!read) {
        CHECK(read.error().file == path);
        CHECK(read.error().line == 0);
        return read.error().text;
    }
    return "ok";
}

std::string fragments_of(const std::string& policy, const std::string& pattern) {
    const auto read = fragment_reader(policy)(pattern);
    if (!read) return read.error();
    std::string names;
    for (const policy::Source& source : *read) {
        names += std::filesystem::path(source.name).filename().string() + "=" + source.text + " ";
    }
    return names;
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

void change_link_owner(const std::string& path, uid_t uid) {
    REQUIRE(::lchown(path.c_str(), uid, uid) == 0);
}

}  // namespace

TEST_CASE("policy_file: the text and the name come as they are") {
    const TempDir dir;
    const std::string path = dir / "policy.yaml";
    const std::string text("version: 1\n\0\xff", 13);
    write_file(path, text);
    const DescriptorTable before = DescriptorTable::now();
    const auto read = read_policy_file(path);
    REQUIRE(read.has_value());
    CHECK(read->name == path);
    CHECK(read->text == text);
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("policy_file: a link to /dev/null masks a fragment, and is no policy") {
    const TempDir dir;
    write_file(dir / "a.yaml", "a");
    std::filesystem::create_symlink("/dev/null", dir / "b.yaml");
    CHECK(fragments_of(dir / "policy.yaml", "*.yaml") == "a.yaml=a b.yaml= ");
    CHECK(fragments_of(dir / "policy.yaml", "b.yaml") == "b.yaml= ");
    CHECK(verdict_on(dir / "b.yaml") == "is a device, a policy is a regular file");
    std::filesystem::create_symlink("/dev/zero", dir / "c.yaml");
    CHECK(contains(fragments_of(dir / "policy.yaml", "c.yaml"), "a policy is a regular file"));
}

TEST_CASE("policy_file: as root, what someone else could change is refused, whichever step that is") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    struct Case {
        std::string name;
        uid_t directory_owner;
        mode_t directory_mode;
        uid_t file_owner;
        mode_t file_mode;
        const char* expected;
    };
    static const Case cases[] = {
        {"root's, readable", 0, 0755, 0, 0644, "ok"},
        {"root's, private", 0, 0700, 0, 0600, "ok"},
        {"in a sticky directory", 0, 01777, 0, 0644, "ok"},
        {"group may write the file", 0, 0755, 0, 0664, "may be written by group 0 (mode 0664)"},
        {"everyone may write the file", 0, 0755, 0, 0646, "may be written by everyone (mode 0646)"},
        {"someone else's file", 0, 0755, some_user, 0644, "belongs to uid 30001"},
        {"someone else's read-only file", 0, 0755, some_user, 0444, "belongs to uid 30001"},
        {"someone else's file in a sticky directory", 0, 01777, some_user, 0644, "belongs to uid 30001"},
        {"group may write the directory", 0, 0775, 0, 0644, "may be written by group 0 (mode 0775)"},
        {"everyone may write the directory", 0, 0757, 0, 0644, "may be written by everyone (mode 0757)"},
        {"someone else's directory", some_user, 0755, 0, 0644, "belongs to uid 30001"},
        {"someone else's sticky directory", some_user, 01777, 0, 0644, "belongs to uid 30001"},
    };
    for (const Case& entry : cases) {
        CAPTURE(entry.name);
        const TempDir top;
        make_directory(top / "d", {.mode = entry.directory_mode, .uid = entry.directory_owner});
        make_directory(top / "d/e");
        const FileAttributes attributes{.mode = entry.file_mode, .uid = entry.file_owner};
        write_file(top / "d/policy.yaml", "", attributes);
        write_file(top / "d/e/policy.yaml", "", attributes);
        const DescriptorTable before = DescriptorTable::now();
        for (const char* name : {"d/policy.yaml", "d/e/policy.yaml"}) {
            const std::string verdict = verdict_on(top / name);
            CAPTURE(verdict);
            CHECK(contains(verdict, entry.expected));
        }
        CHECK(DescriptorTable::now().changes_since(before) == "");
    }
}

TEST_CASE("policy_file: the error names the step at fault and what to do") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir top;
    make_directory(top / "d", {.mode = 0775});
    write_file(top / "d/policy.yaml", "");
    const std::string verdict = verdict_on(top / "d/policy.yaml");
    CHECK(verdict.starts_with((top / "d").string() + " may be written"));
    CHECK(verdict.ends_with("chmod go-w " + (top / "d").string()));
}

TEST_CASE("policy_file: links are followed, and are steps like others") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir top;
    make_directory(top / "good");
    make_directory(top / "bad", {.mode = 0777});
    write_file(top / "good/policy.yaml", "good");
    write_file(top / "bad/policy.yaml", "bad");
    const auto link = [&](const char* target, const char* name) {
        REQUIRE(::symlink(target, (top / name).c_str()) == 0);
        return (top / name).string();
    };
    CHECK(verdict_on(link("good/policy.yaml", "relative")) == "ok");
    CHECK(verdict_on(link((top / "good/policy.yaml").c_str(), "absolute")) == "ok");
    CHECK(verdict_on(link("good", "directory") + "/policy.yaml") == "ok");
    CHECK(verdict_on(link("../../../../../../../../../../etc/hostname", "up")) ==
          verdict_on("/etc/hostname"));
    CHECK(contains(verdict_on(link("bad/policy.yaml", "to-bad")), "/bad may be written by everyone"));
    CHECK(contains(verdict_on(link("bad/../good/policy.yaml", "through-bad")),
                   "/bad may be written by everyone"));
    CHECK(contains(verdict_on(link("loop", "loop")), "Too many levels of symbolic links"));
    const std::string others = link("good/policy.yaml", "others");
    change_link_owner(others, some_user);
    CHECK(contains(verdict_on(others), "/others belongs to uid 30001"));
}

TEST_CASE("policy_file: 40 links are followed, 41 are not") {
    const TempDir top;
    write_file(top / "0", "");
    for (int number = 1; number <= 41; ++number) {
        const std::string name = top / std::to_string(number);
        REQUIRE(::symlink(std::to_string(number - 1).c_str(), name.c_str()) == 0);
    }
    CHECK(verdict_on(top / "40") == "ok");
    CHECK(contains(verdict_on(top / "41"), "Too many levels of symbolic links"));
}

TEST_CASE("policy_file: another user may use its own files and root's, nobody else's") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir top;
    make_directory(top / "own", {.mode = 0755, .uid = some_user});
    write_file(top / "own/policy.yaml", "", {.mode = 0600, .uid = some_user});
    write_file(top / "own/group", "", {.mode = 0620, .uid = some_user});
    write_file(top / "own/roots", "");
    write_file(top / "own/others", "", {.mode = 0644, .uid = other_user});
    write_file(top / "own/unreadable", "", {.mode = 0600});
    run_as(some_user, [&] {
        CHECK(verdict_on(top / "own/policy.yaml") == "ok");
        CHECK(verdict_on(top / "own/roots") == "ok");
        CHECK(contains(verdict_on(top / "own/group"), "may be written by group"));
        CHECK(contains(verdict_on(top / "own/others"), "belongs to uid 30002"));
        CHECK(contains(verdict_on(top / "own/others"), "root's or yours"));
        CHECK(contains(verdict_on(top / "own/unreadable"), "Permission denied"));
    });
    CHECK(contains(verdict_on(top / "own/policy.yaml"), "belongs to uid 30001"));
}

TEST_CASE("policy_file: a relative name counts from the working directory, which is looked at as well") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir top;
    make_directory(top / "bad", {.mode = 0777});
    write_file(top / "policy.yaml", "");
    write_file(top / "bad/policy.yaml", "");
    run_in_child([&] {
        REQUIRE(::chdir(top.path().c_str()) == 0);
        CHECK(verdict_on("policy.yaml") == "ok");
        CHECK(verdict_on("./policy.yaml") == "ok");
        REQUIRE(::chdir((top / "bad").c_str()) == 0);
        CHECK(contains(verdict_on("policy.yaml"), "/bad may be written"));
        CHECK(contains(verdict_on("../policy.yaml"), "/bad may be written"));
    });
}

TEST_CASE("policy_file: anything but a regular file is refused without opening it") {
    const TempDir top;
    REQUIRE(::mkfifo((top / "fifo").c_str(), 0600) == 0);
    const DescriptorTable before = DescriptorTable::now();
    CHECK(contains(verdict_on(top.path()), "is a directory"));
    CHECK(contains(verdict_on("/"), "is a directory"));
    CHECK(contains(verdict_on(top / "fifo"), "is a FIFO"));
    CHECK(contains(verdict_on(top / "missing"), "/missing: No such file or directory"));
    CHECK(contains(verdict_on(top / "missing/policy.yaml"), "/missing: No such file or directory"));
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("policy_file: 32 MiB are read, a byte more is refused") {
    const TempDir top;
    const std::string path = top / "policy.yaml";
    write_file(path, "");
    REQUIRE(::truncate(path.c_str(), 32 << 20) == 0);
    CHECK(verdict_on(path) == "ok");
    REQUIRE(::truncate(path.c_str(), (32 << 20) + 1) == 0);
    CHECK(contains(verdict_on(path), "at most 32 MiB"));
}

TEST_CASE("policy_file: fragments come sorted by name, hidden ones and others left out") {
    const TempDir top;
    make_directory(top / "policy.d");
    for (const char* name : {"b.yaml", "a.yaml", "Z.yaml", ".hidden.yaml", "a.yaml~", "10.yaml", "9.yaml"}) {
        write_file(top / ("policy.d/" + std::string(name)), "x");
    }
    const std::string policy = top / "policy.yaml";
    const DescriptorTable before = DescriptorTable::now();
    CHECK(fragments_of(policy, "policy.d/*.yaml") == "10.yaml=x 9.yaml=x Z.yaml=x a.yaml=x b.yaml=x ");
    CHECK(fragments_of(policy, (top / "policy.d/[ab].yaml").string()) == "a.yaml=x b.yaml=x ");
    CHECK(fragments_of(policy, "policy.d/?.yaml") == "9.yaml=x Z.yaml=x a.yaml=x b.yaml=x ");
    CHECK(fragments_of(policy, "policy.d/b.yaml") == "b.yaml=x ");
    CHECK(fragments_of("/elsewhere/policy.yaml", "*.yaml") == "/elsewhere: No such file or directory");
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("policy_file: a pattern may match nothing, but what it names must be there") {
    const TempDir top;
    make_directory(top / "policy.d");
    const std::string policy = top / "policy.yaml";
    CHECK(fragments_of(policy, "policy.d/*.yaml") == "");
    CHECK(contains(fragments_of(policy, "policy.c/*.yaml"), "/policy.c: No such file or directory"));
    CHECK(contains(fragments_of(policy, "policy.d/one.yaml"), "/one.yaml: No such file or directory"));
    CHECK(contains(fragments_of(policy, "policy.*/one.yaml"), "last component only"));
}

TEST_CASE("policy_file: fragments are held to the same rule as the policy") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const TempDir top;
    make_directory(top / "policy.d");
    make_directory(top / "open.d", {.mode = 0777});
    write_file(top / "policy.d/a.yaml", "", {.mode = 0644, .uid = some_user});
    const std::string policy = top / "policy.yaml";
    CHECK(contains(fragments_of(policy, "policy.d/*.yaml"), "a.yaml belongs to uid 30001"));
    CHECK(contains(fragments_of(policy, "open.d/*.yaml"), "/open.d may be written by everyone"));
}

TEST_CASE("policy_file: all fragments of a pattern together have at most 32 MiB") {
    const TempDir top;
    for (const char* name : {"a.yaml", "b.yaml"}) {
        write_file(top / name, "");
        REQUIRE(::truncate((top / name).c_str(), (16 << 20) + 1) == 0);
    }
    CHECK(contains(fragments_of(top / "policy.yaml", "*.yaml"), "b.yaml: holds too much"));
    CHECK(fragments_of(top / "policy.yaml", "a.yaml").size() ==
          (16 << 20) + 1 + std::string("a.yaml= ").size());
}

}  // namespace fdbroker::test
