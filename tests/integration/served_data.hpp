// SPDX-License-Identifier: MIT
// What the tests have an opener serve.
#pragma once

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>

#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"

namespace fdbroker::test {

// A file that only root may open, and a policy that lets everyone read it.
struct ServedFile {
    TempDir directory{TempDir::Place::var_tmp};
    std::string file = (directory / "data/file").string();
    std::string policy = "version: 1\nrules:\n  - {name: file, allow: [read], paths: [\"" + file + "\"]}\n";

    ServedFile() {
        make_directory(directory / "data");
        write_file(file, "content", {.mode = 0600});
    }
};

// A directory that only root may enter.
class ServedDirectory {
  public:
    std::string at(std::string_view name) const { return (data_ / name).string(); }
    struct stat status(std::string_view name) const {
        struct stat status{};
        CHECK(::lstat(at(name).c_str(), &status) == 0);
        return status;
    }
    const TempDir& directory() const { return directory_; }

  protected:
    // With these directories in it.
    ServedDirectory(std::initializer_list<const char*> names) {
        make_directory(data_, {.mode = 0700});
        for (const char* name : names) make_directory(at(name), {.mode = 0700});
    }
    // The policy in which it is called DATA.
    std::string policy(std::string text) const {
        return replace_all(std::move(text), "DATA", data_.string());
    }

  private:
    TempDir directory_{TempDir::Place::var_tmp};
    std::filesystem::path data_ = directory_ / "data";
};

// An opener over a Fixture, and a peer of an ordinary user.
template <typename Fixture, typename Body>
void with_peer(const Fixture& fixture, Body body) {
    RunningOpener opener(fixture.directory(), fixture.policy());
    run_as(some_user, [&] {
        TestPeer peer(opener.socket());
        body(peer);
    });
    CHECK(opener.stop() == 0);
}

}  // namespace fdbroker::test
