// SPDX-License-Identifier: MIT
// The C functions of fdbroker.h that confine, and that do before what is refused afterwards.
#include <execinfo.h>
#include <iconv.h>
#include <locale.h>
#include <netdb.h>
#include <pwd.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "worker/client/connections.hpp"
#include "worker/client/handle.hpp"
#include "worker/client/internal.hpp"
#include "worker/sandbox/filter.hpp"

namespace fdbroker::worker {
namespace {

using proto::BorrowedFd;
using proto::Result;

constexpr unsigned all_flags = FDBROKER_CONFINE_BEST_EFFORT | FDBROKER_CONFINE_DESCRIPTORS |
                               FDBROKER_CONFINE_NAMESPACES | FDBROKER_CONFINE_LIMITS |
                               FDBROKER_CONFINE_NO_SIGSYS | FDBROKER_CONFINE_LOG;

static_assert(FDBROKER_ALLOW_TCP_OPTIONS == allow_tcp_options &&
              FDBROKER_ALLOW_SOCKETPAIR == allow_socketpair && FDBROKER_ALLOW_LISTEN == allow_listen &&
              FDBROKER_ALLOW_OWN_ATTRIBUTES == allow_own_attributes &&
              FDBROKER_ALLOW_SCHEDULING == allow_scheduling && FDBROKER_ALLOW_UDP == allow_udp);

ConfineOptions options_for(unsigned flags) {
    ConfineOptions options;
    if ((flags & FDBROKER_CONFINE_BEST_EFFORT) != 0) options.missing_layer = MissingLayer::go_on;
    if ((flags & FDBROKER_CONFINE_DESCRIPTORS) != 0) options.keep_only = Connections::all().descriptors();
    if ((flags & FDBROKER_CONFINE_NAMESPACES) != 0) options.namespaces = Wish::yes;
    if ((flags & FDBROKER_CONFINE_LIMITS) != 0) options.limits = Wish::yes;
    if ((flags & FDBROKER_CONFINE_NO_SIGSYS) != 0) options.fstat = Fstat::refused;
    if ((flags & FDBROKER_CONFINE_LOG) != 0)
        options.denied = (flags & FDBROKER_CONFINE_NO_SIGSYS) != 0 ? Denied::noted : Denied::told;
    return options;
}

int confine_with(const fdbroker_confine_options& given) {
    if ((given.flags & ~all_flags) != 0 || (given.allow & ~all_allowances) != 0) return -EINVAL;
    if (given.keep == nullptr && given.keep_count != 0) return -EFAULT;
    const bool closes = given.keep_count != 0;
    ConfineOptions options = options_for(given.flags | (closes ? FDBROKER_CONFINE_DESCRIPTORS : 0U));
    options.allowances = given.allow;
    for (std::size_t index = 0; index < given.keep_count; ++index) {
        if (given.keep[index] < 0) return -EBADF;
        options.keep_only->emplace_back(given.keep[index]);
    }
    const auto report = confine(options);
    return report ? 0 : -report.error().errno_value;
}

// Once each, so that the C library has read its files by then. What is not there is not needed.
void read_what_libc_reads() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    // Without TZ glibc looks at the file again at each localtime(3), and takes UTC once that is refused.
    ::setenv("TZ", ":/etc/localtime", 0);
    ::tzset();
    ::localtime_r(&now, &parts);
    // The files of the locale stay in memory; that of the program is not changed.
    if (auto* const locale = ::newlocale(LC_ALL_MASK, "", nullptr); locale != nullptr) ::freelocale(locale);
    // gconv's list of modules. Each module is a further file.
    if (auto* const converter = ::iconv_open("UTF-8", "ISO-8859-1");
        converter != reinterpret_cast<iconv_t>(-1))
        ::iconv_close(converter);
    // The modules and configuration of the name service; what they read at each look-up stays refused.
    std::array<char, 4096> room;
    passwd entry{};
    passwd* found = nullptr;
    ::getpwuid_r(::getuid(), &entry, room.data(), room.size(), &found);
    // libgcc_s, without which a thread that is cancelled or a backtrace ends the process.
    std::array<void*, 2> frames;
    ::backtrace(frames.data(), static_cast<int>(frames.size()));
}

}  // namespace

Result<SandboxReport> confine_with_report(unsigned flags) {
    return confine(options_for(flags));
}

}  // namespace fdbroker::worker

using namespace fdbroker::worker;

int fdbroker_confine(unsigned flags) {
    return guarded([&] {
        return confine_with({.size = sizeof(fdbroker_confine_options),
                             .flags = flags,
                             .allow = 0,
                             .keep = nullptr,
                             .keep_count = 0});
    });
}

int fdbroker_confine_with(const fdbroker_confine_options* options) {
    if (options == nullptr) return -EFAULT;
    return guarded([&] {
        const int error = check_size(options, options->size, sizeof(fdbroker_confine_options));
        return error < 0 ? error : confine_with(read_sized(options, options->size));
    });
}

int fdbroker_prepare(void) {
    return guarded([] {
        read_what_libc_reads();
        return 0;
    });
}
