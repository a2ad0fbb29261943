// SPDX-License-Identifier: MIT
#include "tests/support/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "proto/unique_fd.hpp"

namespace fdbroker::test {

namespace {

[[noreturn]] void fail(const char* call, const std::filesystem::path& path) {
    throw std::system_error(errno, std::generic_category(), std::string(call) + ": " + path.string());
}

std::filesystem::path make_temporary(TempDir::Place place) {
    std::string path = place == TempDir::Place::run ? "/run/fdb-XXXXXX" : "/var/tmp/fdb-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) fail("mkdtemp", path);
    return path;
}

void set_attributes(proto::BorrowedFd descriptor, const std::filesystem::path& path,
                    const FileAttributes& attributes) {
    if (::fchown(descriptor.number(), attributes.uid, attributes.gid) < 0) fail("fchown", path);
    if (::fchmod(descriptor.number(), attributes.mode) < 0) fail("fchmod", path);
}

}  // namespace

TempDir::TempDir(mode_t mode) : TempDir(::access("/run", W_OK) == 0 ? Place::run : Place::var_tmp, mode) {}

TempDir::TempDir(Place place, mode_t mode) : path_(make_temporary(place)) {
    if (::chmod(path_.c_str(), mode) < 0) fail("chmod", path_);
}

TempDir::~TempDir() {
    std::error_code ignored;  // a test that has made it unremovable has failed already, or left a mount
    std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::filesystem::path& path, std::string_view content,
                const FileAttributes& attributes) {
    const proto::UniqueFd file(
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file) fail("open", path);
    while (!content.empty()) {
        const ssize_t written = ::write(file.number(), content.data(), content.size());
        if (written < 0) fail("write", path);
        content.remove_prefix(static_cast<std::size_t>(written));
    }
    set_attributes(file.borrow(), path, attributes);
}

void make_directory(const std::filesystem::path& path, const FileAttributes& attributes) {
    if (::mkdir(path.c_str(), 0700) < 0) fail("mkdir", path);
    const proto::UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!directory) fail("open", path);
    set_attributes(directory.borrow(), path, attributes);
}

std::string read_file(const std::filesystem::path& path) {
    const proto::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) fail("open", path);
    std::string content;
    std::array<char, 16384> block;
    while (true) {
        const ssize_t size = ::read(file.number(), block.data(), block.size());
        if (size < 0) fail("read", path);
        if (size == 0) return content;
        content.append(block.data(), static_cast<std::size_t>(size));
    }
}

}  // namespace fdbroker::test
