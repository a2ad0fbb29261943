// SPDX-License-Identifier: MIT
// open(2) and its kin.
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "proto/payload.hpp"
#include "worker/run/handlers.hpp"

namespace fdbroker::worker {
// Not in the unnamed namespace: a coroutine's frame holds it (-Wsubobject-linkage in a build in one piece).
struct OpenCall {
    int directory;
    std::uint64_t path;
    unsigned flags;
    mode_t mode;
};

namespace {

using proto::UniqueFd;

constexpr unsigned kernel_largefile = 0100000;  // O_LARGEFILE, which glibc defines as 0
// Flags of open(2) that a broker takes.
constexpr unsigned brokered_flags = O_ACCMODE | O_APPEND | O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW | O_SYNC |
                                    O_DSYNC | O_NOATIME | O_DIRECT | O_NONBLOCK | O_NOCTTY;
constexpr unsigned tmpfile_flag = O_TMPFILE & ~O_DIRECTORY;

unsigned close_on_exec(unsigned flags) {
    return flags & O_CLOEXEC;
}

bool only_reads(unsigned flags) {
    return (flags & O_ACCMODE) == O_RDONLY && (flags & (O_CREAT | O_TRUNC)) == 0;
}

// The descriptor of a brokered directory is its stand-in's. The broker is asked for the first page: a directory that
// may not be listed does not open.
Task<Answer> open_directory(const Call& call, std::string path, unsigned flags) {
    const auto cursor = proto::number_payload(0);
    const Ask ask{.call = proto::Call::list, .path = path.c_str(), .payload = {cursor.data(), cursor.size()}};
    Reply page = co_await call.ask(ask);
    if (page.result < 0) co_return Answer::failure(-page.result);
    const OrErrno<void> made = co_await make_stand_in(call, path);
    if (!made) co_return Answer::failure(made.error());
    auto directory = call.services.view.open_directory(path);
    if (!directory) co_return Answer::failure(directory.error());
    struct stat status;
    if (::fstat(directory->number(), &status) == 0)
        call.services.pages.keep_first(status.st_ino, std::move(page.payload));
    co_return Answer::deliver(std::move(*directory), close_on_exec(flags));
}

// O_PATH opens the stand-in: what is done by the descriptor is done at its path. The kernel opens it, since a descriptor of
// O_PATH cannot be injected (EBADF). A path that is exchanged meanwhile leads to another stand-in or into the runtime.
Task<Answer> open_as_path(const Call& call, std::string path, unsigned flags) {
    const Ask ask{.call = proto::Call::stat,
                  .path = path.c_str(),
                  .flags = (flags & O_NOFOLLOW) != 0 ? AT_SYMLINK_NOFOLLOW : 0u};
    const Reply reply = co_await call.ask(ask);
    const auto status = proto::read_status(reply.payload);
    const bool leads_on = reply.result == -EACCES && call.services.view.has_directory(path);
    if (leads_on) co_return Answer::go_on();
    if (reply.result < 0) co_return Answer::failure(-reply.result);
    if (!status) co_return Answer::failure(EIO);
    OrErrno<void> made = std::unexpected(EIO);
    if (S_ISLNK(status->mode)) {
        const Ask link_ask{.call = proto::Call::readlink, .path = path.c_str()};
        const Reply link = co_await call.ask(link_ask);
        if (link.result < 0) co_return Answer::failure(-link.result);
        made = call.services.view.make_link(link.payload, path);
    } else if (S_ISDIR(status->mode)) {
        made = co_await make_stand_in(call, path);
    } else {
        made = call.services.view.make_file(path);
    }
    co_return made ? Answer::go_on() : Answer::failure(made.error());
}

Task<Answer> open_file(const Call& call, std::string path, unsigned flags, mode_t mode) {
    if ((flags & O_CREAT) != 0) {
        const auto umask = call.target.umask();
        mode &= ~umask.value_or(0);
    }
    OrErrno<UniqueFd> file = co_await open_brokered(call, path, flags & brokered_flags, mode);
    if (file) co_return Answer::deliver(std::move(*file), close_on_exec(flags));
    if (!only_reads(flags) || file.error() != EISDIR) co_return Answer::failure(file.error());
    Answer directory = co_await open_directory(call, std::move(path), flags);
    co_return directory;
}

Task<Answer> open_at(const Call& call, OpenCall open) {
    unsigned flags = open.flags & ~kernel_largefile;
    const bool keeps_link = (flags & O_NOFOLLOW) != 0 || ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0);
    OrErrno<Location> location =
        co_await call.locate(open.directory, open.path, keeps_link ? LastLink::keep : LastLink::follow);
    if (!location) co_return Answer::failure(location.error());
    if (location->region == Region::native) co_return Answer::go_on();
    if (location->region == Region::process) {
        Answer answer = co_await open_process_file(call, *location, flags);
        co_return answer;
    }
    if ((flags & O_PATH) == 0 && (flags & tmpfile_flag) != 0) co_return Answer::failure(EOPNOTSUPP);
    if (location->wants_directory) {
        if ((flags & O_CREAT) != 0) co_return Answer::failure(EISDIR);
        flags |= O_DIRECTORY;
    }
    if ((flags & O_PATH) != 0) {
        Answer answer = co_await open_as_path(call, std::move(location->path), flags);
        co_return answer;
    }
    if ((flags & O_DIRECTORY) != 0) {
        if ((flags & O_CREAT) != 0) co_return Answer::failure(EINVAL);
        if ((flags & O_ACCMODE) != O_RDONLY) co_return Answer::failure(EISDIR);
        Answer answer = co_await open_directory(call, std::move(location->path), flags);
        co_return answer;
    }
    // On Linux it truncates; the broker refuses what nobody means.
    if ((flags & O_ACCMODE) == O_RDONLY) flags &= ~static_cast<unsigned>(O_TRUNC);
    Answer answer = co_await open_file(call, std::move(location->path), flags, open.mode & 07777);
    co_return answer;
}

}  // namespace

