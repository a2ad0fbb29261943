// SPDX-License-Identifier: MIT
// stat(2), access(2), statfs(2) and their kin. None is continued: owners would show as the namespace has them.
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "worker/client/status.hpp"
#include "worker/run/handlers.hpp"

namespace fdbroker::worker {
namespace {

using proto::UniqueFd;
using Status = struct statx;

constexpr unsigned asked_fields = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID;

struct stat stat_of(const Status& from) {
    struct stat to{};
    to.st_dev = makedev(from.stx_dev_major, from.stx_dev_minor);
    to.st_ino = from.stx_ino;
    to.st_nlink = from.stx_nlink;
    to.st_mode = from.stx_mode;
    to.st_uid = from.stx_uid;
    to.st_gid = from.stx_gid;
    to.st_rdev = makedev(from.stx_rdev_major, from.stx_rdev_minor);
    to.st_size = static_cast<off_t>(from.stx_size);
    to.st_blksize = from.stx_blksize;
    to.st_blocks = static_cast<blkcnt_t>(from.stx_blocks);
    const auto time_of = [](const statx_timestamp& time) {
        return timespec{.tv_sec = time.tv_sec, .tv_nsec = static_cast<long>(time.tv_nsec)};
    };
    to.st_atim = time_of(from.stx_atime);
    to.st_mtim = time_of(from.stx_mtime);
    to.st_ctim = time_of(from.stx_ctime);
    return to;
}

// The status of what `open` opens without following anything, with its true owner.
template <typename Open>
Status with_owner(const Call& call, Status status, Open open) {
    Identities& identities = call.services.identities;
    const struct stat shown = stat_of(status);
    if (!identities.is_hidden(shown)) return status;
    auto owner = identities.known_owner_of(shown);
    if (!owner) {
        const OrErrno<UniqueFd> file = open();
        if (!file || !*file) return status;
        owner = identities.ask_for_owner(shown, file->borrow());
    }
    status.stx_uid = owner->uid;
    status.stx_gid = owner->gid;
    return status;
}

OrErrno<Status> native_status(const Call& call, const std::string& path, LastLink last) {
    const int keep = last == LastLink::keep ? AT_SYMLINK_NOFOLLOW : 0;
    Status status{};
    if (::statx(AT_FDCWD, path.c_str(), keep, asked_fields, &status) != 0) return std::unexpected(errno);
    // A link at the top of the view is this worker's, and stands for one of root's.
    if (call.services.view.is_stand_in(stat_of(status))) {
        status.stx_uid = 0;
        status.stx_gid = 0;
        return status;
    }
    const int flags = O_PATH | O_CLOEXEC | (keep != 0 ? O_NOFOLLOW : 0);
    return with_owner(call, status, [&] { return OrErrno<UniqueFd>(UniqueFd(::open(path.c_str(), flags))); });
}

Task<OrErrno<Status>> brokered_status(const Call& call, std::string path, LastLink last) {
    const Ask ask{.call = proto::Call::stat,
                  .path = path.c_str(),
                  .flags = last == LastLink::keep ? AT_SYMLINK_NOFOLLOW : 0u};
    const Reply reply = co_await call.ask(ask);
    if (reply.result < 0) {
        // The directories on the way to brokered ones say that they are directories, and nothing else.
        if (reply.result == -EACCES && call.services.view.has_directory(path)) {
            Status stand_in{};
            if (::statx(AT_FDCWD, path.c_str(), 0, asked_fields, &stand_in) != 0)
                co_return std::unexpected(errno);
            stand_in.stx_uid = 0;
            stand_in.stx_gid = 0;
            co_return stand_in;
        }
        co_return std::unexpected(-reply.result);
    }
    Status status{};
    if (!read_statx(reply.payload, status)) co_return std::unexpected(EIO);
    if (S_ISDIR(status.stx_mode)) call.services.pages.note_inode(path, status.stx_ino);
    co_return status;
}

// Files of this worker's procfs; a link is the program's descriptor.
Task<OrErrno<Status>> process_status(const Call& call, Location location, LastLink last);

Task<OrErrno<Status>> descriptor_status(const Call& call, int descriptor) {
    const OrErrno<Status> status = call.target.full_status_of(descriptor, asked_fields);
    if (!status) co_return status;
    if (call.services.view.is_stand_in(stat_of(*status))) {
        auto path = call.target.path_of(descriptor);
        if (path) {
            OrErrno<Status> brokered = co_await brokered_status(call, std::move(*path), LastLink::keep);
            if (brokered) co_return brokered;
        }
    }
    co_return with_owner(call, *status, [&] { return call.target.find(descriptor); });
}

Task<OrErrno<Status>> process_status(const Call& call, Location location, LastLink last) {
    const auto own = own_proc_part(call.target, location.path);
    if (own && own->starts_with("fd/") && last == LastLink::follow) {
        OrErrno<Status> status = co_await descriptor_status(call, std::atoi(own->c_str() + 3));
        co_return status;
    }
    const std::string below =
        own ? std::to_string(call.target.thread()) + (own->empty() ? "" : "/" + *own)
            : std::string(location.path.substr(std::min<std::size_t>(location.path.size(), 6)));
    if (!own && !is_public_proc_file(below)) co_return std::unexpected(ENOENT);
    Status status{};
    if (::statx(call.services.proc.number(), below.c_str(), AT_SYMLINK_NOFOLLOW, asked_fields, &status) != 0)
        co_return std::unexpected(errno);
    co_return status;
}

Task<OrErrno<Status>> status_at(const Call& call, int directory, std::uint64_t path, LastLink last) {
    OrErrno<Location> location = co_await call.locate(directory, path, last);
    if (!location) co_return std::unexpected(location.error());
    const bool wants_directory = location->wants_directory;
    if (wants_directory) last = LastLink::follow;
    OrErrno<Status> status = std::unexpected(EIO);
    switch (location->region) {
        case Region::native:
            status = native_status(call, location->path, last);
            break;
        case Region::process:
            status = co_await process_status(call, std::move(*location), last);
            break;
        case Region::brokered:
            status = co_await brokered_status(call, std::move(location->path), last);
            break;
    }
    if (status && wants_directory && !S_ISDIR(status->stx_mode)) co_return std::unexpected(ENOTDIR);
    co_return status;
}

// An empty path with AT_EMPTY_PATH stands for the descriptor itself; AT_FDCWD for the working directory.
Task<OrErrno<Status>> status_by_flags(const Call& call, int directory, std::uint64_t path, unsigned flags) {
    const LastLink last = (flags & AT_SYMLINK_NOFOLLOW) != 0 ? LastLink::keep : LastLink::follow;
    if ((flags & AT_EMPTY_PATH) != 0) {
        // From Linux 6.11 on NULL is an empty path.
        const auto text = path == 0 ? std::string() : call.target.read_string(path, PATH_MAX);
        if (!text) co_return std::unexpected(text.error());
        if (text->empty() && directory != AT_FDCWD) {
            OrErrno<Status> status = co_await descriptor_status(call, directory);
            co_return status;
        }
        if (text->empty()) {
            OrErrno<Location> here = co_await call.locate(AT_FDCWD, std::string("."), LastLink::keep);
            if (!here) co_return std::unexpected(here.error());
            if (here->region == Region::native) co_return native_status(call, here->path, LastLink::keep);
            OrErrno<Status> status = co_await brokered_status(call, std::move(here->path), LastLink::keep);
            co_return status;
        }
    }
    OrErrno<Status> status = co_await status_at(call, directory, path, last);
    co_return status;
}

Answer tell(const Call& call, const OrErrno<Status>& status, std::uint64_t address) {
    if (!status) return Answer::failure(status.error());
    const auto written = call.target.write_object(address, stat_of(*status));
    return written ? Answer::of(0) : Answer::failure(written.error());
}

// Whether the program may: the rights that the broker would grant are found out by asking for them.
Task<Answer> brokered_access(const Call& call, std::string path, LastLink last, int mode) {
    const unsigned keep = last == LastLink::keep ? O_NOFOLLOW : 0;
    const bool writes = (mode & W_OK) != 0;
    const unsigned writing = (mode & R_OK) != 0 ? O_RDWR : O_WRONLY;
    const unsigned rights = writes ? writing : O_RDONLY;
    int error = 0;
    if ((mode & (R_OK | W_OK)) != 0) {
        const OrErrno<UniqueFd> file = co_await open_brokered(call, path, rights | O_NONBLOCK | keep, 0);
        struct stat status;
        if (file && (mode & X_OK) == 0) co_return Answer::of(0);
        if (file && ::fstat(file->number(), &status) == 0)
            co_return (status.st_mode & 0111) != 0 ? Answer::of(0) : Answer::failure(EACCES);
        error = file ? errno : file.error();
        if (error == ENOENT || error == ENOTDIR) co_return Answer::failure(error);
    }
    const OrErrno<Status> status = co_await brokered_status(call, std::move(path), last);
    if (!status) co_return Answer::failure(status.error());
    if (!S_ISREG(status->stx_mode)) co_return Answer::of(0);
    if ((mode & X_OK) != 0 && (status->stx_mode & 0111) == 0) co_return Answer::failure(EACCES);
    co_return Answer::of(-error);
}

Task<Answer> access_at(const Call& call, int directory, std::uint64_t path, int mode, unsigned flags) {
    const LastLink last = (flags & AT_SYMLINK_NOFOLLOW) != 0 ? LastLink::keep : LastLink::follow;
    if ((mode & ~(R_OK | W_OK | X_OK)) != 0) co_return Answer::failure(EINVAL);
    OrErrno<Location> location = co_await call.locate(directory, path, last);
    if (!location) co_return Answer::failure(location.error());
    switch (location->region) {
        case Region::native: {
            const int error =
                ::faccessat(AT_FDCWD, location->path.c_str(), mode, static_cast<int>(flags)) == 0 ? 0 : errno;
            co_return Answer::of(-error);
        }
        case Region::process: {
            const OrErrno<Status> status = co_await process_status(call, std::move(*location), last);
            co_return Answer::of(status ? 0 : -status.error());
        }
        case Region::brokered:
            break;
    }
    Answer answer = co_await brokered_access(call, std::move(location->path), last, mode);
    co_return answer;
}

}  // namespace

Task<Answer> handle_stat(const Call& call) {
    const OrErrno<Status> status = co_await status_at(call, AT_FDCWD, call.argument(0), LastLink::follow);
    co_return tell(call, status, call.argument(1));
}

Task<Answer> handle_lstat(const Call& call) {
    const OrErrno<Status> status = co_await status_at(call, AT_FDCWD, call.argument(0), LastLink::keep);
    co_return tell(call, status, call.argument(1));
}

Task<Answer> handle_fstat(const Call& call) {
    const OrErrno<Status> status = co_await descriptor_status(call, call.number(0));
    co_return tell(call, status, call.argument(1));
}

Task<Answer> handle_newfstatat(const Call& call) {
    const OrErrno<Status> status =
        co_await status_by_flags(call, call.number(0), call.argument(1), call.bits(3));
    co_return tell(call, status, call.argument(2));
}

Task<Answer> handle_statx(const Call& call) {
    const OrErrno<Status> status =
        co_await status_by_flags(call, call.number(0), call.argument(1), call.bits(2));
    if (!status) co_return Answer::failure(status.error());
    const auto written = call.target.write_object(call.argument(4), *status);
    co_return written ? Answer::of(0) : Answer::failure(written.error());
}

Task<Answer> handle_access(const Call& call) {
    return access_at(call, AT_FDCWD, call.argument(0), call.number(1), 0);
}

Task<Answer> handle_faccessat(const Call& call) {
    // faccessat(2) has no flags; faccessat2(2) has.
    const unsigned flags = call.is(SYS_faccessat2) ? call.bits(3) : 0;
    return access_at(call, call.number(0), call.argument(1), call.number(2), flags);
}

// The broker has no such call. A file that may be read tells of the filesystem it lies on; other paths tell the size of a
// block and nothing else.
Task<Answer> handle_statfs(const Call& call) {
    OrErrno<Location> location = co_await call.locate(AT_FDCWD, call.argument(0), LastLink::follow);
    if (!location) co_return Answer::failure(location.error());
    if (location->region != Region::brokered) co_return Answer::go_on();
    const OrErrno<Status> status = co_await brokered_status(call, location->path, LastLink::follow);
    if (!status) co_return Answer::failure(status.error());
    struct statfs told{};
    told.f_bsize = status->stx_blksize;
    told.f_frsize = status->stx_blksize;
    told.f_namelen = 255;
    if (S_ISREG(status->stx_mode)) {
        const OrErrno<UniqueFd> file =
            co_await open_brokered(call, std::move(location->path), O_RDONLY | O_NONBLOCK, 0);
        if (struct statfs known; file && ::fstatfs(file->number(), &known) == 0) told = known;
    }
    const auto written = call.target.write_object(call.argument(1), told);
    co_return written ? Answer::of(0) : Answer::failure(written.error());
}

}  // namespace fdbroker::worker
