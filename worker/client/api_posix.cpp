// SPDX-License-Identifier: MIT
// The C functions of fdbroker.h that are what POSIX has beside open(2), each of several requests.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "proto/message.hpp"
#include "proto/payload.hpp"
#include "proto/unique_fd.hpp"
#include "worker/client/asking.hpp"
#include "worker/client/handle.hpp"

namespace fdbroker::worker {
namespace {

using proto::Call;
using proto::UniqueFd;

timespec time_of(const statx_timestamp& time) {
    return {.tv_sec = time.tv_sec, .tv_nsec = time.tv_nsec};
}

void convert(const struct statx& from, struct stat& to) {
    to = {};
    to.st_dev = ::makedev(from.stx_dev_major, from.stx_dev_minor);
    to.st_ino = from.stx_ino;
    to.st_mode = from.stx_mode;
    to.st_nlink = from.stx_nlink;
    to.st_uid = from.stx_uid;
    to.st_gid = from.stx_gid;
    to.st_rdev = ::makedev(from.stx_rdev_major, from.stx_rdev_minor);
    to.st_size = static_cast<off_t>(from.stx_size);
    to.st_blksize = static_cast<blksize_t>(from.stx_blksize);
    to.st_blocks = static_cast<blkcnt_t>(from.stx_blocks);
    to.st_atim = time_of(from.stx_atime);
    to.st_mtim = time_of(from.stx_mtime);
    to.st_ctim = time_of(from.stx_ctime);
}

int set_directory(Connection& connection, const char* base) {
    connection.clear_reason();
    std::string canonical;
    if (base != nullptr)
        if (const int error = write_canonical(connection, base, canonical); error < 0) return error;
    connection.set_directory(std::move(canonical));
    return 0;
}

ssize_t normalize(const char* base, const char* path, char* out, std::size_t size) {
    std::string from = "/";
    const WrittenPath written = read_path(path);
    if (written.error != 0) return -written.error;
    if (written.is_relative) {
        if (base == nullptr) return -ENOENT;
        const WrittenPath start = read_path(base);
        if (start.error != 0 || start.is_relative) return start.error != 0 ? -start.error : -ENOENT;
        from = canonical_path("/", start.text);
    }
    const std::string canonical = canonical_path(from, written.text);
    if (canonical.size() > proto::max_path_length) return -ENAMETOOLONG;
    if (canonical.size() >= size) return -ERANGE;
    std::memcpy(out, canonical.c_str(), canonical.size() + 1);
    return static_cast<ssize_t>(canonical.size());
}

// Whether the directory may be listed.
int try_list(Connection& connection, const char* path) {
    std::string page;
    const auto start = proto::number_payload(0);
    return connection.ask({.call = Call::list, .path = path, .payload = {start.data(), start.size()}}, &page);
}

int try_open(Connection& connection, const char* path, int flags) {
    const UniqueFd opened(
        connection.ask({.call = Call::open,
                        .path = path,
                        .flags = static_cast<std::uint32_t>(flags | O_NONBLOCK | O_NOCTTY)}));
    return std::min(opened.number(), 0);
}

int access_directory(Connection& connection, const char* path, int mode) {
    if ((mode & W_OK) != 0)
        return connection.refuse(EACCES, "what may be made in a directory is decided name by name");
    return (mode & R_OK) != 0 ? try_list(connection, path) : 0;
}

// The broker tries; nothing is changed by that.
int access(Connection& connection, const char* path, int mode) {
    if ((mode & ~(R_OK | W_OK | X_OK)) != 0) return connection.refuse(EINVAL, "a mode that is none");
    struct statx status{};
    const int looked = ask_status(connection, path, 0, status);
    // A rule may let read what it lets nobody look at.
    if (looked < 0 && (looked != -EACCES || mode == F_OK)) return looked;
    if (looked == 0 && S_ISDIR(status.stx_mode)) return access_directory(connection, path, mode);
    if ((mode & X_OK) != 0 && looked < 0) return looked;
    if ((mode & X_OK) != 0 && (status.stx_mode & 0111) == 0)
        return connection.refuse(EACCES, "the file is not executable");
    const int wanted = mode & (R_OK | W_OK);
    if (wanted == 0) return 0;
    if (wanted == R_OK) return try_open(connection, path, O_RDONLY);
    return try_open(connection, path, wanted == W_OK ? O_WRONLY : O_RDWR);
}

// The names of a path that are still to be looked at, and the path of those before them, in which no link is.
struct Walk {
    std::string done{};
    std::string rest{};
    bool of_directory = false;  // the path ends as only that of a directory may
    int links = 0;
};

// Takes the walk one name further. A hidden directory on the way is taken for a directory: the broker follows a link there
// only where a rule says so.
int step(Connection& connection, Walk& walk) {
    const std::size_t slash = walk.rest.find('/', 1);
    const std::string path = walk.done + walk.rest.substr(0, slash);
    const bool is_last = slash == std::string::npos;
    const std::string after = is_last ? "" : walk.rest.substr(slash);
    struct statx status{};
    const int error = ask_status(connection, path.c_str(), AT_SYMLINK_NOFOLLOW, status);
    if (error < 0 && (is_last || error != -EACCES)) return error;
    if (error < 0 || !S_ISLNK(status.stx_mode)) {
        if (error == 0 && (!is_last || walk.of_directory) && !S_ISDIR(status.stx_mode))
            return connection.refuse(ENOTDIR, "a name that leads on is no directory's");
        walk.done = path;
        walk.rest = after;
        return 0;
    }
    constexpr int most_links = 40;  // path_resolution(7)
    std::string target;
    if (++walk.links > most_links) return connection.refuse(ELOOP, "too many symbolic links");
    if (const int failed = ask_target(connection, path.c_str(), target); failed < 0) return failed;
    walk.rest = canonical_path(walk.done.empty() ? "/" : walk.done, target + after);
    walk.done.clear();
    return 0;
}

ssize_t real_path(Connection& connection, const char* path, char* out, std::size_t size) {
    connection.clear_reason();
    Walk walk{.of_directory = names_directory(path)};
    if (const int error = write_canonical(connection, path, walk.rest); error < 0) return error;
    struct statx status{};
    // Also tells whether it is there, and a directory where it is written as one.
    if (const int error = ask_status(connection, path, 0, status); error < 0 && error != -ELOOP) return error;
    while (!walk.rest.empty() && walk.rest != "/")
        if (const int error = step(connection, walk); error < 0) return error;
    connection.clear_reason();
    return write_text(connection, walk.done.empty() ? "/" : walk.done, out, size);
}

// The flags of open(2) that a mode of fopen(3) stands for; negative: it is none.
int flags_of(const char* mode) {
    int flags = 0;
    switch (*mode) {
        case 'r':
            flags = O_RDONLY;
            break;
        case 'w':
            flags = O_WRONLY | O_CREAT | O_TRUNC;
            break;
        case 'a':
            flags = O_WRONLY | O_CREAT | O_APPEND;
            break;
        default:
            return -EINVAL;
    }
    for (const char* at = mode + 1; *at != '\0' && *at != ','; ++at) {
        if (*at == '+') flags = (flags & ~O_ACCMODE) | O_RDWR;
        if (*at == 'x') flags |= O_EXCL;
    }
    return flags;
}

int open_stream(Connection& connection, const char* path, const char* mode, std::FILE*& stream) {
    const int flags = flags_of(mode);
    if (flags < 0) return connection.refuse(EINVAL, "a mode that is none");
    UniqueFd file(connection.ask(
        {.call = Call::open, .path = path, .flags = static_cast<std::uint32_t>(flags), .mode = 0666}));
    if (!file) return file.number();
    stream = ::fdopen(file.number(), mode);
    if (stream == nullptr) return connection.refuse(errno, "no stream could be made");
    static_cast<void>(file.release());
    return 0;
}

}  // namespace
}  // namespace fdbroker::worker

