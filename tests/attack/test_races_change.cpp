// SPDX-License-Identifier: MIT
// What is changed, made and taken away while names change.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <utility>

#include "proto/payload.hpp"
#include "tests/attack/race.hpp"
#include "tests/support/child.hpp"
#include "tests/support/deadline.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;

namespace {

const std::string saw_mount = "a mount stood there, or had just been";

const std::string made_earlier = "an earlier try made it";
const std::string took_earlier = "an earlier try took it";

}  // namespace

TEST_CASE("attack: looking and changing reach nothing beyond the rules") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    Scene scene;
    scene.link_secret();
    Attack attack(scene);
    const std::string file = scene.at("data/plain/file");
    const auto links_file = exchanging(file, scene.at("data/plain/link"));
    const auto links_directory = exchanging(scene.at("data/plain/dir"), scene.at("data/plain/dirlink"));
    const auto in_directory = [&](const char* name) { return scene.at("data/plain/dir/") + name; };
    const std::string target("anywhere\0", 9);
    const std::string other = in_directory("other");
    const std::string other_text = other + '\0';
    const std::string name = in_directory("name");
    const std::string link = in_directory("link");
    const std::string inner = in_directory("file");
    const std::string inner_text = inner + '\0';
    const std::string directory = scene.at("data/plain/dir");
    const auto beginning = proto::number_payload(0);
    const Permissible named = {{"done", "in the directory that was asked for"},
                               {"EEXIST", made_earlier},
                               {"ENOENT", took_earlier},
                               {"ELOOP", saw_link}};
    attack.run("stat, link for file", links_file, {{.call = Call::stat, .path = file}},
               {{"done", is_asked_for}, {"ELOOP", saw_link}});
    attack.run("list, directory for link", links_directory,
               {{.call = Call::list, .path = directory, .payload = {beginning.data(), beginning.size()}}},
               {{"done", "the directory that was asked for"}, {"ELOOP", saw_link}});
    const proto::Request removal{.call = Call::remove, .flags = AT_REMOVEDIR, .path = name};
    attack.run("mkdir and remove, directory for link", links_directory,
               {{.call = Call::mkdir, .path = name}, removal}, named);
    attack.run(
        "symlink and remove, directory for link", links_directory,
        {{.call = Call::symlink, .path = link, .payload = target}, {.call = Call::remove, .path = link}},
        named);
    attack.run("rename and back, directory for link", links_directory,
               {{.call = Call::rename, .path = inner, .payload = other_text},
                {.call = Call::rename, .path = other, .payload = inner_text}},
               named);
    attack.check_secrets();
}

TEST_CASE("attack: attributes are those of the file that was asked for, whatever takes its name") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    Scene scene;
    scene.link_secret();
    const std::string file = scene.at("data/plain/file");
    const auto mode_of_secret = [&] {
        struct stat status{};
        return ::stat(scene.at("secret/file").c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
    };
    must_be_fooled("setattr, link for file", exchanging(file, scene.at("data/plain/link")),
                   [&]() -> std::optional<std::string> {
                       if (is_plain(file)) ::chmod(file.c_str(), 0604);
                       if (mode_of_secret() != 0604) return std::nullopt;
                       ::chmod(scene.at("secret/file").c_str(), 0600);
                       return "changed what the link leads to";
                   });
    Attack attack(scene);
    const std::string value = proto::attribute_payload("user.attack", "x");
    const std::pair<const char*, proto::Request> changes[] = {
        {"setattr", {.call = Call::setattr, .flags = 1, .mode = 0644, .path = file}},
        {"xattr_write", {.call = Call::xattr_write, .path = file, .payload = value}}};
    const auto early = proto::times_payload({.access = {1, 0}, .modification = {1, 0}});
    const proto::Request of_link{.call = Call::setattr,
                                 .flags = proto::setattr_times | proto::setattr_link,
                                 .path = file,
                                 .payload = {early.data(), early.size()}};
    attack.run("times of a link, link for file", exchanging(file, scene.at("data/plain/link")), {of_link},
               {{"done", "the file or the link itself"}, {"ELOOP", saw_link}});
    struct stat secret{};
    REQUIRE(::stat(scene.at("secret/file").c_str(), &secret) == 0);
    CHECK(secret.st_mtim.tv_sec != 1);
    for (const auto& [call, request] : changes) {
        const std::string name = call;
        attack.run(name + ", link for file", exchanging(file, scene.at("data/plain/link")), {request},
                   {{"done", is_asked_for}, {"ELOOP", saw_link}});
        attack.run(name + ", file for hard link", exchanging(file, scene.at("data/plain/hard")), {request},
                   {{"done", is_asked_for}, {"EACCES", "a file of two names stood there"}});
        attack.run(name + ", file for FIFO", exchanging(file, scene.at("data/plain/fifo")), {request},
                   {{"done", is_asked_for}, {"EACCES", "a FIFO stood there"}});
    }
    attack.check_secrets();
}

