// SPDX-License-Identifier: MIT
// Paths as the kernel resolves them, without the kernel: the opener takes canonical ones alone, and decides on the links
// in the middle itself. Links matter here only before "..", and where they lead out of the runtime.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <optional>

#include "proto/payload.hpp"
#include "worker/run/call.hpp"

namespace fdbroker::worker {
// Not in the unnamed namespace: a coroutine's frame holds it (-Wsubobject-linkage in a build in one piece).
// A path under resolution: `done` is resolved, without a slash at its end; `rest` is not.
struct Walk {
    std::string done{};
    std::string rest{};
    std::size_t physical = 0;  // up to there no component of `done` is a link
    unsigned links = 0;
    bool wants_directory = false;

    // The next component is taken off `rest`; empty: there is none.
    std::string next() {
        const auto begin = rest.find_first_not_of('/');
        if (begin == std::string::npos) {
            rest.clear();
            return {};
        }
        const auto end = std::min(rest.find('/', begin), rest.size());
        std::string component = rest.substr(begin, end - begin);
        rest.erase(0, end);
        if (rest.find_first_not_of('/') == std::string::npos) {
            wants_directory = !rest.empty() || component == "." || component == "..";
            rest.clear();
        }
        return component;
    }
    void pop() {
        done.erase(std::min(done.rfind('/'), done.size()));
        physical = std::min(physical, done.size());
    }
    // The last component is a link: what it leads to is walked instead, and then `after`. False: there are too many.
    bool follow(const std::string& target, std::string_view after) {
        if (++links > max_links) return false;
        pop();
        if (target.starts_with('/')) {
            done.clear();
            physical = 0;
        }
        rest = target + std::string(after) + rest;
        return true;
    }
};

namespace {

std::string joined(std::string_view base, std::string_view rest) {
    std::string path(base);
    if (!path.ends_with('/')) path += '/';
    return path.append(rest);
}

// The target of a link; nullopt: it is a directory. ENOTDIR: it is something else.
using Found = OrErrno<std::optional<std::string>>;

Found look_natively(const std::string& path) {
    struct stat status;
    if (::lstat(path.c_str(), &status) != 0) return std::unexpected(errno);
    if (S_ISDIR(status.st_mode)) return std::nullopt;
    if (!S_ISLNK(status.st_mode)) return std::unexpected(ENOTDIR);
    std::array<char, PATH_MAX> target;
    const ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
    if (size < 0) return std::unexpected(errno);
    return std::string(target.data(), static_cast<std::size_t>(size));
}

Task<Found> look(const Call& call, std::string path) {
    if (path.empty() || call.services.view.region_of(path) == Region::process) co_return std::nullopt;
    if (call.services.view.region_of(path) == Region::native) co_return look_natively(path);
    const Ask status_ask{.call = proto::Call::stat, .path = path.c_str(), .flags = AT_SYMLINK_NOFOLLOW};
    const Reply status = co_await call.ask(status_ask);
    if (status.result < 0) co_return std::unexpected(-status.result);
    const auto told = proto::read_status(status.payload);
    if (!told) co_return std::unexpected(EIO);
    if (S_ISDIR(told->mode)) co_return std::nullopt;
    if (!S_ISLNK(told->mode)) co_return std::unexpected(ENOTDIR);
    const Ask link_ask{.call = proto::Call::readlink, .path = path.c_str()};
    Reply link = co_await call.ask(link_ask);
    if (link.result < 0) co_return std::unexpected(-link.result);
    co_return std::optional(std::move(link.payload));
}

Task<OrErrno<Location>> resolve(const Call& call, Walk walk, LastLink last) {
    const View& view = call.services.view;
    for (;;) {
        const std::string component = walk.next();
        if (component.empty()) break;
        if (component == ".") continue;
        if (component == "..") {
            if (walk.done.size() > walk.physical) {
                const Found found = co_await look(call, walk.done);
                if (!found) co_return std::unexpected(found.error());
                if (*found) {
                    if (!walk.follow(**found, "/..")) co_return std::unexpected(ELOOP);
                    continue;
                }
            }
            walk.pop();
            continue;
        }
        if (component.size() > NAME_MAX) co_return std::unexpected(ENAMETOOLONG);
        walk.done += '/';
        walk.done += component;
        // A link of the runtime may lead out of it.
        const bool is_last = walk.rest.empty() && !walk.wants_directory;
        if (view.region_of(walk.done) != Region::native || (is_last && last == LastLink::keep)) continue;
        const Found found = look_natively(walk.done);
        if (found && *found && !walk.follow(**found, "")) co_return std::unexpected(ELOOP);
    }
    Location location{.path = walk.done.empty() ? "/" : std::move(walk.done),
                      .wants_directory = walk.wants_directory};
    location.region = view.region_of(location.path);
    co_return location;
}

// "/a/b" without empty, "." and ".." components.
bool is_canonical(std::string_view path) {
    if (path.size() > 1 && path.ends_with('/')) return false;
    for (std::size_t at = 0; at < path.size();) {
        const auto end = std::min(path.find('/', at + 1), path.size());
        const auto component = path.substr(at + 1, end - at - 1);
        if (component.empty() || component == "." || component == ".." || component.size() > NAME_MAX)
            return path == "/";
        at = end;
    }
    return true;
}

// Whether a path of the runtime ends at a name that is missing, without a link on the way that may lead out.
bool is_missing(const std::string& path) {
    open_how how{.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .mode = 0, .resolve = RESOLVE_NO_SYMLINKS};
    const proto::UniqueFd found(
        static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how)));
    return !found && errno == ENOENT;
}

