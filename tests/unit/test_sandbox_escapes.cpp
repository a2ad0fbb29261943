// What a process tries that has been taken over. Each attempt is made by a child as it is, where it must work (or the
// kernel does not offer that way out, and the test is skipped), by one behind the filter alone, and by a confined one.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/openat2.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <string>

#include "proto/address.hpp"
#include "proto/unique_fd.hpp"
#include "tests/support/files.hpp"
#include "tests/support/verdict.hpp"
#include "tests/unit/test_sandbox_child.hpp"
#include "worker/sandbox/filter.hpp"
#include "worker/sandbox/sandbox.hpp"

namespace fdbroker::test {
namespace {

using proto::UniqueFd;

UniqueFd require_open(const std::string& path, int flags) {
    UniqueFd file(::open(path.c_str(), flags | O_CLOEXEC));
    REQUIRE(file);
    return file;
}

UniqueFd unix_socket(int type) {
    UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    REQUIRE(socket);
    return socket;
}

proto::Address::SocketName socket_name(const std::string& path) {
    return proto::Address::parse(path)->socket_name();
}

UniqueFd bound(const std::string& path, int type) {
    UniqueFd socket = unix_socket(type);
    const auto name = socket_name(path);
    REQUIRE(::bind(socket.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) == 0);
    if (type == SOCK_STREAM) REQUIRE(::listen(socket.number(), 4) == 0);
    return socket;
}

UniqueFd written(const std::string& path) {
    write_file(path, "content");
    return require_open(path, O_RDWR);
}

// Files, sockets and descriptors of the parent's for the children to try.
struct Place {
    TempDir directory{TempDir::Place::var_tmp};
    std::string path = directory.path();
    std::string file_path = path + "/file";
    std::string new_path = path + "/new";
    UniqueFd file = written(file_path);
    UniqueFd directory_descriptor = require_open(path, O_RDONLY | O_DIRECTORY);
    UniqueFd program = require_open("/bin/true", O_RDONLY);
    UniqueFd listener = bound(path + "/stream", SOCK_STREAM);
    UniqueFd mailbox = bound(path + "/datagram", SOCK_DGRAM);
    UniqueFd stream_socket = unix_socket(SOCK_STREAM);
    UniqueFd datagram_socket = unix_socket(SOCK_DGRAM);
    pid_t parent = ::getpid();
    UniqueFd parent_pidfd{static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0))};
    UniqueFd network_namespace = require_open("/proc/self/ns/net", O_RDONLY);
};

using Attempt = int (*)(const Place& place);

// Why the attempt says nothing about the sandbox here; empty when it was stopped as it should be.
std::string check(Attempt attempt) {
    const Place place;
    const int outside = in_child([&] { return attempt(place); });
    if (outside != 0) return "it does not even work outside: " + std::to_string(outside);
    const int filtered = in_child([&] {
        if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !worker::enter_filter(worker::Signals::filter))
            return 0;
        return attempt(place);
    });
    CHECK(filtered != 0);
    const int confined = in_child([&] {
        if (!worker::confine({.missing_layer = worker::MissingLayer::go_on})) return 0;
        return attempt(place);
    });
    CHECK(confined != 0);
    return "";
}

long write_and_run(const Place& place) {
    struct stat program{};
    if (::fstat(place.program.number(), &program) != 0)
        program.st_size = 1 << 24;  // refused where it is a path's
    const int file = ::memfd_create("program", MFD_CLOEXEC);
    if (::sendfile(file, place.program.number(), nullptr, static_cast<std::size_t>(program.st_size)) < 0)
        return -1;
    std::array<char, 5> name{"true"};
    const std::array<char*, 2> arguments{name.data(), nullptr};
    return ::syscall(SYS_execveat, file, "", arguments.data(), nullptr, AT_EMPTY_PATH);
}

template <typename Call>
long with_name(const std::string& path, Call call) {
    const auto name = socket_name(path);
    return call(reinterpret_cast<const sockaddr*>(&name.address), name.size);
}

}  // namespace

// A macro because the name of a test case is a literal. What follows the name is what a system call returned.
#define ESCAPE(what, ...)                                                                            \
    TEST_CASE("sandbox: a confined process cannot " what) {                                          \
        const std::string why =                                                                      \
            check([]([[maybe_unused]] const Place& place) -> int { return errno_of(__VA_ARGS__); }); \
        FDBROKER_SKIP_UNLESS(why.empty(), why);                                                      \
    }

// ---- by a path

ESCAPE("open a file", ::open(place.file_path.c_str(), O_RDONLY))
ESCAPE("open a path only", ::open(place.file_path.c_str(), O_PATH))
ESCAPE("open a file relative to a directory it holds",
       ::openat(place.directory_descriptor.number(), "file", O_RDONLY))
ESCAPE("open a file with openat2", [&] {
    open_how how{};
    return ::syscall(SYS_openat2, AT_FDCWD, place.file_path.c_str(), &how, sizeof how);
}())
ESCAPE("create a file", ::open(place.new_path.c_str(), O_WRONLY | O_CREAT, 0600))
ESCAPE("open a descriptor of its own anew",
       ::open(("/proc/self/fd/" + std::to_string(place.file.number())).c_str(), O_RDWR))
