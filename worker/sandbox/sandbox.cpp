// SPDX-License-Identifier: MIT
#include "worker/sandbox/sandbox.hpp"

#include <cap-ng.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "worker/sandbox/filter.hpp"
#include "worker/sandbox/landlock.hpp"
#include "worker/sandbox/namespaces.hpp"

namespace fdbroker::worker {
namespace {

using proto::BorrowedFd;
using proto::Result;
using proto::system_error;

Result<void> require_single_thread() {
    // A directory's links are its own two and one for each directory in it (proc(5): one for each thread).
    struct stat tasks{};
    if (::stat("/proc/self/task", &tasks) != 0) return system_error("threads", "/proc/self/task");
    if (tasks.st_nlink > 3) return system_error("threads", "this process has several", EBUSY);
    return {};
}

Result<void> close_range(unsigned first, unsigned last) {
    if (first > last || ::syscall(SYS_close_range, first, last, 0) == 0) return {};
    return system_error("descriptors", "close_range");
}

// setrlimit(2): to 0, for good.
Result<void> lower_limits() {
    constexpr rlimit none{.rlim_cur = 0, .rlim_max = 0};
    for (const auto resource :
         {RLIMIT_CORE, RLIMIT_NPROC, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE, RLIMIT_RTPRIO, RLIMIT_NICE})
        if (::setrlimit(resource, &none) != 0) return system_error("limits", "setrlimit");
    return {};
}

Result<void> drop_capabilities() {
    if (::capng_get_caps_process() != 0) return system_error("capabilities", "read them", EINVAL);
    // Without CAP_SETPCAP the bounding set stays as it is; no_new_privs makes it a dead letter.
    const bool bounding = ::capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) == 1;
    ::capng_clear(CAPNG_SELECT_ALL);
    if (bounding && ::capng_apply(CAPNG_SELECT_BOUNDS) != 0)
        return system_error("capabilities", "empty the bounding set", EPERM);
    if (::capng_apply(CAPNG_SELECT_CAPS) != 0) return system_error("capabilities", "drop them", EPERM);
    if (::capng_get_caps_process() != 0 || ::capng_have_permitted_capabilities() != CAPNG_NONE)
        return system_error("capabilities", "some are left", EPERM);
    return {};
}

Result<void> set_by_prctl(const char* layer, int option, unsigned long value) {
    if (::prctl(option, value, 0, 0, 0) != 0) return system_error(layer, "prctl");
    return {};
}

std::string describe_landlock(int abi) {
    std::string text = "ABI " + std::to_string(abi) + ": files";
    if (abi >= 4) text += ", TCP";
    if (abi >= 6) text += ", abstract sockets, signals";
    return text;
}

// Enters layer after layer and keeps the report.
class Confinement {
  public:
    explicit Confinement(const ConfineOptions& options) : options_(options) {
        for (std::size_t index = 0; index < layer_count; ++index)
            report_[index].layer = static_cast<Layer>(index);
    }

    // Changes nothing.
    Result<void> probe() {
        if (const auto single = require_single_thread(); !single) return single;
        if (const auto abi = landlock_abi(); !abi) {
            if (const auto done = miss(Layer::landlock, abi.error()); !done) return done;
        } else {
            landlock_abi_ = *abi;
        }
        if (const auto available = filter_available(); !available)
            if (const auto done = miss(Layer::seccomp, available.error()); !done) return done;
        if (options_.namespaces == Wish::no) return {};
        if (const auto available = namespaces_available(); !available)
            leave_out(Layer::namespaces, available.error());
        return {};
    }

