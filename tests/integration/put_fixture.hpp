// SPDX-License-Identifier: MIT
// A directory to put files into, and the calls of a put.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "proto/payload.hpp"
#include "tests/integration/served_data.hpp"

namespace fdbroker::test {

using proto::Call;

// A directory that only root may enter, and a file of root's in it.
class Fixture : public ServedDirectory {
  public:
    Fixture() : ServedDirectory({"put", "owned", "small", "written", "follow"}) {
        write_file(at("put/file"), "old", {.mode = 0600, .uid = 0, .gid = 0});
    }
    std::string content(std::string_view name) const { return read_file(at(name)); }
    // The number of names in the directory.
    std::size_t names(std::string_view directory) const {
        const std::filesystem::directory_iterator entries(at(directory));
        return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
    }

    std::string policy() const {
        return ServedDirectory::policy(R"(version: 1
rules:
  - {name: put, allow: [modify, read, stat], paths: ["DATA/put/**"], create: {parents: true}}
  - name: owned
    allow: [modify]
    paths: ["DATA/owned/**"]
    create: {mode: "0604", owner: "30011", group: "30012"}
  - {name: small, allow: [modify], paths: ["DATA/small/**"], files: {max_size: 8}}
  - {name: written, allow: [write, truncate], paths: ["DATA/written/**"]}
  - {name: follow, allow: [modify], paths: ["DATA/follow/**"], symlinks: follow}
)");
    }
};

// The answer to a put: a descriptor to fill, and the put's number.
struct Begun {
    TestPeer::Answer answer;
    std::uint64_t number = 0;

    bool write(std::string_view text) const {
        return ::write(answer.fd.number(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    }
};

inline Begun begin_put(TestPeer& peer, const std::string& path) {
    Begun begun{.answer = peer.call({.call = Call::put, .mode = 0666, .path = path})};
    begun.number = proto::read_number(begun.answer.payload).value_or(0);
    return begun;
}

inline TestPeer::Answer ask_about(TestPeer& peer, Call call, const std::string& path, std::uint64_t number,
                                  std::uint32_t flags = 0) {
    const auto payload = proto::number_payload(number);
    return peer.call(
        {.call = call, .flags = flags, .path = path, .payload = {payload.data(), payload.size()}});
}
inline TestPeer::Answer commit(TestPeer& peer, const std::string& path, std::uint64_t number,
                               std::uint32_t flags = 0) {
    return ask_about(peer, Call::commit, path, number, flags);
}
inline TestPeer::Answer discard(TestPeer& peer, const std::string& path, std::uint64_t number) {
    return ask_about(peer, Call::discard, path, number);
}

// All of it; the status of the first that is refused.
inline int replace(TestPeer& peer, const std::string& path, std::string_view content,
                   std::uint32_t flags = 0) {
    Begun begun = begin_put(peer, path);
    if (begun.answer.status != 0) return begun.answer.status;
    CHECK(begun.write(content));
    begun.answer.fd.reset();
    return commit(peer, path, begun.number, flags).status;
}

// A put that has been filled, its descriptor closed; its number.
inline std::uint64_t filled(TestPeer& peer, const std::string& path, std::string_view content) {
    const Begun begun = begin_put(peer, path);
    REQUIRE(begun.answer.status == 0);
    CHECK(begun.write(content));
    return begun.number;
}

}  // namespace fdbroker::test
