// SPDX-License-Identifier: MIT
// Makes file calls in the working directory and prints what each returns: the same outside and under `worker run`.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

void tell(const char* what, long result) {
    if (result < 0)
        fmt::print("{}: {}\n", what, ::strerrorname_np(errno));
    else
        fmt::print("{}: ok\n", what);
}

#define TELL(call) tell(#call, call)

std::string content_of(int file) {
    std::array<char, 100> text;
    const ssize_t size = ::read(file, text.data(), text.size());
    return size < 0 ? ::strerrorname_np(errno) : std::string(text.data(), static_cast<std::size_t>(size));
}

// Opened and closed; its content where it can be read.
void tell_open(const char* path, int flags, mode_t mode = 0644, int directory = AT_FDCWD) {
    const int file = ::openat(directory, path, flags, mode);
    fmt::print("open {} {:o}: {}\n", path, flags,
               file < 0                          ? ::strerrorname_np(errno)
               : (flags & O_ACCMODE) == O_RDONLY ? content_of(file)
                                                 : "ok");
    if (file >= 0) ::close(file);
}

void tell_status(const char* path, int flags) {
    struct stat status;
    if (::fstatat(AT_FDCWD, path, &status, flags) != 0) {
        fmt::print("stat {}: {}\n", path, ::strerrorname_np(errno));
        return;
    }
    // Modes of what is made are the policy's.
    fmt::print("stat {}: {:o} {} {} {} {} {}\n", path, status.st_mode & S_IFMT, status.st_uid, status.st_gid,
               S_ISDIR(status.st_mode) ? 0 : status.st_size, status.st_ino, status.st_dev);
}

void tell_directory() {
    char path[PATH_MAX];
    fmt::print("cwd {}\n", ::getcwd(path, sizeof path) == nullptr ? ::strerrorname_np(errno) : path);
}

void tell_names(const char* path) {
    DIR* directory = ::opendir(path);
    if (directory == nullptr) {
        fmt::print("list {}: {}\n", path, ::strerrorname_np(errno));
        return;
    }
    std::vector<std::string> names;
    std::vector<long> places;
    while (const dirent* entry = ::readdir(directory)) {
        names.emplace_back(fmt::format("{}:{}", entry->d_name, entry->d_type));
        places.push_back(::telldir(directory));
    }
    // The same entry comes again from the place that stands before it.
    bool comes_again = true;
    if (names.size() > 3) {
        ::seekdir(directory, places[1]);
        const dirent* third = ::readdir(directory);
        comes_again = third != nullptr && names[2].starts_with(std::string(third->d_name) + ":");
    }
    ::rewinddir(directory);
    std::size_t again = 0;
    while (::readdir(directory) != nullptr) ++again;
    std::ranges::sort(names);
    fmt::print("list {}: {} again {} {}\n", path, names.size(), again == names.size(), comes_again);
    for (const std::string& name : names) fmt::print("  {}\n", name);
    ::closedir(directory);
}

void names() {
    TELL(::mkdir("d", 0755));
    TELL(::mkdir("d", 0755));
    TELL(::mkdir("no/such", 0755));
    TELL(::mkdir("d/e/", 0700));
    TELL(::mkdirat(::open("d", O_PATH | O_DIRECTORY), "f", 0755));
    TELL(::symlink("d/e", "l"));
    TELL(::symlink("../file", "d/up"));
    TELL(::symlink("nowhere", "dangling"));
    TELL(::symlink("loop", "loop"));
    TELL(::rename("d/f", "d/g"));
    TELL(::rename("no", "d/h"));
    TELL(::rename("d", "d/inside"));
    TELL(::syscall(SYS_renameat2, AT_FDCWD, "d/g", AT_FDCWD, "d/e", 1));
    TELL(::unlink("d"));
    TELL(::rmdir("d"));
    TELL(::rmdir("d/g"));
    TELL(::unlink("no"));
    std::array<char, 20> target{};
    TELL(::readlink("l", target.data(), target.size()));
    fmt::print("link {}\n", target.data());
    TELL(::readlink("d", target.data(), target.size()));
    TELL(::readlink("l", target.data(), 2));
}

