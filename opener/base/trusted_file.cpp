// SPDX-License-Identifier: MIT
#include "opener/base/trusted_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

namespace fdbroker::opener {

namespace {

using proto::UniqueFd;
using Failure = std::unexpected<std::string>;

constexpr unsigned max_links = 40;  // MAXSYMLINKS of the kernel, path_resolution(7)

Failure failure(const std::string& path, int errno_value = errno) {
    return Failure(fmt::format("{}: {}", path, std::strerror(errno_value)));
}

// The fault of a step's owner or mode; none: no fault.
std::optional<std::string> distrust(const std::string& path, const struct stat& status, TrustedFor use) {
    const uid_t user = ::geteuid();
    const char* const harm =
        use == TrustedFor::policy ? "change what the policy says" : "change or replace the audit records";
    if (status.st_uid != 0 && status.st_uid != user) {
        return fmt::format("{0} belongs to uid {1}, who could {2}; it must be root's{3}: chown root {0}",
                           path, status.st_uid, harm, user == 0 ? "" : " or yours");
    }
    if (S_ISLNK(status.st_mode) || (status.st_mode & (S_IWGRP | S_IWOTH)) == 0) return std::nullopt;
    // No policy: its reader says so. `chmod go-w /dev/null` would be bad advice.
    if (use == TrustedFor::policy && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))
        return std::nullopt;
    if (S_ISDIR(status.st_mode) && (status.st_mode & S_ISVTX) != 0) return std::nullopt;
    const bool others = (status.st_mode & S_IWOTH) != 0;
    if (use == TrustedFor::records && path == "/var/log" && !others) return std::nullopt;
    return fmt::format("{0} may be written by {1} (mode {2:04o}), who could {3}: chmod go-w {0}", path,
                       others ? "everyone" : fmt::format("group {}", status.st_gid), status.st_mode & 07777,
                       harm);
}

std::expected<std::string, std::string> absolute(const std::string& path) {
    if (path.starts_with('/')) return path;
    std::array<char, PATH_MAX> directory{};
    if (::getcwd(directory.data(), directory.size()) == nullptr) return failure("the working directory");
    return fmt::format("{}/{}", directory.data(), path);
}

class Walk {
  public:
    explicit Walk(TrustedFor use) noexcept : use_(use) {}

    std::expected<TrustedObject, std::string> to(const std::string& path) {
        if (const auto started = go_to_root(); !started) return Failure(started.error());
        put_before_rest(path);
        while (!rest_.empty()) {
            const std::string component = std::move(rest_.back());
            rest_.pop_back();
            if (const auto stepped = step(component); !stepped) return Failure(stepped.error());
        }
        return std::move(at_);
    }

  private:
    // Components to come, the next one last.
    void put_before_rest(const std::string& path) {
        std::vector<std::string> components;
        for (std::size_t begin = 0; begin < path.size();) {
            const std::size_t end = std::min(path.find('/', begin), path.size());
            const std::string component = path.substr(begin, end - begin);
            if (!component.empty() && component != ".") components.push_back(component);
            begin = end + 1;
        }
        rest_.insert(rest_.end(), components.rbegin(), components.rend());
    }

    std::expected<void, std::string> go_to_root() {
        at_ = {};
        at_.directory = UniqueFd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
        at_.fd = UniqueFd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
        at_.name = ".";
        at_.path = "/";
        if (!at_.directory || !at_.fd || ::fstat(at_.fd.number(), &at_.status) != 0) return failure("/");
        return trust(at_.path, at_.status);
    }

    std::expected<void, std::string> trust(const std::string& path, const struct stat& status) const {
        if (auto reason = distrust(path, status, use_)) return Failure(std::move(*reason));
        return {};
    }

