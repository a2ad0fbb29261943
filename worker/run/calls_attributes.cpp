// SPDX-License-Identifier: MIT
// Modes, times, owners and sizes. What is set by descriptor is set by the path that the file was opened by, so that the
// policy decides on it.
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#include <array>
#include <cerrno>
#include <optional>

#include "proto/payload.hpp"
#include "worker/run/handlers.hpp"

namespace fdbroker::worker {
// Not in the unnamed namespace: a coroutine's frame holds it (-Wsubobject-linkage in a build in one piece).
// Attributes of a brokered file; nullopt: leave it.
struct Wanted {
    std::optional<mode_t> mode{};
    std::optional<proto::Times> times{};
    LastLink last = LastLink::follow;
};

namespace {

using proto::UniqueFd;

Task<Answer> set_brokered(const Call& call, std::string path, Wanted wanted) {
    Ask ask{.call = proto::Call::setattr, .path = path.c_str()};
    std::array<char, proto::times_size> payload{};
    if (wanted.mode) {
        ask.flags |= proto::setattr_mode;
        ask.mode = *wanted.mode;
    }
    if (wanted.times) {
        payload = proto::times_payload(*wanted.times);
        ask.flags |= proto::setattr_times;
        ask.payload = {payload.data(), payload.size()};
    }
    if (wanted.last == LastLink::keep) ask.flags |= proto::setattr_link;
    const Reply reply = co_await call.ask(ask);
    co_return Answer::of(reply.result);
}

Task<Answer> set_at(const Call& call, int directory, std::uint64_t path, Wanted wanted) {
    OrErrno<Location> location = co_await call.locate(directory, path, wanted.last);
    if (!location) co_return Answer::failure(location.error());
    if (location->region == Region::native) co_return Answer::go_on();
    if (location->region == Region::process) co_return Answer::failure(EPERM);
    if (location->wants_directory) wanted.last = LastLink::follow;
    Answer answer = co_await set_brokered(call, std::move(location->path), wanted);
    co_return answer;
}

timespec timespec_of(const proto::Timestamp& time) {
    return {.tv_sec = time.seconds, .tv_nsec = static_cast<long>(time.nanoseconds)};
}

Answer set_native(const UniqueFd& file, const Wanted& wanted) {
    if (wanted.mode && ::fchmod(file.number(), *wanted.mode) != 0) return Answer::failure(errno);
    if (!wanted.times) return Answer::of(0);
    const std::array times{timespec_of(wanted.times->access), timespec_of(wanted.times->modification)};
    return ::futimens(file.number(), times.data()) == 0 ? Answer::of(0) : Answer::failure(errno);
}

// Nothing is continued: another thread may put a brokered file in the descriptor's place.
Task<Answer> set_by_descriptor(const Call& call, int descriptor, Wanted wanted) {
    auto held = hold_file(call, descriptor);
    if (!held) co_return Answer::failure(held.error());
    if (held->path.empty()) co_return set_native(held->file, wanted);
    Answer answer = co_await set_brokered(call, std::move(held->path), wanted);
    co_return answer;
}

Wanted mode_of(unsigned mode, LastLink last = LastLink::follow) {
    return {.mode = static_cast<mode_t>(mode & 01777), .last = last};
}

proto::Timestamp timestamp_of(const timespec& time) {
    return {.seconds = time.tv_sec, .nanoseconds = static_cast<std::uint32_t>(time.tv_nsec)};
}

Wanted times_of(const timespec& access, const timespec& modification) {
    return {.times =
                proto::Times{.access = timestamp_of(access), .modification = timestamp_of(modification)}};
}

Wanted now() {
    const timespec time{.tv_sec = 0, .tv_nsec = UTIME_NOW};
    return times_of(time, time);
}

bool is_time(const timespec& time) {
    return (time.tv_nsec >= 0 && time.tv_nsec < 1'000'000'000) || time.tv_nsec == UTIME_NOW ||
           time.tv_nsec == UTIME_OMIT;
}

// The times at that address, of the type of the call; 0: now.
template <typename Time>
OrErrno<Wanted> read_times(const Call& call, std::uint64_t address) {
    if (address == 0) return now();
    const auto times = call.target.read_object<std::array<Time, 2>>(address);
    if (!times) return std::unexpected(times.error());
    if constexpr (std::is_same_v<Time, timespec>) {
        if (!is_time((*times)[0]) || !is_time((*times)[1])) return std::unexpected(EINVAL);
        return times_of((*times)[0], (*times)[1]);
    } else {
        const auto converted = [](const timeval& time) {
            return timespec{.tv_sec = time.tv_sec, .tv_nsec = time.tv_usec * 1000};
        };
        for (const timeval& time : *times)
            if (time.tv_usec < 0 || time.tv_usec >= 1'000'000) return std::unexpected(EINVAL);
        return times_of(converted((*times)[0]), converted((*times)[1]));
    }
}

// Owners are the policy's business (`create:`), and nobody's afterwards.
Task<Answer> change_owner_at(const Call& call, int directory, std::uint64_t path, LastLink last) {
    const OrErrno<Location> location = co_await call.locate(directory, path, last);
    if (!location) co_return Answer::failure(location.error());
    co_return location->region == Region::native ? Answer::go_on() : Answer::failure(EPERM);
}

Answer change_owner_by_descriptor(const Call& call, int descriptor, uid_t uid, gid_t gid) {
    const auto held = hold_file(call, descriptor);
    if (!held) return Answer::failure(held.error());
    if (!held->path.empty()) return Answer::failure(EPERM);
    return ::fchown(held->file.number(), uid, gid) == 0 ? Answer::of(0) : Answer::failure(errno);
}

}  // namespace

Task<Answer> handle_truncate(const Call& call) {
    OrErrno<Location> location = co_await call.locate(AT_FDCWD, call.argument(0), LastLink::follow);
    if (!location) co_return Answer::failure(location.error());
    if (location->region == Region::native) co_return Answer::go_on();
    if (location->region == Region::process) co_return Answer::failure(EINVAL);
    const auto length = static_cast<off_t>(call.argument(1));
    if (length < 0) co_return Answer::failure(EINVAL);
    const unsigned flags = O_WRONLY | O_NONBLOCK | (length == 0 ? O_TRUNC : 0);
    const OrErrno<UniqueFd> file = co_await open_brokered(call, std::move(location->path), flags, 0);
    if (!file) co_return Answer::failure(file.error());
    if (length != 0 && ::ftruncate(file->number(), length) != 0) co_return Answer::failure(errno);
    co_return Answer::of(0);
}

Task<Answer> handle_chmod(const Call& call) {
    return set_at(call, AT_FDCWD, call.argument(0), mode_of(call.bits(1)));
}
Task<Answer> handle_fchmod(const Call& call) {
    return set_by_descriptor(call, call.number(0), mode_of(call.bits(1)));
}
Task<Answer> handle_fchmodat(const Call& call) {
    // fchmodat2(2) has flags.
    const unsigned flags = std::string_view(call.name()) == "fchmodat2" ? call.bits(3) : 0;
    const LastLink last = (flags & AT_SYMLINK_NOFOLLOW) != 0 ? LastLink::keep : LastLink::follow;
    return set_at(call, call.number(0), call.argument(1), mode_of(call.bits(2), last));
}

Task<Answer> handle_chown(const Call& call) {
    return change_owner_at(call, AT_FDCWD, call.argument(0), LastLink::follow);
}
Task<Answer> handle_lchown(const Call& call) {
    return change_owner_at(call, AT_FDCWD, call.argument(0), LastLink::keep);
}
Task<Answer> handle_fchown(const Call& call) {
    co_return change_owner_by_descriptor(call, call.number(0), call.bits(1), call.bits(2));
}
Task<Answer> handle_fchownat(const Call& call) {
    const unsigned flags = call.bits(4);
    if ((flags & AT_EMPTY_PATH) != 0)
        co_return change_owner_by_descriptor(call, call.number(0), call.bits(2), call.bits(3));
    const LastLink last = (flags & AT_SYMLINK_NOFOLLOW) != 0 ? LastLink::keep : LastLink::follow;
    Answer answer = co_await change_owner_at(call, call.number(0), call.argument(1), last);
    co_return answer;
}

Task<Answer> handle_utime(const Call& call) {
    Wanted wanted = now();
    if (call.argument(1) != 0) {
        const auto times = call.target.read_object<utimbuf>(call.argument(1));
        if (!times) co_return Answer::failure(times.error());
        wanted = times_of({.tv_sec = times->actime, .tv_nsec = 0}, {.tv_sec = times->modtime, .tv_nsec = 0});
    }
    Answer answer = co_await set_at(call, AT_FDCWD, call.argument(0), wanted);
    co_return answer;
}
Task<Answer> handle_utimes(const Call& call) {
    const auto wanted = read_times<timeval>(call, call.argument(1));
    if (!wanted) co_return Answer::failure(wanted.error());
    Answer answer = co_await set_at(call, AT_FDCWD, call.argument(0), *wanted);
    co_return answer;
}
Task<Answer> handle_futimesat(const Call& call) {
    const auto wanted = read_times<timeval>(call, call.argument(2));
    if (!wanted) co_return Answer::failure(wanted.error());
    Answer answer = co_await set_at(call, call.number(0), call.argument(1), *wanted);
    co_return answer;
}
Task<Answer> handle_utimensat(const Call& call) {
    auto wanted = read_times<timespec>(call, call.argument(2));
    if (!wanted) co_return Answer::failure(wanted.error());
    // futimens(3).
    if (call.argument(1) == 0) {
        Answer answer = co_await set_by_descriptor(call, call.number(0), *wanted);
        co_return answer;
    }
    if ((call.bits(3) & AT_SYMLINK_NOFOLLOW) != 0) wanted->last = LastLink::keep;
    Answer answer = co_await set_at(call, call.number(0), call.argument(1), *wanted);
    co_return answer;
}

}  // namespace fdbroker::worker
