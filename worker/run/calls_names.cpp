// SPDX-License-Identifier: MIT
// Calls that make, read, remove and rename names.
#include <linux/fs.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "proto/payload.hpp"
#include "worker/run/handlers.hpp"

namespace fdbroker::worker {
namespace {

Task<Answer> read_link_at(const Call& call, int directory, std::uint64_t path, std::uint64_t buffer,
                          std::uint64_t size) {
    // By descriptor: the link is a stand-in, or one of the runtime.
    const auto text = call.target.read_string(path, PATH_MAX);
    if (text && text->empty() && directory != AT_FDCWD) co_return Answer::go_on();
    OrErrno<Location> location = co_await call.locate(directory, path, LastLink::keep);
    if (!location) co_return Answer::failure(location.error());
    if (static_cast<std::int64_t>(size) <= 0) co_return Answer::failure(EINVAL);
    std::string target;
    switch (location->region) {
        case Region::native:
            co_return Answer::go_on();
        case Region::process: {
            auto link = read_process_link(call, *location);
            if (!link) co_return Answer::failure(link.error());
            target = std::move(*link);
            break;
        }
        case Region::brokered: {
            const Ask ask{.call = proto::Call::readlink, .path = location->path.c_str()};
            Reply reply = co_await call.ask(ask);
            // A directory on the way to brokered ones is no link.
            if (reply.result == -EACCES && call.services.view.has_directory(location->path))
                co_return Answer::failure(EINVAL);
            if (reply.result < 0) co_return Answer::failure(-reply.result);
            target = std::move(reply.payload);
            break;
        }
    }
    const auto told = std::as_bytes(std::span(target)).first(std::min<std::size_t>(target.size(), size));
    const auto written = call.target.write(buffer, told);
    if (!written) co_return Answer::failure(written.error());
    co_return Answer::of(static_cast<std::int64_t>(told.size()));
}

Task<Answer> make_directory_at(const Call& call, int directory, std::uint64_t path, mode_t mode) {
    OrErrno<Location> location = co_await call.locate(directory, path, LastLink::keep);
    if (!location) co_return Answer::failure(location.error());
    if (location->region == Region::native) co_return Answer::go_on();
    if (location->region == Region::process || location->path == "/") co_return Answer::failure(EEXIST);
    const auto umask = call.target.umask();
    const Ask ask{.call = proto::Call::mkdir,
                  .path = location->path.c_str(),
                  .mode = mode & 01777 & ~umask.value_or(0)};
    const Reply reply = co_await call.ask(ask);
    if (reply.result != -EACCES) co_return Answer::of(reply.result);
    // EEXIST comes before EACCES, whether something could be made there or not: mkdir -p goes by that.
    if (call.services.view.has_directory(location->path)) co_return Answer::failure(EEXIST);
    const Ask status_ask{
        .call = proto::Call::stat, .path = location->path.c_str(), .flags = AT_SYMLINK_NOFOLLOW};
    const Reply status = co_await call.ask(status_ask);
    co_return Answer::failure(status.result == 0 ? EEXIST : EACCES);
}

Task<Answer> remove_at(const Call& call, int directory, std::uint64_t path, unsigned flags) {
    if ((flags & ~static_cast<unsigned>(AT_REMOVEDIR)) != 0) co_return Answer::failure(EINVAL);
    OrErrno<Location> location = co_await call.locate(directory, path, LastLink::keep);
    if (!location) co_return Answer::failure(location.error());
    if (location->region == Region::native) co_return Answer::go_on();
    if (location->region == Region::process) co_return Answer::failure(EPERM);
    if (location->wants_directory && (flags & AT_REMOVEDIR) == 0) co_return Answer::failure(EISDIR);
    const Ask ask{.call = proto::Call::remove, .path = location->path.c_str(), .flags = flags};
    const Reply reply = co_await call.ask(ask);
    if (reply.result == 0) call.services.view.forget(location->path);
    co_return Answer::of(reply.result);
}

struct Names {
    int old_directory;
    std::uint64_t old_path;
    int new_directory;
    std::uint64_t new_path;
};

Task<Answer> rename_at(const Call& call, Names names, unsigned flags) {
    OrErrno<Location> from = co_await call.locate(names.old_directory, names.old_path, LastLink::keep);
    if (!from) co_return Answer::failure(from.error());
    OrErrno<Location> to = co_await call.locate(names.new_directory, names.new_path, LastLink::keep);
    if (!to) co_return Answer::failure(to.error());
    if (from->region != to->region) co_return Answer::failure(EXDEV);
    if (from->region == Region::native) co_return Answer::go_on();
    if (from->region == Region::process) co_return Answer::failure(EPERM);
    if ((flags & ~static_cast<unsigned>(RENAME_NOREPLACE)) != 0) co_return Answer::failure(EINVAL);
    const auto new_path = proto::text_payload(to->path.c_str());
    const Ask ask{
        .call = proto::Call::rename, .path = from->path.c_str(), .flags = flags, .payload = new_path};
    const Reply reply = co_await call.ask(ask);
    if (reply.result == 0) {
        call.services.view.follow_rename(from->path, to->path);
        call.services.files.renamed(from->path, to->path);
    }
    co_return Answer::of(reply.result);
}

Task<Answer> link_to(const Call& call, std::uint64_t target, int directory, std::uint64_t path) {
    const auto text = call.target.read_string(target, PATH_MAX);
    if (!text) co_return Answer::failure(text.error());
    OrErrno<Location> location = co_await call.locate(directory, path, LastLink::keep);
    if (!location) co_return Answer::failure(location.error());
    if (location->region == Region::native) co_return Answer::go_on();
    if (location->region == Region::process) co_return Answer::failure(EPERM);
    const auto payload = proto::text_payload(text->c_str());
    const Ask ask{.call = proto::Call::symlink, .path = location->path.c_str(), .payload = payload};
    const Reply reply = co_await call.ask(ask);
    co_return Answer::of(reply.result);
}

// There are no hard links in a policy; in the program's own scratch directory the kernel has them.
Task<Answer> hard_link(const Call& call, Names names, unsigned flags) {
    if ((flags & AT_EMPTY_PATH) != 0) co_return Answer::failure(ENOENT);
    const OrErrno<Location> from = co_await call.locate(names.old_directory, names.old_path, LastLink::keep);
    if (!from) co_return Answer::failure(from.error());
    const OrErrno<Location> to = co_await call.locate(names.new_directory, names.new_path, LastLink::keep);
    if (!to) co_return Answer::failure(to.error());
    if (from->region == Region::native && to->region == Region::native) co_return Answer::go_on();
    co_return Answer::failure(from->region == to->region ? EPERM : EXDEV);
}

Task<Answer> make_node(const Call& call, int directory, std::uint64_t path) {
    const OrErrno<Location> location = co_await call.locate(directory, path, LastLink::keep);
    if (!location) co_return Answer::failure(location.error());
    co_return location->region == Region::native ? Answer::go_on() : Answer::failure(EPERM);
}

}  // namespace

Task<Answer> handle_readlink(const Call& call) {
    return read_link_at(call, AT_FDCWD, call.argument(0), call.argument(1), call.argument(2));
}
Task<Answer> handle_readlinkat(const Call& call) {
    return read_link_at(call, call.number(0), call.argument(1), call.argument(2), call.argument(3));
}
Task<Answer> handle_mkdir(const Call& call) {
    return make_directory_at(call, AT_FDCWD, call.argument(0), call.bits(1));
}
Task<Answer> handle_mkdirat(const Call& call) {
    return make_directory_at(call, call.number(0), call.argument(1), call.bits(2));
}
Task<Answer> handle_unlink(const Call& call) {
    return remove_at(call, AT_FDCWD, call.argument(0), 0);
}
Task<Answer> handle_unlinkat(const Call& call) {
    return remove_at(call, call.number(0), call.argument(1), call.bits(2));
}
Task<Answer> handle_rmdir(const Call& call) {
    return remove_at(call, AT_FDCWD, call.argument(0), AT_REMOVEDIR);
}
Task<Answer> handle_rename(const Call& call) {
    return rename_at(call, {AT_FDCWD, call.argument(0), AT_FDCWD, call.argument(1)}, 0);
}
Task<Answer> handle_renameat(const Call& call) {
    return rename_at(call, {call.number(0), call.argument(1), call.number(2), call.argument(3)}, 0);
}
Task<Answer> handle_renameat2(const Call& call) {
    return rename_at(call, {call.number(0), call.argument(1), call.number(2), call.argument(3)},
                     call.bits(4));
}
Task<Answer> handle_symlink(const Call& call) {
    return link_to(call, call.argument(0), AT_FDCWD, call.argument(1));
}
Task<Answer> handle_symlinkat(const Call& call) {
    return link_to(call, call.argument(0), call.number(1), call.argument(2));
}
Task<Answer> handle_link(const Call& call) {
    return hard_link(call, {AT_FDCWD, call.argument(0), AT_FDCWD, call.argument(1)}, 0);
}
Task<Answer> handle_linkat(const Call& call) {
    return hard_link(call, {call.number(0), call.argument(1), call.number(2), call.argument(3)},
                     call.bits(4));
}
Task<Answer> handle_mknod(const Call& call) {
    return make_node(call, AT_FDCWD, call.argument(0));
}
Task<Answer> handle_mknodat(const Call& call) {
    return make_node(call, call.number(0), call.argument(1));
}

}  // namespace fdbroker::worker
