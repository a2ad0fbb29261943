// SPDX-License-Identifier: MIT
#include "worker/client/fake_broker.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "proto/payload.hpp"

namespace fdbroker::worker {
namespace {

using proto::BorrowedFd;
using proto::Call;
using proto::Request;
using proto::UniqueFd;

bool is_canonical(std::string_view path) {
    if (path.empty() || path.front() != '/' || path.contains('\0')) return false;
    if (path == "/") return true;
    const std::string around = std::string(path) + "/";
    return !around.contains("//") && !around.contains("/./") && !around.contains("/../");
}

// Whether an all-or-nothing message may hold this request.
bool changes_nothing(const Request& request) {
    if (request.call == Call::open) return (request.flags & (O_CREAT | O_TRUNC)) == 0;
    return request.call == Call::stat || request.call == Call::readlink;
}

// The same where openat2(2) is not to be had, as under valgrind: name by name.
UniqueFd open_by_names(BorrowedFd root, std::string_view path, int flags, mode_t mode) {
    UniqueFd directory(::openat(root.number(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    path.remove_prefix(1);
    for (std::size_t slash = 0; directory && (slash = path.find('/')) != std::string_view::npos;) {
        const std::string name(path.substr(0, slash));
        path.remove_prefix(slash + 1);
        struct stat status{};
        UniqueFd next(::openat(directory.number(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        if (next && ::fstat(next.number(), &status) == 0 && S_ISLNK(status.st_mode))
            return errno = ELOOP, UniqueFd();
        directory = std::move(next);
    }
    if (!directory) return {};
    const std::string name = path.empty() ? "." : std::string(path);
    UniqueFd opened(::openat(directory.number(), name.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, mode));
    struct stat status{};
    // With O_DIRECTORY a link is ENOTDIR there.
    if (!opened && errno == ENOTDIR &&
        ::fstatat(directory.number(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0)
        errno = S_ISLNK(status.st_mode) ? ELOOP : ENOTDIR;
    return opened;
}

// Opens a canonical path below `root`, without following a link.
UniqueFd open_below(BorrowedFd root, std::string_view path, std::uint64_t flags, std::uint64_t mode = 0) {
    const std::string name = path == "/" ? "." : std::string(path.substr(1));
    open_how how{};
    how.flags = flags | O_CLOEXEC;
    how.mode = mode;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    const long opened = ::syscall(SYS_openat2, root.number(), name.c_str(), &how, sizeof how);
    if (opened < 0 && errno == ENOSYS)
        return open_by_names(root, path, static_cast<int>(flags), static_cast<mode_t>(mode));
    return UniqueFd(static_cast<int>(opened));
}

// The status of a path, as stat tells it.
int look_at(BorrowedFd root, std::string_view path, bool keeps_link, proto::Status& told) {
    const UniqueFd file = open_below(root, path, O_PATH | O_NOFOLLOW);
    struct statx status{};
    if (!file || ::statx(file.number(), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &status) != 0)
        return -1;
    if (S_ISLNK(status.stx_mode) && !keeps_link) return errno = ELOOP, -1;
    told = proto::status_of(status);
    return 0;
}

// The directory of a path, and the name in it.
struct Place {
    UniqueFd directory;
    std::string name;
};

Place place_of(BorrowedFd root, std::string_view path) {
    const std::size_t slash = path.rfind('/');
    return {.directory = open_below(root, slash == 0 ? "/" : path.substr(0, slash), O_PATH | O_DIRECTORY),
            .name = std::string(path.substr(slash + 1))};
}

// A path that stands for a descriptor where only a path will do.
std::string path_of(const UniqueFd& file) {
    return "/proc/self/fd/" + std::to_string(file.number());
}

int set_attributes(BorrowedFd root, const Request& request) {
    const UniqueFd file = open_below(root, request.path, O_PATH | O_NOFOLLOW);
    struct stat status{};
    if (!file || ::fstat(file.number(), &status) != 0) return -1;
    const bool is_link = S_ISLNK(status.st_mode);
    if (is_link && (request.flags & proto::setattr_link) == 0) return errno = ELOOP, -1;
    if (is_link && (request.flags & proto::setattr_mode) != 0) return errno = EOPNOTSUPP, -1;
    if ((request.flags & proto::setattr_mode) != 0 && ::chmod(path_of(file).c_str(), request.mode) != 0)
        return -1;
    const auto times = proto::read_times(request.payload);
    if ((request.flags & proto::setattr_times) == 0 || !times) return 0;
    const auto spec = [](const proto::Timestamp& time) {
        return timespec{.tv_sec = time.seconds, .tv_nsec = time.nanoseconds};
    };
    const std::array<timespec, 2> both{spec(times->access), spec(times->modification)};
    return is_link ? ::utimensat(file.number(), "", both.data(), AT_EMPTY_PATH)
                   : ::utimensat(AT_FDCWD, path_of(file).c_str(), both.data(), 0);
}

// getxattr(2) and listxattr(2): `call` fills a buffer and returns how much.
template <typename Fill>
int fill(std::string& to, Fill call) {
    to.resize(proto::max_message_size);
    const ssize_t size = call(to.data(), to.size());
    to.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return size < 0 ? -1 : 0;
}

int extended_attribute(BorrowedFd root, const Request& request, std::string& answer) {
    const UniqueFd file = open_below(root, request.path, O_PATH | O_NOFOLLOW);
    if (!file) return -1;
    const std::string path = path_of(file);
    const char* name = request.payload.data();
    if (request.call == Call::xattr_list)
        return fill(answer, [&](char* to, std::size_t room) { return ::listxattr(path.c_str(), to, room); });
    if (request.call == Call::xattr_read)
        return fill(answer,
                    [&](char* to, std::size_t room) { return ::getxattr(path.c_str(), name, to, room); });
    if (request.call == Call::xattr_remove) return ::removexattr(path.c_str(), name);
    const auto attribute = proto::read_attribute(request.payload);
    if (!attribute) return errno = EINVAL, -1;
    return ::setxattr(path.c_str(), name, attribute->value.data(), attribute->value.size(),
                      static_cast<int>(request.flags));
}

}  // namespace

proto::Result<std::unique_ptr<FakeBroker>> FakeBroker::make(const std::string& root) {
    std::unique_ptr<ScratchDirectory> scratch;
    if (root.empty()) {
        auto made = ScratchDirectory::make();
        if (!made) return std::unexpected(made.error());
        scratch = std::move(*made);
    }
    UniqueFd directory(::open((scratch ? scratch->path() : root).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!directory) return proto::system_error("open", root);
    return std::unique_ptr<FakeBroker>(new FakeBroker(std::move(scratch), std::move(directory)));
}

int FakeBroker::write(std::string_view path, std::string_view content) const {
    if (!is_canonical(path) || path == "/") return -EINVAL;
    for (std::size_t slash = path.find('/', 1); slash != std::string_view::npos;
         slash = path.find('/', slash + 1)) {
        const Place place = place_of(root_.borrow(), path.substr(0, slash));
        if (!place.directory) return -errno;
        if (::mkdirat(place.directory.number(), place.name.c_str(), 0755) != 0 && errno != EEXIST)
            return -errno;
    }
    const UniqueFd file = open_below(root_.borrow(), path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (!file) return -errno;
    while (!content.empty()) {
        const ssize_t written = ::write(file.number(), content.data(), content.size());
        if (written < 0) return -errno;
        content.remove_prefix(static_cast<std::size_t>(written));
    }
    return 0;
}

void FakeBroker::fail(const std::string& path, int error, std::string reason, unsigned times) {
    if (error == 0)
        failures_.erase(path);
    else
        failures_[path] = {.error = error, .reason = std::move(reason), .times = times};
}

void FakeBroker::serve(FakePeer& peer) {
    std::vector<std::byte> buffer(proto::max_message_size);
    for (;;) {
        send_parked(peer);
        if (!peer.parked.empty()) return;
        const auto message = proto::receive(peer.socket.borrow(), buffer, proto::Wait::never);
        if (!message) break;
        answer(peer, *message);
    }
    look();
    std::erase_if(peer.watches, [](const auto& watch) { return watch->is_over(); });
}

void FakeBroker::look() {
    std::erase_if(watches_, [this](const std::weak_ptr<FakeWatch>& one) {
        const auto watch = one.lock();
        if (!watch) return true;
        if (!watch->is_read()) return false;
        proto::Status status;
        const bool is_there = look_at(root_.borrow(), watch->path(), false, status) == 0;
        watch->tell(is_there ? proto::Looked(status) : proto::Looked());
        return watch->is_over();
    });
}

void FakeBroker::answer(FakePeer& peer, std::span<const std::byte> message) {
    if (proto::read_hello(message)) {
        std::vector<std::byte> reply(proto::max_message_size);
        reply.resize(proto::write_hello_reply(reply, {.calls = (1U << proto::call_count) - 1}));
        peer.parked.push_back({.message = std::move(reply)});
        return;
    }
    std::array<Request, proto::max_requests> room;
    const auto header = proto::read_header(message);
    const auto requests = proto::read_requests(message, room);
    if (!header || !requests) {
        peer.socket.reset();
        return;
    }
    const bool whole = header->flags == static_cast<std::uint16_t>(proto::Batch::all_or_nothing);
    const bool may_be = !whole || std::ranges::all_of(*requests, changes_nothing);
    std::vector<Outcome> outcomes;
    for (const Request& request : *requests)
        outcomes.push_back(may_be ? perform(peer, request)
                                  : Outcome{.error = EINVAL, .step = proto::Step::parse});
    const bool failed = std::ranges::any_of(outcomes, [](const Outcome& one) { return one.error != 0; });
    if (may_be && whole && failed)
        for (Outcome& outcome : outcomes)
            if (outcome.error == 0) outcome = {.error = ECANCELED, .step = proto::Step::deliver};
    reply(peer, *requests, std::move(outcomes));
}

void FakeBroker::reply(FakePeer& peer, std::span<const Request> requests, std::vector<Outcome> outcomes) {
    std::vector<std::byte> buffer(proto::max_message_size);
    proto::ReplyWriter writer(buffer);
    std::vector<UniqueFd> files;
    const auto park = [&] {
        const auto message = writer.message();
        peer.parked.push_back({.message = {message.begin(), message.end()}, .files = std::move(files)});
        files.clear();
        writer.clear();
    };
    for (std::size_t index = 0; index < requests.size(); ++index) {
        Outcome& outcome = outcomes[index];
        const proto::Reply reply{.id = requests[index].id,
                                 .status = outcome.error,
                                 .has_descriptor = static_cast<bool>(outcome.file),
                                 .step = outcome.step,
                                 .reason = outcome.reason,
                                 .payload = outcome.payload};
        if (!writer.add(reply)) {
            park();
            static_cast<void>(writer.add(reply));
        }
        if (outcome.file) files.push_back(std::move(outcome.file));
    }
    park();
}

void FakeBroker::send_parked(FakePeer& peer) {
    while (!peer.parked.empty()) {
        const FakePeer::Parked& next = peer.parked.front();
        std::vector<BorrowedFd> files;
        for (const UniqueFd& file : next.files) files.push_back(file.borrow());
        if (!proto::send(peer.socket.borrow(), next.message, files, proto::Wait::never)) return;
        peer.parked.pop_front();
    }
}

bool FakeBroker::is_to_fail(std::string_view path, Outcome& outcome) {
    auto found = failures_.find(path);
    if (found == failures_.end()) found = failures_.find("");
    if (found == failures_.end()) return false;
    Failure& failure = found->second;
    outcome.error = failure.error;
    outcome.step = proto::Step::decide;
    outcome.reason = failure.reason;
    const bool was_last = failure.times == 1;
    if (failure.times != 0) --failure.times;
    if (was_last) failures_.erase(found);
    return true;
}

FakeBroker::Outcome FakeBroker::perform(FakePeer& peer, const Request& request) {
    Outcome outcome;
    if (!is_canonical(request.path)) {
        outcome.error = EINVAL;
        outcome.step = proto::Step::parse;
        return outcome;
    }
    if (is_to_fail(request.path, outcome)) return outcome;
    if (perform_here(peer, request, outcome) != 0) {
        outcome.error = errno;
        outcome.step = proto::Step::resolve;
        outcome.file.reset();
        outcome.payload.clear();
    }
    return outcome;
}

int FakeBroker::perform_here(FakePeer& peer, const Request& request, Outcome& outcome) {
    const BorrowedFd root = root_.borrow();
    const Place place = place_of(root, request.path);
    if (!place.directory) return -1;
    const int directory = place.directory.number();
    const char* name = place.name.empty() ? "." : place.name.c_str();
    switch (request.call) {
        case Call::open: {
            const bool creates = (request.flags & O_CREAT) != 0;
            outcome.file = open_below(root, request.path, request.flags, creates ? request.mode & 0777 : 0);
            return outcome.file ? 0 : -1;
        }
        case Call::stat: {
            proto::Status status;
            if (look_at(root, request.path, (request.flags & AT_SYMLINK_NOFOLLOW) != 0, status) != 0)
                return -1;
            const auto payload = proto::status_payload(status);
            outcome.payload.assign(payload.begin(), payload.end());
            return 0;
        }
        case Call::list:
            return list(request, outcome);
        case Call::readlink:
            return fill(outcome.payload,
                        [&](char* to, std::size_t room) { return ::readlinkat(directory, name, to, room); });
        case Call::mkdir:
            return ::mkdirat(directory, name, request.mode);
        case Call::remove:
            return ::unlinkat(directory, name, static_cast<int>(request.flags));
        case Call::rename: {
            const std::string_view target = proto::read_text(request.payload);
            if (!is_canonical(target)) return errno = EINVAL, -1;
            const Place to = place_of(root, target);
            if (!to.directory) return -1;
            return ::renameat2(directory, name, to.directory.number(), to.name.c_str(), request.flags);
        }
        case Call::symlink:
            return ::symlinkat(request.payload.data(), directory, name);
        case Call::setattr:
            return set_attributes(root, request);
        case Call::xattr_read:
        case Call::xattr_list:
        case Call::xattr_write:
        case Call::xattr_remove:
            return extended_attribute(root, request, outcome.payload);
        case Call::put:
            return put(request, outcome);
        case Call::commit:
            return commit(request);
        case Call::discard:
            return puts_.erase(proto::read_number(request.payload).value_or(0)) == 1 ? 0
                                                                                     : (errno = ESTALE, -1);
        case Call::watch:
            return watch(peer, request, outcome);
    }
    return errno = EOPNOTSUPP, -1;
}

void FakeBroker::add_status(std::string_view path, int directory, proto::DirectoryEntry& entry) {
    Outcome outcome;
    const std::string name(entry.name);
    struct statx status{};
    if (is_to_fail(std::string(path == "/" ? "" : path) + "/" + name, outcome))
        entry.status_error = outcome.error;
    else if (::statx(directory, name.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME,
                     &status) != 0)
        entry.status_error = errno;
    else
        entry.status = proto::status_of(status);
}

int FakeBroker::list(const Request& request, Outcome& outcome) {
    UniqueFd file = open_below(root_.borrow(), request.path, O_RDONLY | O_DIRECTORY);
    if (!file) return -1;
    const std::unique_ptr<DIR, decltype([](DIR* directory) { ::closedir(directory); })> directory(
        ::fdopendir(file.number()));
    if (!directory) return -1;
    static_cast<void>(file.release());
    // The cursor is how many entries the pages before had.
    std::uint64_t seen = 0;
    const std::uint64_t skipped = proto::read_number(request.payload).value_or(0);
    const bool with_status = (request.flags & proto::list_with_status) != 0;
    proto::DirectoryPageWriter page(proto::max_message_size / 2,
                                    with_status ? proto::PageKind::with_status : proto::PageKind::names);
    while (const dirent* entry = ::readdir(directory.get())) {
        const std::string_view name = entry->d_name;
        if (name == "." || name == ".." || seen++ < skipped) continue;
        proto::DirectoryEntry told{.inode = entry->d_ino, .type = entry->d_type, .name = name};
        if (with_status) add_status(request.path, ::dirfd(directory.get()), told);
        if (page.add(told)) continue;
        page.set_next(seen - 1);
        break;
    }
    outcome.payload = page.payload();
    return 0;
}

int FakeBroker::put(const Request& request, Outcome& outcome) {
    const Place place = place_of(root_.borrow(), request.path);
    UniqueFd temporary(
        ::openat(place.directory.number(), ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, request.mode & 0777));
    // The kept descriptor cannot be written to, so that a lease tells whether anybody else can.
    UniqueFd kept(::open(path_of(temporary).c_str(), O_RDONLY | O_CLOEXEC));
    if (!temporary || !kept) return -1;
    outcome.file = std::move(temporary);
    puts_[++last_put_] = std::move(kept);
    const auto number = proto::number_payload(last_put_);
    outcome.payload.assign(number.data(), number.size());
    return 0;
}

int FakeBroker::watch(FakePeer& peer, const Request& request, Outcome& outcome) {
    if (request.flags == 0 || (request.flags & ~std::uint32_t{proto::watch_all}) != 0)
        return errno = EINVAL, -1;
    proto::Status status;
    const bool is_there = look_at(root_.borrow(), request.path, false, status) == 0;
    if (!is_there && errno != ENOENT) return -1;
    WatchPipe pipe = make_watch_pipe();
    if (!pipe.reading) return -1;
    outcome.file = std::move(pipe.reading);
    peer.watches.push_back(std::make_shared<FakeWatch>(
        std::string(request.path), static_cast<std::uint8_t>(request.flags), std::move(pipe.writing),
        is_there ? proto::Looked(status) : proto::Looked()));
    watches_.push_back(peer.watches.back());
    return 0;
}

int FakeBroker::commit(const Request& request) {
    const auto found = puts_.find(proto::read_number(request.payload).value_or(0));
    if (found == puts_.end()) return errno = ESTALE, -1;
    if (::fcntl(found->second.number(), F_SETLEASE, F_RDLCK) != 0) return errno = EBUSY, -1;
    ::fcntl(found->second.number(), F_SETLEASE, F_UNLCK);
    const Place place = place_of(root_.borrow(), request.path);
    const int directory = place.directory.number();
    // Only a name that is free can be linked to, and only a name can replace another.
    const std::string free_name = ".fdbroker-put-" + std::to_string(found->first);
    if (::linkat(AT_FDCWD, path_of(found->second).c_str(), directory, free_name.c_str(), AT_SYMLINK_FOLLOW) !=
        0)
        return -1;
    if (::renameat2(directory, free_name.c_str(), directory, place.name.c_str(), request.flags) != 0) {
        const int error = errno;
        ::unlinkat(directory, free_name.c_str(), 0);
        return errno = error, -1;
    }
    puts_.erase(found);
    return 0;
}

}  // namespace fdbroker::worker