ESCAPE("stat a file", [&] {
    struct stat status{};
    return ::fstatat(AT_FDCWD, place.file_path.c_str(), &status, 0);
}())
ESCAPE("statx a file", [&] {
    struct statx status{};
    return ::statx(AT_FDCWD, place.file_path.c_str(), 0, STATX_ALL, &status);
}())
ESCAPE("ask whether a file is there", ::access(place.file_path.c_str(), F_OK))
ESCAPE("read a link", [&] {
    std::array<char, 100> target{};
    return ::readlink("/proc/self/exe", target.data(), target.size());
}())
ESCAPE("change its directory", ::chdir("/"))
ESCAPE("change to a directory it holds", ::fchdir(place.directory_descriptor.number()))
ESCAPE("change its root", ::chroot("/"))
ESCAPE("list a directory it holds", [&] {
    std::array<char, 1024> entries{};
    return ::syscall(SYS_getdents64, place.directory_descriptor.number(), entries.data(), entries.size());
}())
ESCAPE("make a directory", ::mkdir(place.new_path.c_str(), 0700))
ESCAPE("make a FIFO", ::mkfifo(place.new_path.c_str(), 0600))
ESCAPE("remove a file", ::unlink(place.file_path.c_str()))
ESCAPE("rename a file", ::rename(place.file_path.c_str(), place.new_path.c_str()))
ESCAPE("link a file", ::link(place.file_path.c_str(), place.new_path.c_str()))
ESCAPE("make a symbolic link", ::symlink("/", place.new_path.c_str()))
ESCAPE("truncate a file by its path", ::truncate(place.file_path.c_str(), 0))
ESCAPE("change a mode by path", ::chmod(place.file_path.c_str(), 0600))
ESCAPE("change an owner by path", ::chown(place.file_path.c_str(), ::getuid(), ::getgid()))
ESCAPE("change times by path", ::utimensat(AT_FDCWD, place.file_path.c_str(), nullptr, 0))
ESCAPE("read extended attributes by path", ::listxattr(place.file_path.c_str(), nullptr, 0))
ESCAPE("ask for a filesystem by path", [&] {
    struct statfs status{};
    return ::statfs("/", &status);
}())
ESCAPE("watch a directory", ::inotify_add_watch(::inotify_init1(IN_CLOEXEC), place.path.c_str(), IN_CREATE))
ESCAPE("name or open a file by its handle", [&]() -> long {
    union {
        file_handle head;
        std::array<char, sizeof(file_handle) + MAX_HANDLE_SZ> room;
    } handle{};
    handle.head.handle_bytes = MAX_HANDLE_SZ;
    int mount = 0;
    if (::name_to_handle_at(AT_FDCWD, place.file_path.c_str(), &handle.head, &mount, 0) != 0) return -1;
    return ::open_by_handle_at(place.directory_descriptor.number(), &handle.head, O_RDONLY);
}())
ESCAPE("mount a filesystem", ::syscall(SYS_fsopen, "tmpfs", 0))
ESCAPE("take a part of the mount tree", ::syscall(SYS_open_tree, AT_FDCWD, "/", 1))
ESCAPE("open a message queue",
       ::syscall(SYS_mq_open, "fdbroker-test-absent", O_RDONLY) < 0 && errno == ENOENT ? 0 : -1)

// ---- attributes, by a descriptor

ESCAPE("change a mode by descriptor", ::fchmod(place.file.number(), 0600))
ESCAPE("change an owner by descriptor", ::fchown(place.file.number(), ::getuid(), ::getgid()))
ESCAPE("change times by descriptor", ::futimens(place.file.number(), nullptr))
ESCAPE("set an extended attribute by descriptor", ::fsetxattr(place.file.number(), "user.x", "y", 1, 0))
ESCAPE("touch the flags of a file", [&] {
    int flags = 0;
    return ::ioctl(place.file.number(), FS_IOC_GETFLAGS, &flags);
}())

// ---- sockets

ESCAPE("make a Unix socket", ::socket(AF_UNIX, SOCK_STREAM, 0))
ESCAPE("make an Internet socket", ::socket(AF_INET, SOCK_DGRAM, 0))
ESCAPE("make a pair of sockets", [] {
    std::array<int, 2> ends{};
    return ::socketpair(AF_UNIX, SOCK_DGRAM, 0, ends.data());
}())
ESCAPE("connect a socket it holds",
       with_name(place.path + "/stream", [&](const sockaddr* name, socklen_t size) {
           return ::connect(place.stream_socket.number(), name, size);
       }))
ESCAPE("bind a socket it holds", with_name(place.new_path, [&](const sockaddr* name, socklen_t size) {
           return ::bind(place.stream_socket.number(), name, size);
       }))
ESCAPE("send to a path", with_name(place.path + "/datagram", [&](const sockaddr* name, socklen_t size) {
           return ::sendto(place.datagram_socket.number(), "x", 1, 0, name, size);
       }))

// ---- programs

