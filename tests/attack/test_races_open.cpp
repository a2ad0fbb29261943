// SPDX-License-Identifier: MIT
// What is opened while its name changes.
#include <doctest/doctest.h>
#include <fcntl.h>

#include "tests/attack/race.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;

TEST_CASE("attack: the naive opener is fooled by every exchange") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    Scene scene;
    scene.link_secret();
    const std::string file = scene.at("data/plain/file");
    const auto inside = [&](const std::string& path) { return leads_into(path, scene.at("data")); };
    must_be_fooled("link for file", exchanging(file, scene.at("data/plain/link")), opening(file, inside));
    must_be_fooled("directory for link to directory",
                   exchanging(scene.at("data/plain/dir"), scene.at("data/plain/dirlink")),
                   opening(scene.at("data/plain/dir/file"), inside));
    must_be_fooled("file for FIFO", exchanging(file, scene.at("data/plain/fifo")), opening(file, is_plain));
    must_be_fooled("file for hard link", exchanging(file, scene.at("data/plain/hard")),
                   opening(file, is_plain));
    must_be_fooled("followed link", exchanging(scene.at("data/follow/good"), scene.at("data/follow/bad")),
                   opening(scene.at("data/follow/good"), inside));
    const std::string parent = scene.at("data/plain/parent");
    must_be_fooled("parent moved away", moving_away(parent, scene.at("secret/parent"), "file"),
                   [&]() -> std::optional<std::string> {
                       // Looks at the name of the directory, and keeps the directory.
                       const proto::UniqueFd kept(::open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
                       if (!kept || !leads_into(parent + "/file", scene.at("data"))) return std::nullopt;
                       const std::string content = content_of(kept.borrow(), "file");
                       return content == "secret" ? std::optional(content) : std::nullopt;
                   });
}

TEST_CASE("attack: opening gets the file that was asked for or nothing, whatever takes its name") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    Scene scene;
    scene.link_secret();
    const DescriptorTable before = DescriptorTable::now();
    {
        Attack attack(scene);
        const std::string file = scene.at("data/plain/file");
        const auto open = [](const std::string& path, std::uint32_t flags = 0) {
            return proto::Request{.call = Call::open, .flags = flags, .path = path};
        };
        const std::string deep = scene.at("data/plain/dir/file");
        const std::string moved = scene.at("data/plain/parent/file");
        const std::string followed = scene.at("data/follow/good");
        const std::string created = scene.at("data/plain/dir/new");
        for (const std::uint32_t flags : {std::uint32_t{O_RDONLY}, std::uint32_t{O_RDWR}}) {
            const std::string how = flags == O_RDONLY ? " (read)" : " (write)";
            attack.run("link for file" + how, exchanging(file, scene.at("data/plain/link")),
                       {open(file, flags)}, {{"public", is_asked_for}, {"ELOOP", saw_link}});
            attack.run("directory for link" + how,
                       exchanging(scene.at("data/plain/dir"), scene.at("data/plain/dirlink")),
                       {open(deep, flags)}, {{"public", is_asked_for}, {"ELOOP", saw_link}});
            attack.run("file for FIFO" + how, exchanging(file, scene.at("data/plain/fifo")),
                       {open(file, flags)}, {{"public", is_asked_for}, {"EACCES", "a FIFO stood there"}});
            attack.run("file for hard link" + how, exchanging(file, scene.at("data/plain/hard")),
                       {open(file, flags)},
                       {{"public", is_asked_for}, {"EACCES", "a file of two names stood there"}});
            attack.run("parent moved away" + how,
                       moving_away(scene.at("data/plain/parent"), scene.at("secret/parent"), "file"),
                       {open(moved, flags)},
                       {{"public", is_asked_for}, {"ENOENT", "its directory was away"}});
        }
        attack.run("followed link", exchanging(followed, scene.at("data/follow/bad")), {open(followed)},
                   {{"public", is_asked_for},
                    {"EACCES", "the link led to what no rule allows"},
                    {"ELOOP", "the link was another when it was read"}});
        attack.run("link for file (truncate)", exchanging(file, scene.at("data/plain/link")),
                   {open(file, O_WRONLY | O_TRUNC)},
                   {{"a file to write", is_asked_for}, {"ELOOP", saw_link}});
        attack.run("file for hard link (truncate)", exchanging(file, scene.at("data/plain/hard")),
                   {open(file, O_WRONLY | O_TRUNC)},
                   {{"a file to write", is_asked_for}, {"EACCES", "a file of two names stood there"}});
        attack.run("directory for link (create)",
                   exchanging(scene.at("data/plain/dir"), scene.at("data/plain/dirlink")),
                   {open(created, O_WRONLY | O_CREAT | O_EXCL), {.call = Call::remove, .path = created}},
                   {{"a file to write", "a file in the directory"},
                    {"done", "the file was removed"},
                    {"EEXIST", "an earlier try made it"},
                    {"ENOENT", "an earlier try took it"},
                    {"ELOOP", saw_link}});
        attack.check_secrets();
    }
    CHECK(DescriptorTable::now() == before);
}
