// SPDX-License-Identifier: MIT
// Ways out by a name.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <string>

#include "worker/sandbox/escape_groups.hpp"

namespace fdbroker::worker {
namespace {

// Younger than the oldest headers that this is built with; the same on every architecture.
constexpr long statmount_number = 457;  // Linux 6.8
constexpr long listmount_number = 458;

// struct mnt_id_req of linux/mount.h
struct MountRequest {
    std::uint32_t size;
    std::uint32_t spare;
    std::uint64_t mount;
    std::uint64_t parameter;
};

union FileHandle {
    file_handle head;
    std::array<char, sizeof(file_handle) + MAX_HANDLE_SZ> room{};
};

int name_handle(const EscapeScene& scene, FileHandle& handle) {
    int mount = 0;
    handle.head.handle_bytes = MAX_HANDLE_SZ;
    return ::name_to_handle_at(AT_FDCWD, scene.file_path.c_str(), &handle.head, &mount, 0);
}

constexpr Escape list[] = {
    {"open a file",
     [](const EscapeScene& scene) -> long { return ::open(scene.file_path.c_str(), O_RDONLY); }},
    {"open a path only",
     [](const EscapeScene& scene) -> long { return ::open(scene.file_path.c_str(), O_PATH); }},
    {"open a file relative to a directory it holds",
     [](const EscapeScene& scene) -> long { return ::openat(scene.directory.number(), "file", O_RDONLY); }},
    {"open a file with openat2",
     [](const EscapeScene& scene) -> long {
         open_how how{};
         return ::syscall(SYS_openat2, AT_FDCWD, scene.file_path.c_str(), &how, sizeof how);
     }},
    {"create a file",
     [](const EscapeScene& scene) -> long {
         return ::open(scene.new_path.c_str(), O_WRONLY | O_CREAT, 0600);
     }},
    {"open a descriptor of its own anew",
     [](const EscapeScene& scene) -> long {
         return ::open(("/proc/self/fd/" + std::to_string(scene.file.number())).c_str(), O_RDWR);
     }},
    {"stat a file",
     [](const EscapeScene& scene) -> long {
         struct stat status{};
         return ::fstatat(AT_FDCWD, scene.file_path.c_str(), &status, 0);
     }},
    {"statx a file",
     [](const EscapeScene& scene) -> long {
         struct statx status{};
         return ::statx(AT_FDCWD, scene.file_path.c_str(), 0, STATX_ALL, &status);
     }},
    {"ask whether a file is there",
     [](const EscapeScene& scene) -> long { return ::access(scene.file_path.c_str(), F_OK); }},
    {"read a link",
     [](const EscapeScene&) -> long {
         std::array<char, 100> target{};
         return ::readlink("/proc/self/exe", target.data(), target.size());
     }},
    {"change its directory", [](const EscapeScene&) -> long { return ::chdir("/"); }},
    {"change to a directory it holds",
     [](const EscapeScene& scene) -> long { return ::fchdir(scene.directory.number()); }},
    {"change its root", [](const EscapeScene&) -> long { return ::chroot("/"); }},
    {"list a directory it holds",
     [](const EscapeScene& scene) -> long {
         std::array<char, 1024> entries{};
         return ::syscall(SYS_getdents64, scene.directory.number(), entries.data(), entries.size());
     }},
    {"make a directory",
     [](const EscapeScene& scene) -> long { return ::mkdir(scene.new_path.c_str(), 0700); }},
    {"make a FIFO", [](const EscapeScene& scene) -> long { return ::mkfifo(scene.new_path.c_str(), 0600); }},
    {"remove a file", [](const EscapeScene& scene) -> long { return ::unlink(scene.file_path.c_str()); }},
    {"rename a file",
     [](const EscapeScene& scene) -> long {
         return ::rename(scene.file_path.c_str(), scene.new_path.c_str());
     }},
    {"link a file",
     [](const EscapeScene& scene) -> long {
         return ::link(scene.file_path.c_str(), scene.new_path.c_str());
     }},
    {"make a symbolic link",
     [](const EscapeScene& scene) -> long { return ::symlink("/", scene.new_path.c_str()); }},
    {"truncate a file by its path",
     [](const EscapeScene& scene) -> long { return ::truncate(scene.file_path.c_str(), 0); }},
    {"change a mode by path",
     [](const EscapeScene& scene) -> long { return ::chmod(scene.file_path.c_str(), 0600); }},
    {"change an owner by path",
     [](const EscapeScene& scene) -> long {
         return ::chown(scene.file_path.c_str(), ::getuid(), ::getgid());
     }},
    {"change times by path",
     [](const EscapeScene& scene) -> long {
         return ::utimensat(AT_FDCWD, scene.file_path.c_str(), nullptr, 0);
     }},
    {"read extended attributes by path",
     [](const EscapeScene& scene) -> long { return ::listxattr(scene.file_path.c_str(), nullptr, 0); }},
    {"ask for a filesystem by path",
     [](const EscapeScene&) -> long {
         struct statfs status{};
         return ::statfs("/", &status);
     }},
    {"watch a directory",
     [](const EscapeScene& scene) -> long {
         return ::inotify_add_watch(::inotify_init1(IN_CLOEXEC), scene.path.c_str(), IN_CREATE);
     }},
    {"name a file by its handle",
     [](const EscapeScene& scene) -> long {
         FileHandle handle;
         return name_handle(scene, handle);
     }},
    {"open a file by its handle",
     [](const EscapeScene& scene) -> long {
         FileHandle handle;
         static_cast<void>(name_handle(scene, handle));
         return ::open_by_handle_at(scene.directory.number(), &handle.head, O_RDONLY);
     }},
    {"make an unnamed file",
     [](const EscapeScene& scene) -> long { return ::open(scene.path.c_str(), O_TMPFILE | O_RDWR, 0600); }},
    {"give a file that it holds a name",
     [](const EscapeScene& scene) -> long {
         return ::linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(scene.file.number())).c_str(), AT_FDCWD,
                         scene.new_path.c_str(), AT_SYMLINK_FOLLOW);
     }},
    {"see its parent's root through /proc",
     [](const EscapeScene& scene) -> long {
         return ::open(("/proc/" + std::to_string(scene.parent) + "/root").c_str(), O_PATH);
     }},
    {"write its own memory through /proc",
     [](const EscapeScene&) -> long { return ::open("/proc/self/mem", O_RDWR); }},
    {"ask for its directory",
     [](const EscapeScene&) -> long {
         std::array<char, 4096> name{};
         return ::syscall(SYS_getcwd, name.data(), name.size());
     }},
    {"mount a filesystem", [](const EscapeScene&) -> long { return ::syscall(SYS_fsopen, "tmpfs", 0); }},
    {"take a part of the mount tree",
     [](const EscapeScene&) -> long { return ::syscall(SYS_open_tree, AT_FDCWD, "/", 1); }},
    {"list the mounts",
     [](const EscapeScene&) -> long {
         const MountRequest request{.size = sizeof request, .spare = 0, .mount = ~0ull, .parameter = 0};
         std::array<std::uint64_t, 16> mounts{};
         return ::syscall(listmount_number, &request, mounts.data(), mounts.size(), 0);
     }},
    {"ask for a mount",
     [](const EscapeScene& scene) -> long {
         const MountRequest request{.size = sizeof request, .spare = 0, .mount = scene.mount, .parameter = 1};
         std::array<std::uint64_t, 512> told{};
         return ::syscall(statmount_number, &request, told.data(), sizeof told, 0);
     }},
    {"open a message queue",
     [](const EscapeScene&) -> long {
         return ::syscall(SYS_mq_open, "fdbroker-absent", O_RDONLY, 0, nullptr) < 0 && errno == ENOENT ? 0
                                                                                                       : -1;
     }},
};

}  // namespace

std::span<const Escape> path_escapes() {
    return list;
}

}  // namespace fdbroker::worker