ESCAPE("run a program", [] {
    std::array<char, 5> name{"true"};
    const std::array<char*, 2> arguments{name.data(), nullptr};
    return ::execve("/bin/true", arguments.data(), nullptr);
}())
ESCAPE("run a program it holds", [&] {
    std::array<char, 5> name{"true"};
    const std::array<char*, 2> arguments{name.data(), nullptr};
    return ::syscall(SYS_execveat, place.program.number(), "", arguments.data(), nullptr, AT_EMPTY_PATH);
}())
ESCAPE("run a program from memory", write_and_run(place))

// ---- other processes

ESCAPE("signal its parent", ::kill(place.parent, 0))
ESCAPE("signal a thread of its parent", ::syscall(SYS_tgkill, place.parent, place.parent, 0))
ESCAPE("signal a thread by its id alone", ::syscall(SYS_tkill, place.parent, 0))
ESCAPE("queue a signal for its parent", [&] {
    siginfo_t information{};
    information.si_code = SI_QUEUE;
    return ::syscall(SYS_rt_sigqueueinfo, place.parent, 0, &information);
}())
ESCAPE("make a pidfd", ::syscall(SYS_pidfd_open, place.parent, 0))
ESCAPE("signal by a pidfd it holds",
       ::syscall(SYS_pidfd_send_signal, place.parent_pidfd.number(), 0, nullptr, 0))
ESCAPE("fetch a descriptor by a pidfd it holds",
       ::syscall(SYS_pidfd_getfd, place.parent_pidfd.number(), place.file.number(), 0))
ESCAPE("have its parent signalled by a socket", ::fcntl(place.stream_socket.number(), F_SETOWN, place.parent))
ESCAPE("choose the signal a descriptor sends", ::fcntl(place.stream_socket.number(), F_SETSIG, SIGKILL))
ESCAPE("trace its parent", ::ptrace(PTRACE_SEIZE, place.parent, nullptr, nullptr))
ESCAPE("let itself be traced", ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr))
ESCAPE("read its parent's memory", [&] {
    int value = 0;
    iovec here{.iov_base = &value, .iov_len = sizeof value};
    iovec there = here;  // fork left the same addresses
    return ::process_vm_readv(place.parent, &here, 1, &there, 1, 0);
}())
ESCAPE("compare itself with its parent", ::syscall(SYS_kcmp, place.parent, ::getpid(), 0, 1, 1) < 0 ? -1 : 0)
ESCAPE("set its parent's limits", [&] {
    struct rlimit limit{};
    ::getrlimit(RLIMIT_CORE, &limit);
    return ::prlimit(place.parent, RLIMIT_CORE, &limit, nullptr);
}())
ESCAPE("move its parent to another CPU", [&] {
    cpu_set_t cpus;
    ::sched_getaffinity(0, sizeof cpus, &cpus);
    return ::sched_setaffinity(place.parent, sizeof cpus, &cpus);
}())
ESCAPE("change its parent's priority",
       ::setpriority(PRIO_PROCESS, static_cast<id_t>(place.parent), ::getpriority(PRIO_PROCESS, 0)))
ESCAPE("become another user", ::setuid(::getuid()))
ESCAPE("become dumpable again", ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
ESCAPE("share memory by System V keys", ::shmget(IPC_PRIVATE, 4096, 0600))

// ---- around the filter

ESCAPE("make a user namespace", ::syscall(SYS_unshare, CLONE_NEWUSER))
ESCAPE("start a child in a user namespace", [] {
    const long child = ::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
    if (child == 0) ::_exit(0);
    return child;
}())
ESCAPE("start a child with clone3", [] {
    clone_args arguments{};
    arguments.exit_signal = SIGCHLD;
    const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
    if (child == 0) ::_exit(0);
    return child;
}())
ESCAPE("enter a namespace it holds", ::syscall(SYS_setns, place.network_namespace.number(), 0))
ESCAPE("use io_uring", [] {
    io_uring_params parameters{};
    return ::syscall(SYS_io_uring_setup, 1, &parameters);
}())
ESCAPE("use bpf", [] {
    bpf_attr attributes{};
    attributes.map_type = BPF_MAP_TYPE_ARRAY;
    attributes.key_size = 4;
    attributes.value_size = 4;
    attributes.max_entries = 1;
    return ::syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes);
}())
ESCAPE("use a keyring", ::syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1))
ESCAPE("add a key", ::syscall(SYS_add_key, "user", "fdbroker-test", "x", 1, KEY_SPEC_PROCESS_KEYRING))
ESCAPE("count events of the processor", [] {
    perf_event_attr attributes{};
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.config = PERF_COUNT_SW_DUMMY;
    return ::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
}())
ESCAPE("handle page faults", ::syscall(SYS_userfaultfd, 1))
ESCAPE("change its personality", ::personality(0xffffffff))

#if defined(__x86_64__)
ESCAPE("make a 32-bit system call", [] {
    long result = 20;  // getpid of i386
    asm volatile("int $0x80" : "+a"(result) : : "memory");
    errno = ENOSYS;
    return result > 0 ? 0 : -1;
}())
ESCAPE("make an x32 system call", ::syscall(0x40000000 + SYS_getpid))
#endif

}  // namespace fdbroker::test