// Where a magic link of /proc/self leads to, followed by the rest of the path; nullopt: the path does not go through one,
// or ends with one that is to be kept.
std::optional<OrErrno<std::string>> through_magic_link(const Call& call, const Location& location,
                                                       LastLink last) {
    const auto own = own_proc_part(call.target, location.path);
    if (!own) return std::nullopt;
    const bool of_descriptor = own->starts_with("fd/");
    const auto end = std::min(own->find('/', of_descriptor ? 3 : 0), own->size());
    const std::string name = own->substr(0, end);
    const bool is_whole = end == own->size() && !location.wants_directory;
    if (!of_descriptor && name != "cwd" && name != "root" && name != "exe") return std::nullopt;
    if (is_whole && (last == LastLink::keep || of_descriptor)) return std::nullopt;
    const auto leads_to = call.target.read_link(name);
    if (!leads_to) return std::unexpected(leads_to.error());
    if (!leads_to->starts_with('/')) return std::unexpected(ENOTDIR);
    return *leads_to + own->substr(end) + (location.wants_directory ? "/" : "");
}

}  // namespace

std::optional<std::string> own_proc_part(const Target& target, std::string_view path) {
    for (const auto& [device, name] : {std::pair{"/dev/fd", "fd"}, std::pair{"/dev/stdin", "fd/0"},
                                       std::pair{"/dev/stdout", "fd/1"}, std::pair{"/dev/stderr", "fd/2"}})
        if (is_within(path, device)) return name + std::string(path.substr(std::string_view(device).size()));
    constexpr std::string_view proc = "/proc/";
    if (!path.starts_with(proc)) return std::nullopt;
    path.remove_prefix(proc.size());
    const auto end = std::min(path.find('/'), path.size());
    const auto whose = path.substr(0, end);
    const auto process = target.process();
    if (whose != "self" && whose != "thread-self" && (!process || whose != std::to_string(*process)))
        return std::nullopt;
    return std::string(path.substr(std::min(end + 1, path.size())));
}

OrErrno<std::string> Call::base_of(int directory, const std::string& path) const {
    if (path.starts_with('/')) return std::string();
    auto base = directory == AT_FDCWD ? target.working_directory() : target.path_of(directory);
    if (!base) return base;
    if (!base->starts_with('/')) return std::unexpected(ENOTDIR);
    // A descriptor of this worker's procfs is one of /proc to the program.
    struct stat status;
    struct stat proc;
    if (directory != AT_FDCWD && ::fstat(services.proc.number(), &proc) == 0) {
        const auto told = target.status_of(directory);
        if (told) status = *told;
        if (told && status.st_dev == proc.st_dev) base->insert(0, "/proc");
        if (told && !S_ISDIR(status.st_mode)) return std::unexpected(ENOTDIR);
    }
    if (*base == "/") base->clear();
    return base;
}

Task<OrErrno<Location>> Call::locate(int directory, std::uint64_t address, LastLink last) const {
    auto path = target.read_string(address, PATH_MAX);
    if (!path) co_return std::unexpected(path.error());
    OrErrno<Location> location = co_await locate(directory, std::move(*path), last);
    co_return location;
}

Task<OrErrno<Location>> Call::locate(int directory, std::string path, LastLink last) const {
    if (path.empty()) co_return std::unexpected(ENOENT);
    auto base = base_of(directory, path);
    if (!base) co_return std::unexpected(base.error());
    // All that is known of the thread was its own, or nobody waits for the answer.
    if (!is_valid()) co_return std::unexpected(EINTR);
    Location location{.path = path.starts_with('/') ? path : joined(*base, path)};
    struct stat ignored;
    const bool canonical = is_canonical(location.path);
    location.region = services.view.region_of(location.path);
    if (canonical && location.region == Region::brokered) co_return location;
    if (canonical && location.region == Region::native &&
        (::fstatat(AT_FDCWD, location.path.c_str(), &ignored,
                   last == LastLink::keep ? AT_SYMLINK_NOFOLLOW : 0) == 0 ||
         (errno == ENOENT && is_missing(location.path))))
        co_return location;
    Walk walk{.done = std::move(*base), .rest = std::move(path)};
    walk.physical = walk.done.size();
    OrErrno<Location> resolved = co_await resolve(*this, std::move(walk), last);
    if (!resolved || resolved->region != Region::process) co_return resolved;
    const auto own = own_proc_part(target, resolved->path);
    if (own && own->starts_with("fd/") && own->find('/', 3) == std::string::npos &&
        last == LastLink::follow) {
        auto brokered = brokered_path_of(*this, std::atoi(own->c_str() + 3));
        if (brokered && !brokered->empty())
            co_return Location{.region = Region::brokered,
                               .path = std::move(*brokered),
                               .wants_directory = resolved->wants_directory};
    }
    auto led = through_magic_link(*this, *resolved, last);
    if (!led) co_return resolved;
    if (!*led) co_return std::unexpected(led->error());
    OrErrno<Location> elsewhere = co_await locate(AT_FDCWD, std::move(**led), last);
    co_return elsewhere;
}

}  // namespace fdbroker::worker