Task<OrErrno<UniqueFd>> open_brokered(const Call& call, std::string path, unsigned flags, mode_t mode) {
    const Ask ask{.call = proto::Call::open, .path = path.c_str(), .flags = flags, .mode = mode};
    Reply reply = co_await call.ask(ask);
    if (reply.result < 0) co_return std::unexpected(-reply.result);
    struct stat status;
    if (::fstat(reply.file.number(), &status) == 0) call.services.files.note(status, std::move(path));
    co_return std::move(reply.file);
}

Task<Answer> handle_open(const Call& call) {
    return open_at(call, {AT_FDCWD, call.argument(0), call.bits(1), static_cast<mode_t>(call.bits(2))});
}

Task<Answer> handle_creat(const Call& call) {
    return open_at(
        call, {AT_FDCWD, call.argument(0), O_CREAT | O_WRONLY | O_TRUNC, static_cast<mode_t>(call.bits(1))});
}

Task<Answer> handle_openat(const Call& call) {
    return open_at(call, {call.number(0), call.argument(1), call.bits(2), static_cast<mode_t>(call.bits(3))});
}

Task<Answer> handle_openat2(const Call& call) {
    // Read once: what is checked is what is used.
    const auto how = call.target.read_object<open_how>(call.argument(2));
    if (!how) co_return Answer::failure(how.error());
    if (call.argument(3) < sizeof(open_how)) co_return Answer::failure(EINVAL);
    if (call.argument(3) > sizeof(open_how)) co_return Answer::failure(E2BIG);
    // Nobody could keep what the resolve flags promise across a broker: programs fall back to openat(2).
    if (how->resolve != 0) co_return Answer::failure(ENOSYS);
    const OpenCall open{call.number(0), call.argument(1), static_cast<unsigned>(how->flags),
                        static_cast<mode_t>(how->mode)};
    Answer answer = co_await open_at(call, open);
    co_return answer;
}

}  // namespace fdbroker::worker
