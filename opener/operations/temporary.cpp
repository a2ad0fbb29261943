// SPDX-License-Identifier: MIT
#include "opener/operations/temporary.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#include "opener/base/directory_reader.hpp"
#include "opener/confinement/kernel_calls.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Step;
using proto::UniqueFd;

namespace {

constexpr std::string_view making_prefix = ".fdbroker-new-";
constexpr std::string_view aside_prefix = ".fdbroker-old-";

bool is(const UniqueFd& fd, const ObjectStatus& object) {
    struct stat status;
    return fd && ::syscall(SYS_fstat, fd.number(), &status) == 0 && status.st_dev == object.device &&
           status.st_ino == object.inode;
}

UniqueFd look_at(BorrowedFd directory, const char* name) {
    return UniqueFd(
        kernel::openat2(directory.number(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC, RESOLVE_NO_MAGICLINKS));
}

// Calls renameat2(2) directly: glibc's renameat(2) is another call, which the filter does not know.
int rename_with(BorrowedFd from, const char* old_name, BorrowedFd to, const char* new_name, unsigned flags) {
    return static_cast<int>(::syscall(SYS_renameat2, from.number(), old_name, to.number(), new_name, flags));
}

struct Leaving {
    std::string name;
    int removal_flags;  // flags for unlinkat
};

// nullopt: there is something else.
std::optional<std::vector<Leaving>> nothing_but_leavings(BorrowedFd directory) {
    std::vector<Leaving> leavings;
    DirectoryReader reader(directory);
    while (const auto entry = reader.next()) {
        const bool is_directory = entry->type == DT_DIR;
        const bool is_made = is_directory || entry->type == DT_LNK || entry->type == DT_REG;
        if (!is_made || !entry->name.starts_with(making_prefix)) return std::nullopt;
        leavings.push_back({std::string(entry->name), is_directory ? AT_REMOVEDIR : 0});
    }
    if (reader.errno_value() != 0) return std::nullopt;
    return leavings;
}

void sweep(BorrowedFd parent, const char* name, const ObjectStatus& object) {
    const UniqueFd directory(kernel::openat2(parent.number(), name,
                                             O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                                             no_links_followed | RESOLVE_NO_XDEV));
    if (!is(directory, object)) return;
    const auto leavings = nothing_but_leavings(directory.borrow());
    if (!leavings) return;
    // An object that is still being made finds the directory gone a moment earlier than it would without this.
    for (const Leaving& leaving : *leavings)
        ::unlinkat(directory.number(), leaving.name.c_str(), leaving.removal_flags);
}

}  // namespace

Attempt<std::string> temporary_name(Purpose purpose) {
    std::uint64_t number = 0;
    if (::getrandom(&number, sizeof number, 0) != sizeof number) return call_failed(Step::resolve);
    return fmt::format("{}{:016x}", purpose == Purpose::making ? making_prefix : aside_prefix, number);
}

int rename_over(BorrowedFd from, const char* old_name, BorrowedFd to, const char* new_name) {
    return rename_with(from, old_name, to, new_name, 0);
}

int rename_to_free(BorrowedFd from, const char* old_name, BorrowedFd to, const char* new_name) {
    if (rename_with(from, old_name, to, new_name, RENAME_NOREPLACE) == 0) return 0;
    // rename(2): the filesystem knows no flags. NFS does not.
    if (errno != EINVAL) return -1;
    if (exists(to, new_name)) {
        errno = EEXIST;
        return -1;
    }
    return rename_over(from, old_name, to, new_name);
}

bool keeps_names(const ResolvedParent& parent) {
    struct statx status{};
    return ::statx(parent.descriptor().number(), "", AT_EMPTY_PATH, STATX_TYPE, &status) == 0 &&
           (status.stx_attributes & STATX_ATTR_APPEND) != 0;
}

bool exists(BorrowedFd directory, const char* name) {
    return look_at(directory, name) || errno != ENOENT;
}

Attempt<SetAside> SetAside::take(const ResolvedParent& parent, const ObjectStatus& object) {
    auto name = temporary_name(Purpose::setting_aside);
    if (!name) return std::unexpected(name.error());
    if (rename_to_free(parent.descriptor(), parent.name(), parent.descriptor(), name->c_str()) != 0)
        return call_failed(Step::deliver);
    SetAside aside(parent, std::move(*name));
    if (!is(look_at(parent.descriptor(), aside.name()), object))
        return obstacle_at(Step::deliver, {EAGAIN, "another object took its name meanwhile"});
    return aside;
}

SetAside::~SetAside() {
    if (parent_ != nullptr)
        rename_to_free(parent_->descriptor(), name(), parent_->descriptor(), parent_->name());
}

Unfinished::~Unfinished() {
    if (ours_) ::unlinkat(parent_.descriptor().number(), name(), removal_flags_);
}

Attempt<void> Unfinished::finish() {
    if (name_ != parent_.name() &&
        rename_to_free(parent_.descriptor(), name(), parent_.descriptor(), parent_.name()) != 0)
        return call_failed(Step::resolve);
    ours_ = false;
    return {};
}

Attempt<void> Unfinished::finish_over() {
    if (rename_over(parent_.descriptor(), name(), parent_.descriptor(), parent_.name()) != 0)
        return call_failed(Step::deliver);
    ours_ = false;
    return {};
}

int remove_directory(BorrowedFd parent, const char* name, const ObjectStatus& object) {
    if (::unlinkat(parent.number(), name, AT_REMOVEDIR) == 0) return 0;
    if (errno != ENOTEMPTY) return -1;
    sweep(parent, name, object);
    return ::unlinkat(parent.number(), name, AT_REMOVEDIR);
}

}  // namespace fdbroker::opener
