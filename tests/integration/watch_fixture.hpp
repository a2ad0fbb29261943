// SPDX-License-Identifier: MIT
// A directory to watch files in, and what watches tell.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "proto/watch.hpp"
#include "tests/integration/served_data.hpp"
#include "tests/support/wait.hpp"

namespace fdbroker::test {

using proto::watch_all;
using proto::watch_attributes;
using proto::watch_content;
using proto::watch_replaced;

// A directory that only root may enter, with a directory for each rule and a file of root's in each.
class Fixture : public ServedDirectory {
  public:
    Fixture() : ServedDirectory({"both", "stat", "read", "written", "links"}) {
        for (const char* name : {"both/file", "stat/file", "read/file", "links/file"})
            write_file(at(name), "content", {.mode = 0600, .uid = 0, .gid = 0});
    }
    std::string policy() const {
        return ServedDirectory::policy(R"(version: 1
rules:
  - {name: both, allow: [read, stat, write], paths: ["DATA/both/**"], ancestors: stat}
  - {name: stat, allow: [stat], paths: ["DATA/stat/**"]}
  - {name: read, allow: [read], paths: ["DATA/read/**"]}
  - {name: written, allow: [write], paths: ["DATA/written/**"]}
  - {name: links, allow: [stat], paths: ["DATA/links/**"], symlinks: follow}
  - {name: secret, deny: all, paths: ["DATA/both/secret"], reveal: ENOENT}
  - {name: denied, deny: all, paths: ["DATA/both/denied"]}
)");
    }
};

inline TestPeer::Answer begin_watch(TestPeer& peer, const std::string& path, std::uint32_t mask = watch_all) {
    return peer.call({.call = proto::Call::watch, .flags = mask, .path = path});
}

inline void append(const std::string& path, std::string_view text) {
    const proto::UniqueFd file(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    REQUIRE(::write(file.number(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

// The next changes; 0: the watch is over.
inline unsigned told(const TestPeer::Answer& watch) {
    wait_readable(watch.fd.borrow());
    std::uint8_t changes = 0;
    const ssize_t size = ::read(watch.fd.number(), &changes, sizeof changes);
    REQUIRE(size >= 0);
    return changes;
}

// All changes until these are among them.
inline unsigned told_until(const TestPeer::Answer& watch, unsigned wanted) {
    unsigned changes = 0;
    while ((changes & wanted) != wanted) {
        const unsigned next = told(watch);
        REQUIRE(next != 0);
        changes |= next;
    }
    return changes;
}

// Nothing but the end is left to be told.
inline void wait_until_over(const TestPeer::Answer& watch) {
    while (told(watch) != 0) {
    }
}

}  // namespace fdbroker::test
