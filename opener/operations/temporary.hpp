// SPDX-License-Identifier: MIT
// Names for the time in which something is made or taken away. What a process that is killed leaves behind has one; what
// was being made is swept when all but such leavings has gone from its directory.
#pragma once

#include <cstdint>
#include <string>

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

// A name that nothing has yet.
enum class Purpose : std::uint8_t {
    making,         // .fdbroker-new-…: nobody misses it
    setting_aside,  // .fdbroker-old-…: it had another name before
};
Attempt<std::string> temporary_name(Purpose purpose);

// rename(2), as a system call: -1 and errno.
int rename_over(proto::BorrowedFd from, const char* old_name, proto::BorrowedFd to, const char* new_name);
// The same onto a name that nothing has: EEXIST. A filesystem without RENAME_NOREPLACE is looked at first.
int rename_to_free(proto::BorrowedFd from, const char* old_name, proto::BorrowedFd to, const char* new_name);

// Whether the directory lets go of no name, by rename(2) or unlink(2): it is append-only (chattr +a).
bool keeps_names(const ResolvedParent& parent);

// Whether something has that name now. What is there is not opened.
bool exists(proto::BorrowedFd directory, const char* name);

// An object that has got a name which nobody else knows, so that what is done to that name is done to this object: by the
// name that it had, it would be done to whatever has taken that meanwhile. Its destructor gives the old name back, unless
// that is taken by now.
class SetAside {
  public:
    // Takes what has the parent's name, which must outlive this. EAGAIN: that is not `object`; it has its name back.
    static Attempt<SetAside> take(const ResolvedParent& parent, const ObjectStatus& object);
    SetAside(SetAside&& other) noexcept
        : parent_(std::exchange(other.parent_, nullptr)), name_(std::move(other.name_)) {}
    SetAside& operator=(SetAside&&) = delete;
    ~SetAside();

    const char* name() const noexcept { return name_.c_str(); }
    // The object has gone, or has another name.
    void release() noexcept { parent_ = nullptr; }

  private:
    SetAside(const ResolvedParent& parent, std::string name) : parent_(&parent), name_(std::move(name)) {}
    const ResolvedParent* parent_;
    std::string name_;
};

// A new object in `parent`, which must outlive it. The object has a temporary name until it gets the final one, or the final
// name at once (keeps_names()). The destructor removes the object again.
class Unfinished {
  public:
    // `removal_flags`: what unlinkat(2) takes for it.
    Unfinished(const ResolvedParent& parent, std::string name, int removal_flags)
        : parent_(parent), name_(std::move(name)), removal_flags_(removal_flags) {}
    Unfinished(const Unfinished&) = delete;
    Unfinished& operator=(const Unfinished&) = delete;
    ~Unfinished();

    const char* name() const noexcept { return name_.c_str(); }
    // Gives it the parent's name; EEXIST when that is taken.
    Attempt<void> finish();
    // The same in the place of what has that name, a directory excepted.
    Attempt<void> finish_over();
    // Somebody else has put something there.
    void leave() noexcept { ours_ = false; }

  private:
    const ResolvedParent& parent_;
    std::string name_;
    int removal_flags_;
    bool ours_ = true;
};

// unlinkat(2) of the directory that `object` is; when it holds nothing but what was left unfinished, with that.
int remove_directory(proto::BorrowedFd parent, const char* name, const ObjectStatus& object);

}  // namespace fdbroker::opener