void opens() {
    tell_open("file", O_WRONLY | O_CREAT | O_EXCL);
    tell_open("file", O_WRONLY | O_CREAT | O_EXCL);
    const int file = ::open("file", O_RDWR);
    TELL(::write(file, "0123456789", 10));
    TELL(::lseek(file, 2, SEEK_SET));
    fmt::print("{}\n", content_of(file));
    ::close(file);
    for (const char* path :
         {"file", "./file", "d/../file", "d//up", "l/../../file", "d/e/../../file", "file/", "d/", "d",
          "dangling", "loop", "no", "no/", "", "file/x", "l/.", "../work/file"})
        tell_open(path, O_RDONLY);
    for (const int flags : {O_WRONLY, O_WRONLY | O_APPEND, O_RDWR | O_TRUNC, O_RDONLY | O_NOFOLLOW,
                            O_RDONLY | O_DIRECTORY, O_RDONLY | O_NONBLOCK})
        tell_open("file", flags);
    tell_open("d", O_WRONLY);
    tell_open("l", O_RDONLY | O_NOFOLLOW);
    tell_open(std::string(300, 'x').c_str(), O_RDONLY);
    const int directory = ::open("d", O_RDONLY | O_DIRECTORY);
    tell_open("up", O_RDONLY, 0, directory);
    tell_open("../file", O_RDONLY, 0, directory);
    tell_open("x", O_RDONLY, 0, 999);
    tell_open("x", O_RDONLY, 0, ::open("file", O_RDONLY));
    TELL(::syscall(SYS_openat, AT_FDCWD, 8, O_RDONLY));
    // The lowest free number, and close-on-exec as it was asked for.
    const int first = ::open("file", O_RDONLY);
    ::close(first);
    fmt::print("lowest {}\n", ::open("file", O_RDONLY | O_CLOEXEC) == first);
    fmt::print("cloexec {} {}\n", ::fcntl(first, F_GETFD), ::fcntl(::open("file", O_RDONLY), F_GETFD));
}

void statuses() {
    for (const char* path :
         {"file", "d", "l", "d/up", "dangling", "loop", "no", "file/", "d/", "l/", "", "."}) {
        tell_status(path, 0);
        tell_status(path, AT_SYMLINK_NOFOLLOW);
    }
    tell_status("", AT_EMPTY_PATH);
    struct stat by_path;
    struct stat by_descriptor;
    const int directory = ::open("d", O_RDONLY | O_DIRECTORY);
    TELL(::fstat(directory, &by_descriptor));
    TELL(::stat("d", &by_path));
    fmt::print("same {}\n",
               by_path.st_ino == by_descriptor.st_ino && by_path.st_dev == by_descriptor.st_dev &&
                   by_path.st_mode == by_descriptor.st_mode && by_path.st_nlink == by_descriptor.st_nlink);
    // A C library may make newfstatat(2) of fstat(3).
    struct stat by_number{};
    TELL(static_cast<int>(::syscall(SYS_fstat, directory, &by_number)));
    fmt::print("same by number {}\n", by_number.st_uid == by_path.st_uid &&
                                          by_number.st_ino == by_path.st_ino &&
                                          by_number.st_mode == by_path.st_mode);
    const int link = ::open("l", O_PATH | O_NOFOLLOW);
    TELL(::fstat(link, &by_descriptor));
    fmt::print("link by descriptor {:o}\n", by_descriptor.st_mode & S_IFMT);
    struct statx extended;
    TELL(::statx(AT_FDCWD, "file", 0, STATX_ALL, &extended));
    TELL(::stat("file", reinterpret_cast<struct stat*>(8)));
    for (const int mode : {F_OK, R_OK, W_OK, X_OK}) TELL(::access("file", mode));
    TELL(::access("no", F_OK));
    TELL(::access("d", X_OK));
    TELL(::faccessat(AT_FDCWD, "dangling", F_OK, AT_SYMLINK_NOFOLLOW));
    TELL(::access("file", 99));
}