TEST_CASE("attack: conditional remove deletes the inspected inode even if the name is swapped") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    {
        const Scene scene;
        const std::string file = scene.at("data/kept/file");
        must_be_fooled(
            "remove, file for hard link", scene.exchanging_kept(scene.at("data/kept/hard")),
            [&]() -> std::optional<std::string> {
                struct stat status{};
                if (::lstat(file.c_str(), &status) == 0 && status.st_uid == 0) ::unlink(file.c_str());
                if (::stat(scene.at("secret/theirs").c_str(), &status) != 0 || status.st_nlink == 2)
                    return std::nullopt;
                return "removed another's";
            });
    }
    Scene scene;
    const std::size_t others = scene.others();
    Attack attack(scene);
    for (const char* other : {"fifo", "hard"}) {
        attack.run(std::string("remove, file for ") + other,
                   scene.exchanging_kept(scene.at("data/kept/") + other),
                   {{.call = Call::remove, .path = scene.at("data/kept/file")}},
                   {{"done", "the peer's own"},
                    {"EACCES", "another's stood there"},
                    {"EAGAIN", "another's had taken the name, and has it back"},
                    {"ENOENT", took_earlier}});
        CHECK(scene.others() == others);
    }
    attack.check_secrets();
}

TEST_CASE("attack: no directory is renamed by a rule for files, whatever takes a file's name") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    Scene scene;
    const std::string file = scene.at("data/plain/file"), turn = scene.at("data/plain/turn");
    const std::string moved = scene.at("data/plain/moved");
    const std::string moved_text = moved + '\0', file_text = file + '\0';
    const auto round = exchanging(file, turn);
    must_be_fooled("rename, file for directory", round, [&]() -> std::optional<std::string> {
        if (is_plain(file)) ::rename(file.c_str(), moved.c_str());
        const bool directory = std::filesystem::is_directory(moved);
        ::rename(moved.c_str(), file.c_str());
        return directory ? std::optional("renamed a directory") : std::nullopt;
    });
    ::rename(moved.c_str(), file.c_str());
    Attack attack(scene);
    attack.run("rename and back, file for directory", round,
               {{.call = Call::rename, .path = file, .payload = moved_text},
                {.call = Call::rename, .path = moved, .payload = file_text}},
               {{"done", is_asked_for},
                {"EACCES", "a directory stood there"},
                {"EISDIR", "a directory stood at the new name"},
                {"EAGAIN", "a directory was moved, and has its name back"},
                {"ENOENT", took_earlier}});
    CHECK_FALSE(std::filesystem::is_directory(moved));
    attack.check_secrets();
}

TEST_CASE("attack: a bind mount that comes and goes changes nothing that the opener sees") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    run_in_mount_namespace(
        [] {
            Scene scene;
            const std::string mounted = scene.at("data/plain/dir/file");
            const auto mounting = mounting_over(scene.at("secret"), scene.at("data/plain/dir"));
            must_be_fooled("bind mount", mounting, opening(mounted, [&](const std::string& path) {
                               struct stat status{};
                               return ::stat(path.c_str(), &status) == 0 && status.st_size == 6 &&
                                      naive_open(path, is_plain) == "public";
                           }));
            const std::string created = scene.at("data/plain/dir/new");
            const std::string other = scene.at("data/plain/dir/other") + '\0';
            const std::string back = mounted + '\0';
            Attack attack(scene);
            attack.keep_generation();
            attack.run("bind mount", mounting, {{.call = Call::open, .path = mounted}},
                       {{"public", is_asked_for}});
            attack.run("bind mount (create and remove)", mounting,
                       {{.call = Call::open, .flags = O_WRONLY | O_CREAT | O_EXCL, .path = created},
                        {.call = Call::remove, .path = created}},
                       {{"a file to write", "in the directory that was asked for"},
                        {"done", "it was removed from there"},
                        {"EEXIST", made_earlier},
                        {"ENOENT", took_earlier},
                        {"EAGAIN", saw_mount}});
            attack.run("bind mount (rename and back)", mounting,
                       {{.call = Call::rename, .path = mounted, .payload = other},
                        {.call = Call::rename, .path = other.substr(0, other.size() - 1), .payload = back}},
                       {{"done", "in the directory that was asked for"},
                        {"ENOENT", took_earlier},
                        {"EAGAIN", saw_mount}});
            attack.check_secrets();
        },
        std::chrono::steady_clock::now() + 10 * patience);
}
