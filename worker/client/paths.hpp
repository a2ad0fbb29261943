// SPDX-License-Identifier: MIT
// Paths as open(2) takes them, made into those that the broker takes: absolute, without ".", "..", empty names and a
// trailing slash. By their text alone: nothing is looked up.
#pragma once

#include <string>
#include <string_view>

namespace fdbroker::worker {

// How a program wrote a path.
struct WrittenPath {
    int error = 0;  // ENOENT: an empty path; ENAMETOOLONG: a name has more than 255 bytes, or the path 4095
    bool is_canonical = false;  // the broker takes it as it is
    bool is_relative = false;   // the path does not begin with a slash
    bool is_directory =
        false;  // the path ends in a slash, "." or "..", and so can name nothing but a directory (path_resolution(7))
    std::string_view text{};  // all of it
};
WrittenPath read_path(const char* path) noexcept;
// WrittenPath::is_directory alone.
bool names_directory(std::string_view path) noexcept;

// The path as the broker takes it. `base` is canonical; relative paths begin there. A ".." takes away the name before it,
// and nothing at the root; open(2) would follow that name first where it is a symbolic link.
std::string canonical_path(std::string_view base, std::string_view path);

}  // namespace fdbroker::worker
