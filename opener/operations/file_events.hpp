// SPDX-License-Identifier: MIT
// The kernel's word that something may have become of a name: events of inotify(7).
//
// inotify takes paths alone. So the process goes into the directory for a moment, watches the name and the directory around
// it, and leaves again: of a directory that somebody is in, the kernel does not tell that it was removed.
// Events say only when it is time to look. What there is to see, whoever looks finds out as for every request.
#pragma once

#include <cstdint>
#include <string>

#include "opener/operations/operation.hpp"
#include "proto/unique_fd.hpp"

struct inotify_event;

namespace fdbroker::opener {

class FileEvents {
  public:
    // EAGAIN: the uid has as many of them as fs.inotify.max_user_instances permits. Changes the process's working directory
    // when armed.
    static Attempt<FileEvents> make();

    // Watches for the name in `directory`, and the object that has it now, in place of what was watched before. "." is the
    // directory itself. What happens from now on is told. EAGAIN: as many are watched as fs.inotify.max_user_watches permits.
    Attempt<void> arm(proto::BorrowedFd directory, const std::string& name);

    // Readable when something has happened.
    proto::BorrowedFd descriptor() const noexcept { return events_.borrow(); }
    // Takes what has happened. False: nothing of it is about the name or its directory.
    bool take();

  private:
    FileEvents(proto::UniqueFd events, proto::UniqueFd home)
        : events_(std::move(events)), home_(std::move(home)) {}

    Attempt<void> arm_here();
    int watch(const char* name, std::uint32_t mask) const;
    void replace(int& watched, int by) const;
    bool concerns(const inotify_event& event) const;

    proto::UniqueFd events_;
    proto::UniqueFd home_;  // where the process is otherwise
    std::string name_{};
    // Numbers of the kernel's; -1: none.
    int object_ = -1;
    int directory_ = -1;
};

}  // namespace fdbroker::opener
