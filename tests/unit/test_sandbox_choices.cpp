// SPDX-License-Identifier: MIT
// What a program may have in its sandbox besides, what stays open, how refused calls show, and what is done before.
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <execinfo.h>
#include <fcntl.h>
#include <iconv.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <syslog.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "proto/unique_fd.hpp"
#include "tests/support/verdict.hpp"
#include "tests/unit/test_sandbox_child.hpp"
#include "worker/client/c_api.hpp"
#include "worker/sandbox/filter.hpp"

namespace fdbroker::worker {
namespace {

using test::in_child;

constexpr unsigned best_effort = FDBROKER_CONFINE_BEST_EFFORT;

int confine_with(unsigned allow, unsigned flags = best_effort, const std::vector<int>& keep = {}) {
    fdbroker_confine_options options{};
    options.size = sizeof options;
    options.flags = flags;
    options.allow = allow;
    options.keep = keep.data();
    options.keep_count = keep.size();
    return fdbroker_confine_with(&options);
}

// Descriptors made before confinement, on which the calls below are tried.
struct Things {
    int tcp = ::socket(AF_INET, SOCK_STREAM, 0);
    int udp = ::socket(AF_INET, SOCK_DGRAM, 0);
    int file = ::memfd_create("test", 0);
};

struct Choice {
    const char* name;
    unsigned allow;
    std::function<long(const Things&)> call;
};

long set_option(int socket, int level, int option) {
    const int one = 1;
    return ::setsockopt(socket, level, option, &one, sizeof one);
}

long send_to_loopback(const Things& things) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(9);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return ::sendto(things.udp, "x", 1, 0, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

long make_pair(int family, int type) {
    std::array<int, 2> ends{};
    return ::socketpair(family, type, 0, ends.data());
}

const std::vector<Choice> choices{
    {"TCP_CORK", FDBROKER_ALLOW_TCP_OPTIONS,
     [](const Things& on) { return set_option(on.tcp, IPPROTO_TCP, TCP_CORK); }},
    {"TCP_KEEPIDLE", FDBROKER_ALLOW_TCP_OPTIONS,
     [](const Things& on) { return set_option(on.tcp, IPPROTO_TCP, TCP_KEEPIDLE); }},
    {"SO_REUSEADDR", FDBROKER_ALLOW_TCP_OPTIONS,
     [](const Things& on) { return set_option(on.tcp, SOL_SOCKET, SO_REUSEADDR); }},
    {"socketpair", FDBROKER_ALLOW_SOCKETPAIR,
     [](const Things&) { return make_pair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC); }},
    {"seqpacket", FDBROKER_ALLOW_SOCKETPAIR,
     [](const Things&) { return make_pair(AF_UNIX, SOCK_SEQPACKET); }},
    {"listen", FDBROKER_ALLOW_LISTEN, [](const Things& on) { return ::listen(on.tcp, 1); }},
    {"fchmod", FDBROKER_ALLOW_OWN_ATTRIBUTES, [](const Things& on) { return ::fchmod(on.file, 0600); }},
    {"futimens", FDBROKER_ALLOW_OWN_ATTRIBUTES,
     [](const Things& on) { return ::futimens(on.file, nullptr); }},
    {"flistxattr", FDBROKER_ALLOW_OWN_ATTRIBUTES,
     [](const Things& on) { return ::flistxattr(on.file, nullptr, 0); }},
    {"sched_setaffinity", FDBROKER_ALLOW_SCHEDULING,
     [](const Things&) {
         cpu_set_t set;
         CPU_ZERO(&set);
         return ::sched_getaffinity(0, sizeof set, &set) != 0 ? -1L
                                                              : ::sched_setaffinity(0, sizeof set, &set);
     }},
    {"setpriority", FDBROKER_ALLOW_SCHEDULING,
     [](const Things&) { return ::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0)); }},
    {"sendto", FDBROKER_ALLOW_UDP, send_to_loopback},
};

// Calls that stay refused whatever is allowed.
const std::vector<Choice> never{
    {"TCP_ULP", 0, [](const Things& on) { return ::setsockopt(on.tcp, IPPROTO_TCP, TCP_ULP, "tls", 3); }},
    {"datagram pair", 0, [](const Things&) { return make_pair(AF_UNIX, SOCK_DGRAM); }},
    {"set-id", 0, [](const Things& on) { return ::fchmod(on.file, 04700); }},
    {"fchown", 0, [](const Things& on) { return ::fchown(on.file, 0, 0); }},
    {"utimensat", 0, [](const Things&) { return ::utimensat(AT_FDCWD, "/tmp", nullptr, 0); }},
    {"fsetxattr", 0, [](const Things& on) { return ::fsetxattr(on.file, "user.k", "v", 1, 0); }},
    {"socket", 0, [](const Things&) { return ::socket(AF_INET, SOCK_DGRAM, 0); }},
    {"bind", 0,
     [](const Things& on) {
         sockaddr_in address{};
         address.sin_family = AF_INET;
         return ::bind(on.udp, reinterpret_cast<const sockaddr*>(&address), sizeof address);
     }},
    {"another's scheduling", 0,
     [](const Things&) {
         cpu_set_t set;
         CPU_ZERO(&set);
         CPU_SET(0, &set);
         return ::sched_setaffinity(1, sizeof set, &set);
     }},
    {"fast open", 0, [](const Things& on) { return ::sendto(on.tcp, "x", 1, MSG_FASTOPEN, nullptr, 0); }},
};