void attributes() {
    TELL(::chmod("file", 0640));
    TELL(::chmod("no", 0640));
    TELL(::fchmod(::open("file", O_RDONLY), 0600));
    TELL(::fchmodat(AT_FDCWD, "file", 0644, AT_SYMLINK_NOFOLLOW));
    const timespec times[] = {{.tv_sec = 1000, .tv_nsec = 5}, {.tv_sec = 2000, .tv_nsec = 6}};
    TELL(::utimensat(AT_FDCWD, "file", times, 0));
    struct stat status{};
    ::stat("file", &status);
    fmt::print("times {} {} {:o}\n", status.st_atim.tv_sec, status.st_mtim.tv_nsec, status.st_mode);
    TELL(::futimens(::open("file", O_RDONLY), times));
    const timeval older[] = {{.tv_sec = 3, .tv_usec = 4}, {.tv_sec = 5, .tv_usec = 6}};
    TELL(::utimes("file", older));
    const utimbuf oldest{.actime = 7, .modtime = 8};
    TELL(::utime("file", &oldest));
    TELL(::utime("file", nullptr));
    const timespec wrong[] = {{.tv_sec = 1, .tv_nsec = -7}, {.tv_sec = 1, .tv_nsec = 0}};
    TELL(::utimensat(AT_FDCWD, "file", wrong, 0));
    for (const char* link : {"d/up", "dangling", "loop", "l/"}) {
        TELL(::utimensat(AT_FDCWD, link, times, AT_SYMLINK_NOFOLLOW));
        ::lstat(link, &status);
        fmt::print("times of {}: {} {}\n", link, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
        TELL(::utimensat(AT_FDCWD, link, nullptr, AT_SYMLINK_NOFOLLOW));
    }
    TELL(::fchmodat(AT_FDCWD, "dangling", 0644, AT_SYMLINK_NOFOLLOW));
    TELL(::truncate("file", 4));
    TELL(::truncate("d", 4));
    TELL(::truncate("file", -1));
    ::stat("file", &status);
    fmt::print("size {}\n", status.st_size);
    TELL(::setxattr("file", "user.a", "value", 5, 0));
    TELL(::fsetxattr(::open("file", O_RDWR), "user.b", "v", 1, 0));
    std::array<char, 100> value{};
    fmt::print("xattr {}\n", ::getxattr("file", "user.a", value.data(), value.size()));
    fmt::print("length {}\n", ::getxattr("file", "user.a", nullptr, 0));
    TELL(::getxattr("file", "user.a", value.data(), 2));
    TELL(::getxattr("file", "user.none", value.data(), 2));
    fmt::print("names {}\n", ::listxattr("file", value.data(), value.size()));
    TELL(::removexattr("file", "user.a"));
    TELL(::removexattr("file", "user.a"));
}

void directories() {
    tell_directory();
    TELL(::chdir("d"));
    tell_directory();
    tell_open("up", O_RDONLY);
    TELL(::chdir(".."));
    TELL(::chdir("l"));
    tell_directory();
    TELL(::chdir("../../"));
    tell_directory();
    TELL(::chdir("file"));
    TELL(::chdir("no"));
    TELL(::chdir("loop"));
    const int directory = ::open("d/e", O_RDONLY | O_DIRECTORY);
    TELL(::fchdir(directory));
    tell_directory();
    // Working directories are inherited, and each process has its own.
    const pid_t child = ::fork();
    if (child == 0) {
        tell_directory();
        ::chdir("..");
        tell_directory();
        std::fflush(stdout);
        ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
    tell_directory();
    // Threads share one.
    std::thread([] { ::chdir("../.."); }).join();
    tell_directory();
    TELL(::mkdir("gone", 0755));
    TELL(::chdir("gone"));
    TELL(::rmdir("../gone"));
    tell_directory();
    tell_open("x", O_RDONLY);
    TELL(::fchdir(directory));
    TELL(::chdir("../.."));
    TELL(::mkdir("many", 0755));
    for (int number = 0; number < 3000; ++number)
        ::close(::open(fmt::format("many/a-rather-long-name-number-{}", number).c_str(), O_CREAT | O_WRONLY,
                       0644));
    TELL(::rename("many", "moved"));
    tell_names(".");
    tell_names("moved");
    tell_names("d");
    tell_names("file");
    tell_names("no");
}

void processes() {
    std::array<char, PATH_MAX> path{};
    const int file = ::open("file", O_RDONLY);
    const std::string link = fmt::format("/proc/self/fd/{}", file);
    TELL(::readlink(link.c_str(), path.data(), path.size()));
    fmt::print("{}\n", path.data());
    tell_open(link.c_str(), O_RDONLY);
    tell_open(fmt::format("/dev/fd/{}", file).c_str(), O_RDONLY);
    tell_open("/proc/self/comm", O_RDONLY);
    const int own = ::open(fmt::format("/proc/{}/comm", ::getpid()).c_str(), O_RDONLY);
    fmt::print("{}\n", content_of(own));
    tell_open("/proc/self/fd/999", O_RDONLY);
    tell_open("/proc/self/cwd/file", O_RDONLY);
    tell_status(link.c_str(), 0);
    tell_open("/dev/null", O_RDWR);
    tell_open("/dev/zero/x", O_RDONLY);
    const pid_t child = ::vfork();
    if (child == 0) {
        ::execl("/bin/sh", "sh", "-c", "exit 3", nullptr);
        ::_exit(9);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    fmt::print("vfork {}\n", WEXITSTATUS(status));
    TELL(::execl("no", "no", nullptr));
    TELL(::execl("file", "file", nullptr));
    TELL(::execl("d", "d", nullptr));
}

}  // namespace

int main() {
    std::setvbuf(stdout, nullptr, _IOFBF, 1 << 16);
    ::umask(022);
    names();
    opens();
    statuses();
    attributes();
    directories();
    processes();
}