    std::expected<void, std::string> step(const std::string& component) {
        const std::string path = path_of(component);
        TrustedObject next;
        next.fd = UniqueFd(::openat(at_.fd.number(), component.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
        if (!next.fd || ::fstat(next.fd.number(), &next.status) != 0) return failure(path);
        if (const auto trusted = trust(path, next.status); !trusted) return trusted;
        if (S_ISLNK(next.status.st_mode)) return follow(path, next.fd);
        next.directory = std::move(at_.fd);
        next.name = component;
        next.path = path;
        at_ = std::move(next);
        return {};
    }

    std::string path_of(const std::string& component) const {
        if (component != "..") return (at_.path == "/" ? "" : at_.path) + "/" + component;
        const std::size_t slash = at_.path.rfind('/');
        return slash == 0 ? "/" : at_.path.substr(0, slash);
    }

    std::expected<void, std::string> follow(const std::string& path, const UniqueFd& link) {
        if (++links_ > max_links) return failure(path, ELOOP);
        std::array<char, PATH_MAX> target{};
        const ssize_t size = ::readlinkat(link.number(), "", target.data(), target.size() - 1);
        if (size < 0) return failure(path);
        put_before_rest(target.data());
        return target[0] == '/' ? go_to_root() : std::expected<void, std::string>();
    }

    TrustedFor use_;
    TrustedObject at_{};
    std::vector<std::string> rest_{};
    unsigned links_ = 0;
};

}  // namespace

std::expected<TrustedObject, std::string> walk_trusted(const std::string& path, TrustedFor use) {
    const auto from_root = absolute(path);
    if (!from_root) return Failure(from_root.error());
    return Walk(use).to(*from_root);
}

std::expected<proto::UniqueFd, std::string> open_for_reading(const TrustedObject& object, int flags) {
    // Relative to the directory, because an O_PATH descriptor can be opened again only by way of procfs.
    UniqueFd fd(::openat(object.directory.number(), object.name.c_str(),
                         O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags));
    struct stat status{};
    if (!fd || ::fstat(fd.number(), &status) != 0) return failure(object.path);
    if (status.st_dev != object.status.st_dev || status.st_ino != object.status.st_ino) {
        return failure(object.path, ESTALE);
    }
    if (auto reason = distrust(object.path, status, TrustedFor::policy)) return Failure(std::move(*reason));
    return fd;
}

std::expected<proto::UniqueFd, std::string> open_for_appending(const TrustedObject& directory,
                                                               const std::string& name, AppendTo what) {
    constexpr int flags = O_WRONLY | O_APPEND | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC;
    const int parent = directory.fd.number();
    const std::string path = (directory.path == "/" ? "" : directory.path) + "/" + name;
    struct stat found{}, opened{};
    if (::fstatat(parent, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno != ENOENT) return failure(path);
        UniqueFd made(::openat(parent, name.c_str(), flags | O_CREAT | O_EXCL, 0600));
        if (!made) return failure(path);
        return made;
    }
    const bool fits = what == AppendTo::regular_files ? S_ISREG(found.st_mode) : !S_ISLNK(found.st_mode);
    if (!fits) return Failure(fmt::format("{} is {}, not a regular file", path, kind_of_file(found.st_mode)));
    // Whoever may write to a device changes nothing that was written to it before.
    if (S_ISCHR(found.st_mode)) found.st_mode &= ~static_cast<mode_t>(S_IWGRP | S_IWOTH);
    if (auto reason = distrust(path, found, TrustedFor::records)) return Failure(std::move(*reason));
    UniqueFd fd(::openat(parent, name.c_str(), flags));
    if (!fd || ::fstat(fd.number(), &opened) != 0) return failure(path);
    if (opened.st_dev != found.st_dev || opened.st_ino != found.st_ino) return failure(path, ESTALE);
    return fd;
}

const char* kind_of_file(mode_t mode) noexcept {
    switch (mode & S_IFMT) {
        case S_IFDIR:
            return "a directory";
        case S_IFLNK:
            return "a symbolic link";
        case S_IFIFO:
            return "a FIFO";
        case S_IFSOCK:
            return "a socket";
        case S_IFCHR:
        case S_IFBLK:
            return "a device";
        default:
            return "no regular file";
    }
}

}  // namespace fdbroker::opener