int errno_of_choice(const Choice& choice, unsigned allow) {
    return in_child([&] {
        const Things things;
        if (const int error = confine_with(allow); error != 0) return 200;
        return errno_of(choice.call(things));
    });
}

}  // namespace

TEST_CASE("sandbox: each choice allows its calls, and no other does") {
    for (const Choice& choice : choices) {
        CAPTURE(choice.name);
        const int without = in_child([&] { return errno_of(choice.call(Things{})); });
        CHECK(errno_of_choice(choice, choice.allow) == without);
        CHECK(errno_of_choice(choice, all_allowances & ~choice.allow) == EPERM);
    }
}

TEST_CASE("sandbox: with every choice nothing is made or reached that was not there before") {
    for (const Choice& choice : never) {
        CAPTURE(choice.name);
        CHECK(errno_of_choice(choice, all_allowances) == EPERM);
    }
}

TEST_CASE("sandbox: descriptors that are named stay open, and all others are closed") {
    CHECK(in_child([] {
              const int kept = ::memfd_create("kept", 0);
              const int lost = ::memfd_create("lost", 0);
              if (confine_with(0, best_effort, {kept}) != 0) return 201;
              if (::fcntl(kept, F_GETFD) < 0) return 202;
              return ::fcntl(lost, F_GETFD) < 0 && errno == EBADF ? 0 : 203;
          }) == 0);
}

TEST_CASE("sandbox: choices that are none change nothing") {
    CHECK(in_child([] {
              fdbroker_confine_options options{};
              if (fdbroker_confine_with(nullptr) != -EFAULT) return 201;
              if (fdbroker_confine_with(&options) != -EINVAL) return 202;
              options.size = sizeof options;
              options.allow = 64;
              if (fdbroker_confine_with(&options) != -EINVAL) return 203;
              options.allow = 0;
              options.flags = 64;
              if (fdbroker_confine_with(&options) != -EINVAL) return 204;
              options.flags = 0;
              options.keep_count = 1;
              if (fdbroker_confine_with(&options) != -EFAULT) return 205;
              const int none = -1;
              options.keep = &none;
              if (fdbroker_confine_with(&options) != -EBADF) return 206;
              return ::open("/", O_RDONLY) >= 0 ? 0 : 207;
          }) == 0);
}

#if defined(__x86_64__) || defined(__aarch64__)

TEST_CASE("sandbox: with the log each refused call is named on standard error, and fails as without") {
    std::array<int, 2> ends{};
    REQUIRE(::pipe(ends.data()) == 0);
    const proto::UniqueFd reading(ends[0]);
    proto::UniqueFd writing(ends[1]);
    CHECK(in_child([&] {
              ::dup2(writing.number(), STDERR_FILENO);
              const int file = ::memfd_create("test", 0);
              if (fdbroker_confine(best_effort | FDBROKER_CONFINE_LOG) != 0) return 201;
              struct stat status{};
              if (::fstat(file, &status) != 0) return 202;
              errno = 0;
              if (::open("/etc/passwd", O_RDONLY) >= 0 || errno != EPERM) return 203;
              if (::socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || errno != EPERM) return 204;
              return 0;
          }) == 0);
    writing.reset();
    std::string told;
    std::array<char, 4096> some;
    for (ssize_t size = 0; (size = ::read(reading.number(), some.data(), some.size())) > 0;)
        told.append(some.data(), static_cast<std::size_t>(size));
    CHECK(told.contains("fdbroker: denied: open"));
    CHECK(told.contains("fdbroker: denied: socket ("));
    CHECK_FALSE(told.contains("fstat"));
    // An address that led there.
    CHECK(told.contains("unit-sandbox"));
    CHECK(told.contains("[0x"));
}

#endif

