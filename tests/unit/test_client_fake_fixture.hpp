// SPDX-License-Identifier: MIT
// The library's broker inside the process, with a connection to it.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "tests/support/files.hpp"
#include "tests/unit/test_client_broker.hpp"

namespace fdbroker::test {

struct Fake {
    explicit Fake(const char* root = nullptr) {
        REQUIRE(fdbroker_fake_new(&fake, root) == 0);
        fdbroker_handle* handle = nullptr;
        REQUIRE(fdbroker_fake_connect(fake, &handle) == 0);
        client.reset(handle);
    }
    ~Fake() {
        client.reset();
        fdbroker_fake_free(fake);
    }
    fdbroker_handle* broker() const { return client.get(); }
    void file(const char* path, std::string_view content) const {
        REQUIRE(fdbroker_fake_file(fake, path, content.data(), content.size()) == 0);
    }
    std::string read(const char* path) const {
        const proto::UniqueFd file(fdbroker_open(broker(), path, O_RDONLY, 0));
        return file ? content_of(file.number()) : "nothing";
    }

    fdbroker_fake* fake = nullptr;
    Client client{};
};

// A fake on a directory that the test sees, too.
struct Seen {
    Seen() : fake(directory.path().c_str()) {
        fake.file("/d/f", "content");
        fake.file("/d/e/g", "");
        REQUIRE(::symlink("f", real("/d/l").c_str()) == 0);
        REQUIRE(::symlink("/d/e", real("/d/k").c_str()) == 0);
    }
    std::string real(const std::string& path) const { return directory.path().string() + path; }
    fdbroker_handle* broker() const { return fake.broker(); }

    TempDir directory{};
    Fake fake;
};

}  // namespace fdbroker::test
