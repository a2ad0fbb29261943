// SPDX-License-Identifier: MIT
#include "opener/operations/file_events.hpp"

#include <fcntl.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "opener/confinement/kernel_calls.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Step;
using proto::UniqueFd;

namespace {

constexpr std::uint32_t of_names = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO;
constexpr std::uint32_t of_itself = IN_DELETE_SELF | IN_MOVE_SELF;
constexpr std::uint32_t of_content = IN_MODIFY | IN_ATTRIB;
// Names in a directory change its content; what becomes of the files does not.
constexpr std::uint32_t of_directory = of_names | of_itself | IN_ATTRIB | IN_ONLYDIR;

// More than this is taken with the next look.
constexpr unsigned most_reads = 64;

std::unexpected<Obstacle> too_many(const char* what) {
    return obstacle_at(Step::deliver, {EAGAIN, what});
}

}  // namespace

Attempt<FileEvents> FileEvents::make() {
    UniqueFd home(kernel::openat2(AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
    if (!home) return call_failed(Step::deliver);
    UniqueFd events(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    if (events) return FileEvents(std::move(events), std::move(home));
    return errno == EMFILE ? too_many("fs.inotify.max_user_instances permits no further watch")
                           : call_failed(Step::deliver);
}

Attempt<void> FileEvents::arm(BorrowedFd directory, const std::string& name) {
    name_ = name;
    if (::fchdir(directory.number()) != 0) return call_failed(Step::resolve);
    auto armed = arm_here();
    if (::fchdir(home_.number()) != 0) return call_failed(Step::deliver);
    return armed;
}

Attempt<void> FileEvents::arm_here() {
    const bool is_itself = name_ == ".";
    int around = is_itself ? -1 : watch(".", of_names | of_itself | IN_ONLYDIR);
    if (around < 0 && !is_itself)
        return errno == ENOSPC ? too_many("fs.inotify.max_user_watches permits no further watch")
                               : call_failed(Step::resolve);
    int object = watch(name_.c_str(), of_directory);
    if (object < 0 && errno == ENOTDIR) object = watch(name_.c_str(), of_content | of_itself);
    // Where the object may not be read by this process, its directory tells of it, unless by another name.
    if (object < 0 && errno == EACCES && !is_itself)
        around = watch(".", of_names | of_itself | of_content | IN_ONLYDIR);
    else if (object < 0 && errno != ENOENT)
        return errno == ENOSPC ? too_many("fs.inotify.max_user_watches permits no further watch")
                               : call_failed(Step::resolve);
    replace(directory_, around);
    replace(object_, object);
    return {};
}

int FileEvents::watch(const char* name, std::uint32_t mask) const {
    return ::inotify_add_watch(events_.number(), name, mask | IN_DONT_FOLLOW);
}

// The kernel has one number for an object, however often it is watched.
void FileEvents::replace(int& watched, int by) const {
    if (watched >= 0 && watched != by) ::inotify_rm_watch(events_.number(), watched);
    watched = by;
}

bool FileEvents::take() {
    alignas(inotify_event) std::array<char, 8192> buffer;
    bool any = false;
    for (unsigned reads = 0; reads < most_reads; ++reads) {
        const ssize_t size = ::read(events_.number(), buffer.data(), buffer.size());
        if (size <= 0) break;
        for (const char* at = buffer.data(); at < buffer.data() + size;) {
            const auto& event = *reinterpret_cast<const inotify_event*>(at);
            any = any || concerns(event);
            at += sizeof event + event.len;
        }
    }
    return any;
}

bool FileEvents::concerns(const inotify_event& event) const {
    if ((event.mask & IN_Q_OVERFLOW) != 0 || event.wd == object_) return true;
    return event.wd == directory_ && (event.len == 0 || name_ == event.name);
}

}  // namespace fdbroker::opener