namespace {

// The table of "Before you confine" in guide-porting.md, entry by entry: `use` fails confined, and works when `before` was
// done.
struct Habit {
    const char* name;
    std::function<void()> before;
    std::function<bool()> use;
};

bool is_summer_in_berlin() {
    const std::time_t july = 1'752'000'000;
    return std::localtime(&july)->tm_isdst > 0;  // localtime_r(3) would not look at the file again
}

iconv_t converter = reinterpret_cast<iconv_t>(-1);

bool converts() {
    if (converter == reinterpret_cast<iconv_t>(-1)) converter = ::iconv_open("UTF-8", "KOI8-R");
    return converter != reinterpret_cast<iconv_t>(-1);
}

passwd* root = nullptr;
std::FILE* random_device = nullptr;
std::FILE* scratch = nullptr;
addrinfo* local = nullptr;

bool resolves() {
    return local != nullptr || ::getaddrinfo("localhost", nullptr, nullptr, &local) == 0;
}

const std::vector<Habit> habits{
    {"time zone", [] { fdbroker_prepare(); }, is_summer_in_berlin},
    {"iconv", [] { converts(); }, converts},
    {"getpwnam", [] { root = ::getpwnam("root"); },
     [] { return (root != nullptr ? root : ::getpwnam("root")) != nullptr; }},
    {"/dev/urandom", [] { random_device = std::fopen("/dev/urandom", "r"); },
     [] { return random_device != nullptr || std::fopen("/dev/urandom", "r") != nullptr; }},
    {"getaddrinfo", [] { resolves(); }, resolves},
    {"setlocale", [] { std::setlocale(LC_ALL, "C.UTF-8"); },
     [] { return std::setlocale(LC_ALL, "C.UTF-8") != nullptr; }},
    {"dlopen", [] { ::dlopen("libresolv.so.2", RTLD_NOW); },
     [] { return ::dlopen("libresolv.so.2", RTLD_NOW) != nullptr; }},
    {"tmpfile", [] { scratch = std::tmpfile(); },
     [] { return scratch != nullptr || std::tmpfile() != nullptr; }},
};

}  // namespace

TEST_CASE("sandbox: preparations before confinement hold afterwards, and are missing without them") {
    ::setenv("TZ", "Europe/Berlin", 1);
    for (const Habit& habit : habits) {
        CAPTURE(habit.name);
        const auto works = [&](bool prepared) {
            return in_child([&] {
                if (prepared) habit.before();
                if (fdbroker_confine(best_effort) != 0) return 200;
                return habit.use() ? 0 : 1;
            });
        };
        CHECK(works(true) == 0);
        CHECK(works(false) == 1);
    }
    ::unsetenv("TZ");
}

TEST_CASE("sandbox: the machine's time zone holds afterwards where TZ is unset, if it was prepared") {
    FDBROKER_SKIP_UNLESS(test::is_root(), "needs root for an /etc/localtime that is the test's");
    FDBROKER_SKIP_UNLESS(std::filesystem::exists("/etc/localtime"), "needs a file to mount over");
    const auto is_berlin = [](bool prepared) {
        return in_child([&] {
            if (::unshare(CLONE_NEWNS) != 0 ||
                ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
                ::mount("/usr/share/zoneinfo/Europe/Berlin", "/etc/localtime", nullptr, MS_BIND, nullptr) !=
                    0)
                return 201;
            ::unsetenv("TZ");
            if (prepared) fdbroker_prepare();
            if (fdbroker_confine(best_effort) != 0) return 200;
            return is_summer_in_berlin() ? 0 : 1;
        });
    };
    CHECK(is_berlin(true) == 0);
    CHECK(is_berlin(false) == 1);
}

TEST_CASE("sandbox: syslog is silent afterwards unless its socket was opened before") {
    FDBROKER_SKIP_UNLESS(test::is_root(), "needs root for a /dev/log that is the test's");
    const auto heard = [](bool is_opened_before) {
        return in_child([&] {
            if (::unshare(CLONE_NEWNS) != 0 ||
                ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
                ::mount("none", "/dev", "tmpfs", 0, nullptr) != 0)
                return 201;
            const int listener = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
            const sockaddr_un address{.sun_family = AF_UNIX, .sun_path = "/dev/log"};
            if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
                return 202;
            ::openlog("test", is_opened_before ? LOG_NDELAY : 0, LOG_USER);
            if (fdbroker_confine(best_effort) != 0) return 200;
            ::syslog(LOG_INFO, "told");
            std::array<char, 200> text;
            return ::recv(listener, text.data(), text.size(), 0) > 0 ? 0 : 1;
        });
    };
    CHECK(heard(true) == 0);
    CHECK(heard(false) == 1);
}

TEST_CASE("sandbox: getrandom, memory files and threads that end need nothing before, or what prepare does") {
    CHECK(in_child([] {
              fdbroker_prepare();
              if (fdbroker_confine(best_effort) != 0) return 200;
              std::array<char, 16> bytes;
              if (::getrandom(bytes.data(), bytes.size(), 0) != 16) return 201;
              const int file = ::memfd_create("scratch", MFD_CLOEXEC);
              std::FILE* stream = ::fdopen(file, "w+");
              if (stream == nullptr || std::fputs("x", stream) < 0 || std::fclose(stream) != 0) return 202;
              pthread_t thread{};
              if (::pthread_create(
                      &thread, nullptr, [](void*) -> void* { ::pthread_exit(nullptr); }, nullptr) != 0)
                  return 203;
              ::pthread_join(thread, nullptr);
              std::array<void*, 8> frames;
              return ::backtrace(frames.data(), static_cast<int>(frames.size())) > 0 ? 0 : 204;
          }) == 0);
}

}  // namespace fdbroker::worker
