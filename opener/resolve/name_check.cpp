// SPDX-License-Identifier: MIT
#include "opener/resolve/name_check.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "opener/base/directory_reader.hpp"
#include "opener/confinement/kernel_calls.hpp"
#include "opener/confinement/name_matching.hpp"
#include "policy/matching/denied.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::UniqueFd;

namespace {

constexpr Obstacle bears_another_name{
    EACCES,
    "its filesystem folds names, the object bears another one (case, alias), and a deny rule reaches here"};
constexpr Obstacle names_not_listed{
    EACCES, "its filesystem may fold names and does not list them, and a deny rule reaches here"};
constexpr Obstacle would_bear_another_name{
    EINVAL, "its filesystem may drop the dot or space at the end of the name, and a deny rule reaches here"};

UniqueFd open_name(BorrowedFd directory, const std::string& name) {
    return UniqueFd(kernel::openat2(directory.number(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC,
                                    no_links_followed));
}

bool same(BorrowedFd one, BorrowedFd other) {
    struct stat first, second;
    return ::syscall(SYS_fstat, one.number(), &first) == 0 &&
           ::syscall(SYS_fstat, other.number(), &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

std::optional<Obstacle> refuse_unlisted(BorrowedFd directory, std::string_view name) {
    if (name_matching_of(directory) == NameMatching::exact) return std::nullopt;
    const UniqueFd opened(kernel::openat2(
        directory.number(), ".", O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC, no_links_followed));
    if (!opened) return names_not_listed;
    DirectoryReader reader(opened.borrow());
    while (const auto entry = reader.next())
        if (entry->name == name) return std::nullopt;
    return reader.errno_value() == 0 ? bears_another_name : names_not_listed;
}

}  // namespace

std::vector<NameCheck> name_checks_of(std::span<const BoundDirectory> directories,
                                      const policy::Policy& policy) {
    std::vector<NameCheck> checks;
    for (const BoundDirectory& directory : directories) {
        NameCheck check = NameCheck::never;
        if (directory.fd && policy::denied_below(policy, directory.path))
            check = name_matching_of(directory.fd.borrow()) == NameMatching::exact
                        ? NameCheck::on_other_mounts
                        : NameCheck::always;
        checks.push_back(check);
    }
    return checks;
}

std::optional<Obstacle> refuse_alias(BorrowedFd directory, std::string_view relative, BorrowedFd object) {
    if (relative == ".") return std::nullopt;
    UniqueFd reached;
    while (!relative.empty()) {
        const BorrowedFd above = reached ? reached.borrow() : directory;
        const std::string name(relative.substr(0, relative.find('/')));
        relative.remove_prefix(std::min(relative.size(), name.size() + 1));
        if (const auto obstacle = refuse_unlisted(above, name)) return obstacle;
        reached = open_name(above, name);
        if (!reached) return Obstacle{errno, explain_open_failure(errno)};
    }
    if (!same(reached.borrow(), object)) return Obstacle{EAGAIN, "another object took its name meanwhile"};
    return std::nullopt;
}

std::optional<Obstacle> refuse_new_alias(BorrowedFd directory, std::string_view name) {
    if (name.back() != '.' && name.back() != ' ') return std::nullopt;
    return refuse_unlisted(directory, name) ? std::optional(would_bear_another_name) : std::nullopt;
}

}  // namespace fdbroker::opener