using namespace fdbroker::worker;

int fdbroker_set_directory(fdbroker_handle* broker, const char* base) {
    if (broker == nullptr) return -EFAULT;
    return guarded(broker, [&](Connection& connection) { return set_directory(connection, base); });
}

ssize_t fdbroker_normalize(const char* base, const char* path, char* out, size_t size) {
    if (path == nullptr || out == nullptr) return -EFAULT;
    return guarded([&] { return normalize(base, path, out, size); });
}

int fdbroker_stat_posix(fdbroker_handle* broker, const char* path, int flags, struct stat* status) {
    if (broker == nullptr || status == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) {
        struct statx told{};
        const int error = ask_status(connection, path, flags, told);
        if (error == 0) convert(told, *status);
        return error;
    });
}

void fdbroker_status_posix(const struct statx* status, struct stat* posix) {
    if (status != nullptr && posix != nullptr) convert(*status, *posix);
}

int fdbroker_access(fdbroker_handle* broker, const char* path, int mode) {
    if (broker == nullptr) return -EFAULT;
    return guarded(broker, [&](Connection& connection) { return access(connection, path, mode); });
}

ssize_t fdbroker_realpath(fdbroker_handle* broker, const char* path, char* out, size_t size) {
    if (broker == nullptr || path == nullptr || out == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) { return real_path(connection, path, out, size); });
}

FILE* fdbroker_fopen(fdbroker_handle* broker, const char* path, const char* mode) {
    std::FILE* stream = nullptr;
    const int error =
        broker == nullptr || mode == nullptr ? fault(broker) : guarded(broker, [&](Connection& connection) {
            return open_stream(connection, path, mode, stream);
        });
    if (error < 0) errno = -error;
    return stream;
}
