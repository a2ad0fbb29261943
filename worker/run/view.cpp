// SPDX-License-Identifier: MIT
#include "worker/run/view.hpp"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "worker/sandbox/namespaces.hpp"

namespace fdbroker::worker {
namespace {

using proto::BorrowedFd;
using proto::Result;
using proto::system_error;
using proto::UniqueFd;

// Stand-ins take a page or so each.
constexpr std::array<MountOption, 2> root_options{{{"mode", "0755"}, {"nr_inodes", "1048576"}}};
constexpr std::array<MountOption, 1> scratch_options{{{"mode", "0700"}}};

constexpr std::uint64_t program_rights = landlock::execute | landlock::read_file | landlock::read_directory;
constexpr std::uint64_t device_rights = landlock::read_file | landlock::write_file | landlock::ioctl_device;

constexpr std::array devices{"/dev/null",   "/dev/zero",    "/dev/full",
                             "/dev/random", "/dev/urandom", "/dev/tty"};

constexpr mode_t directory_mode = 0755;

std::string parent_of(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

// The mount at `path` again, with everything below it, attached nowhere.
Result<UniqueFd> clone_mount(const std::string& path, std::uint64_t attributes) {
    UniqueFd tree(static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, path.c_str(),
                                             OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)));
    if (!tree) return system_error("view", path);
    mount_attr changed{.attr_set = attributes, .attr_clr = 0, .propagation = 0, .userns_fd = 0};
    if (::syscall(SYS_mount_setattr, tree.number(), "", AT_EMPTY_PATH | AT_RECURSIVE, &changed,
                  sizeof changed) != 0)
        return system_error("view", path);
    return tree;
}

std::string target_of(const std::string& link) {
    std::array<char, PATH_MAX> target;
    const ssize_t size = ::readlink(link.c_str(), target.data(), target.size());
    return size < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(size));
}

// "/dev/fd" and the like lead to /proc/self.
constexpr std::array process_paths{"/proc", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr"};

}  // namespace

bool is_within(std::string_view path, std::string_view top) {
    return path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/');
}

