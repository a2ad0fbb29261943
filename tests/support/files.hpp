// SPDX-License-Identifier: MIT
// Directories and files for tests. Whatever fails is an exception (std::system_error).
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <string_view>

namespace fdbroker::test {

// A fresh directory, removed with all it holds when the object goes: below /run where this process may write
// there, else below /var/tmp. Its path is short enough for a socket's in it.
class TempDir {
  public:
    enum class Place { run, var_tmp };  // /run is most often a tmpfs, /var/tmp lies on a disk's filesystem

    explicit TempDir(mode_t mode = 0755);
    explicit TempDir(Place place, mode_t mode = 0755);
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;
    ~TempDir();

    const std::filesystem::path& path() const { return path_; }
    std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

  private:
    std::filesystem::path path_;
};

// Owner and mode are set whatever the umask; -1 leaves the caller's own.
struct FileAttributes {
    mode_t mode = 0644;
    uid_t uid = static_cast<uid_t>(-1);
    gid_t gid = static_cast<gid_t>(-1);
};

// Creates or replaces the content of `path`.
void write_file(const std::filesystem::path& path, std::string_view content,
                const FileAttributes& attributes = {});
void make_directory(const std::filesystem::path& path, const FileAttributes& attributes = {.mode = 0755});
std::string read_file(const std::filesystem::path& path);

}  // namespace fdbroker::test