    Result<SandboxReport> enter() {
        if (options_.keep_only && !enter(Layer::descriptors, close_all_but(*options_.keep_only)))
            return failure();
        if (options_.namespaces == Wish::yes && state(Layer::namespaces) != LayerState::unavailable &&
            !enter(Layer::namespaces, enter_namespaces(),
                   "user, mount, network, IPC, host name, cgroup; an empty root"))
            return failure();
        if (options_.limits == Wish::yes &&
            !enter(Layer::limits, lower_limits(), "no core dump, process, thread or locked memory"))
            return failure();
        if (!enter(Layer::capabilities, drop_capabilities())) return failure();
        if (!enter(Layer::dumpable, set_by_prctl("dumpable", PR_SET_DUMPABLE, 0))) return failure();
        if (!enter(Layer::no_new_privs, set_by_prctl("no_new_privs", PR_SET_NO_NEW_PRIVS, 1)))
            return failure();
        if (landlock_abi_ > 0 &&
            !enter(Layer::landlock, restrict_by_landlock(landlock_abi_, {}, Network::none),
                   describe_landlock(landlock_abi_)))
            return failure();
        if (state(Layer::seccomp) != LayerState::unavailable && !enter_seccomp()) return failure();
        return std::move(report_);
    }

  private:
    LayerReport& at(Layer layer) { return report_[static_cast<std::size_t>(layer)]; }
    LayerState state(Layer layer) { return at(layer).state; }

    // This kernel does not have the layer.
    Result<void> miss(Layer layer, const proto::Error& error) {
        if (options_.missing_layer == MissingLayer::fail) return std::unexpected(error);
        leave_out(layer, error);
        return {};
    }
    void leave_out(Layer layer, const proto::Error& error) {
        at(layer).state = LayerState::unavailable;
        at(layer).detail = error.message();
    }

    bool enter_seccomp() {
        Denied denied = options_.denied;
        Fstat fstat = Fstat::refused;
        if (denied == Denied::told) {
            if (install_telling_handler())
                fstat = Fstat::served;
            else
                denied = Denied::noted;
        } else if (options_.fstat == Fstat::served) {
            fstat = install_fstat_handler();
        }
        const Signals signals = landlock_abi_ >= 6 ? Signals::landlock : Signals::filter;
        return enter(Layer::seccomp, enter_filter(signals, fstat, options_.allowances, denied),
                     fstat == Fstat::served ? "fstat(2) of every C library served" : "");
    }

    bool enter(Layer layer, Result<void> result, std::string detail = {}) {
        if (!result) {
            error_ = std::move(result.error());
            return false;
        }
        at(layer).state = LayerState::enforced;
        at(layer).detail = std::move(detail);
        return true;
    }
    std::unexpected<proto::Error> failure() { return std::unexpected(std::move(error_)); }

    const ConfineOptions& options_;
    int landlock_abi_ = 0;  // 0: there is none
    SandboxReport report_{};
    proto::Error error_{};
};

}  // namespace

const char* to_string(Layer layer) noexcept {
    switch (layer) {
        case Layer::descriptors:
            return "descriptors";
        case Layer::namespaces:
            return "namespaces";
        case Layer::limits:
            return "limits";
        case Layer::capabilities:
            return "capabilities";
        case Layer::dumpable:
            return "dumpable";
        case Layer::no_new_privs:
            return "no_new_privs";
        case Layer::landlock:
            return "Landlock";
        case Layer::seccomp:
            return "seccomp";
    }
    return "unknown";
}

Result<void> close_all_but(std::span<const BorrowedFd> kept) {
    std::vector<unsigned> numbers;
    for (const BorrowedFd descriptor : kept)
        if (descriptor.number() > STDERR_FILENO)
            numbers.push_back(static_cast<unsigned>(descriptor.number()));
    std::ranges::sort(numbers);
    unsigned next = STDERR_FILENO + 1;
    for (const unsigned number : numbers) {
        if (number > next)
            if (const auto closed = close_range(next, number - 1); !closed) return closed;
        next = number + 1;
    }
    return close_range(next, UINT_MAX);
}

Result<SandboxReport> confine(const ConfineOptions& options) {
    Confinement confinement(options);
    if (const auto possible = confinement.probe(); !possible) return std::unexpected(possible.error());
    return confinement.enter();
}

}  // namespace fdbroker::worker