Result<View> View::enter(const std::vector<std::string>& runtime, Scratch scratch) {
    View view;
    std::vector<std::pair<std::string, std::string>> links;
    std::vector<Native> natives;
    for (const std::string& path : runtime) {
        struct stat status;
        if (::lstat(path.c_str(), &status) != 0) {
            view.others_.push_back(path);
            continue;
        }
        if (S_ISLNK(status.st_mode)) {
            links.emplace_back(path, target_of(path));
            continue;
        }
        auto tree = clone_mount(path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
        if (!tree) return std::unexpected(tree.error());
        natives.push_back({path, std::move(*tree), program_rights});
    }
    for (const char* device : devices) {
        if (::access(device, F_OK) != 0) continue;
        auto tree = clone_mount(device, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
        if (!tree) return std::unexpected(tree.error());
        natives.push_back({device, std::move(*tree), device_rights});
    }
    auto root = new_filesystem("tmpfs", root_options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    if (!root) return std::unexpected(root.error());
    view.root_ = std::move(*root);
    if (const auto entered = enter_root(view.root_.borrow()); !entered)
        return std::unexpected(entered.error());
    struct stat status;
    if (::fstat(view.root_.number(), &status) != 0) return system_error("view", "/");
    view.device_ = status.st_dev;
    if (scratch == Scratch::own) {
        auto own = new_filesystem("tmpfs", scratch_options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
        if (!own) return std::unexpected(own.error());
        natives.push_back({std::string(scratch_path), std::move(*own), landlock::everything});
    }
    for (Native& native : natives)
        if (const auto attached = view.attach(std::move(native)); !attached)
            return std::unexpected(attached.error());
    for (const auto& [path, target] : links) {
        if (const auto made = view.make_link(target, path); !made)
            return system_error("view", path, made.error());
        view.others_.push_back(path);
    }
    return view;
}

Result<void> View::attach(Native native) {
    struct stat status;
    if (::fstat(native.place.number(), &status) != 0) return system_error("view", native.path);
    const std::string& top = S_ISDIR(status.st_mode) ? native.path : parent_of(native.path);
    if (const auto made = make_directory(top); !made) return system_error("view", native.path, made.error());
    if (!S_ISDIR(status.st_mode)) {
        const UniqueFd file(::open(native.path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0444));
        if (!file) return system_error("view", native.path);
        // Landlock knows no rights of a directory at a file.
        native.rights &= ~landlock::read_directory;
    }
    if (::syscall(SYS_move_mount, native.place.number(), "", AT_FDCWD, native.path.c_str(),
                  MOVE_MOUNT_F_EMPTY_PATH) != 0)
        return system_error("view", native.path);
    natives_.push_back(std::move(native));
    return {};
}

Region View::region_of(std::string_view path) const {
    const auto within = [path](std::string_view top) { return is_within(path, top); };
    if (std::ranges::any_of(process_paths, within)) return Region::process;
    if (std::ranges::any_of(natives_, within, &Native::path) || std::ranges::any_of(others_, within))
        return Region::native;
    return Region::brokered;
}

std::vector<LandlockRule> View::program_rules() const {
    // The root holds, besides the runtime, stand-ins, and copies of programs that a rule lets execute.
    std::vector<LandlockRule> rules{{root_.borrow(), program_rights}};
    for (const Native& native : natives_)
        if ((native.rights & ~program_rights) != 0) rules.push_back({native.place.borrow(), native.rights});
    return rules;
}

std::vector<LandlockRule> View::worker_rules(BorrowedFd proc) const {
    constexpr std::uint64_t stand_ins = landlock::read_directory | landlock::make_directory |
                                        landlock::remove_directory | landlock::remove_file |
                                        landlock::make_symlink | landlock::make_regular |
                                        landlock::write_file | landlock::truncate | landlock::refer;
    std::vector<LandlockRule> rules = program_rules();
    rules.push_back({root_.borrow(), stand_ins});
    rules.push_back({proc, landlock::read_file | landlock::read_directory});
    return rules;
}

bool View::has_directory(const std::string& path) const {
    struct stat status;
    return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

OrErrno<void> View::make_directory(const std::string& path) const {
    if (::mkdir(path.c_str(), directory_mode) == 0) return {};
    if (errno == EEXIST) {
        if (has_directory(path)) return {};
        // A link or a program was there, and is no more.
        if (::unlink(path.c_str()) == 0 && ::mkdir(path.c_str(), directory_mode) == 0) return {};
        return std::unexpected(errno);
    }
    if (errno != ENOENT || path == "/") return std::unexpected(errno);
    if (const auto above = make_directory(parent_of(path)); !above) return above;
    if (::mkdir(path.c_str(), directory_mode) == 0 || errno == EEXIST) return {};
    return std::unexpected(errno);
}

OrErrno<UniqueFd> View::open_directory(const std::string& path) const {
    UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory) return std::unexpected(errno);
    return directory;
}

OrErrno<void> View::make_file(const std::string& path) const {
    struct stat status;
    if (::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode)) return {};
    if (const auto above = make_directory(parent_of(path)); !above) return above;
    forget(path);
    const UniqueFd made(::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444));
    if (!made) return std::unexpected(errno);
    return {};
}

OrErrno<void> View::make_link(const std::string& target, const std::string& path) const {
    if (target_of(path) == target) return {};
    if (const auto above = make_directory(parent_of(path)); !above) return above;
    forget(path);
    if (::symlink(target.c_str(), path.c_str()) == 0) return {};
    return std::unexpected(errno);
}

void View::forget(const std::string& path) const {
    if (::unlink(path.c_str()) != 0 && errno == EISDIR) ::rmdir(path.c_str());
}

void View::follow_rename(const std::string& path, const std::string& new_path) const {
    if (::access(path.c_str(), F_OK) != 0) return;
    if (make_directory(parent_of(new_path))) ::rename(path.c_str(), new_path.c_str());
}

OrErrno<void> View::put_program(const std::string& path, BorrowedFd content) const {
    struct stat status;
    if (::fstat(content.number(), &status) != 0) return std::unexpected(errno);
    if (const auto above = make_directory(parent_of(path)); !above) return above;
    // A running program cannot be written to: a new file takes the name.
    const std::string fresh = path + ".fdbroker-new";
    ::unlink(fresh.c_str());
    const UniqueFd file(::open(fresh.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0555));
    if (!file) return std::unexpected(errno);
    off_t at = 0;
    while (at < status.st_size) {
        const ssize_t some =
            ::sendfile(file.number(), content.number(), &at, static_cast<std::size_t>(status.st_size - at));
        if (some < 0) return std::unexpected(errno);
        if (some == 0) break;
    }
    if (::rename(fresh.c_str(), path.c_str()) != 0) return std::unexpected(errno);
    return {};
}

}  // namespace fdbroker::worker
