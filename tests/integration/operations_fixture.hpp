// SPDX-License-Identifier: MIT
// A directory with a rule for each kind of access, and an opener that serves it.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "tests/integration/served_data.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

inline constexpr uid_t spool_owner = 30011;
inline constexpr gid_t spool_group = 30012;

// A directory that only root may enter, and one rule for each kind of access to what is in it.
class Fixture : public ServedDirectory {
  public:
    Fixture()
        : ServedDirectory({"read", "all", "all/sub", "moved", "owned", "links", "modes", "kept", "copied",
                           "streamed", "directories", "one", "shared"}) {}
    // A file of root's that nobody else may open.
    std::string file(std::string_view name, std::string_view content = "content") const {
        write_file(at(name), content, {.mode = 0600, .uid = 0, .gid = 0});
        return at(name);
    }
    bool exists(std::string_view name) const {
        return std::filesystem::exists(std::filesystem::symlink_status(at(name)));
    }

    std::string policy() const {
        return ServedDirectory::policy(R"(version: 1
rules:
  - {name: read, allow: [read, list, stat, readlink], paths: ["DATA/read/**"]}
  - name: all
    allow: [read, append, manage, stat, list, readlink, symlink, setattr, xattr]
    paths: ["DATA/all/**"]
    create: {mode: "0640", parents: true}
    files: {types: [regular, fifo, directory]}
  - name: moved
    allow: [read, rename, mkdir, stat]
    paths: ["DATA/moved/**", "DATA/read/moved"]
    rename: {directories: true}
  - name: owned
    allow: [modify, mkdir, stat]
    paths: ["DATA/owned/**"]
    create: {mode: "0604", owner: "30011", group: "30012"}
  - name: given
    allow: [symlink]
    paths: ["DATA/given/**"]
    create: {owner: "30011", group: "30012"}
  - name: one
    allow: [create, write, mkdir]
    paths: ["DATA/one/**"]
    create: {parents: true}
    files: {same_mount: true}
  - name: shared
    allow: [read, manage, symlink, stat]
    paths: ["DATA/shared/**"]
    create: {mode: "0660", group: directory}
  - {name: followed, allow: [read, stat], paths: ["DATA/links/**", "DATA/read/target"], symlinks: follow}
  - {name: copied, allow: [read], paths: ["DATA/copied/**"], deliver: snapshot, files: {max_size: 1MiB}}
  - {name: streamed, allow: [read], paths: ["DATA/streamed/**"], deliver: stream}
  - {name: directories, allow: [read, list, stat], paths: ["DATA/directories/**"], files: {types: [regular, directory]}}
  - {name: modes, allow: [setattr], paths: ["DATA/modes/**"]}
  - {name: kept, allow: [manage], paths: ["DATA/kept/**"], files: {owners: ["${user}"]}}
  - {name: hidden, deny: all, paths: ["DATA/**/hidden"], reveal: ENOENT}
  - {name: keys, deny: [write], paths: ["DATA/**/*.key"]}
)");
    }
};

inline std::string with_nul(std::string text) {
    text.push_back('\0');
    return text;
}

}  // namespace fdbroker::test
