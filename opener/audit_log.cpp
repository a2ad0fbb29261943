#include "opener/audit_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

// While the disk is full each try is in vain, so fewer of them.
constexpr int failing_interval_ms = 200;

Result<UniqueFd> open_file(const std::string& path) {
    // O_NONBLOCK: a FIFO that nobody reads shall not hold the supervisor up, at this open or at a write.
    UniqueFd file(::open(
        path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, 0600));
    if (!file) return proto::system_error("--audit", path);
    return file;
}

}  // namespace

Result<AuditLog> AuditLog::open(const Options& options) {
    AuditLog log;
    if (options.audit == AuditDestination::none) return log;
    if (options.audit == AuditDestination::file) log.path_ = options.audit_file;
    auto file = log.path_.empty() ? Result<UniqueFd>(UniqueFd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)))
                                  : open_file(log.path_);
    if (!file) return std::unexpected(file.error());
    if (!*file) return proto::system_error("--audit", "standard output");
    log.file_ = std::move(*file);
    auto ring = AuditRing::create();
    if (!ring) return std::unexpected(ring.error());
    log.ring_.emplace(std::move(*ring));
    return log;
}

Result<void> AuditLog::drain() {
    if (!ring_) return {};
    ring_->announce_awake();
    auto written = ring_->drain(file_.borrow());
    if (!written) {
        const bool known = std::exchange(pace_, Pace::failing) == Pace::failing;
        if (known) return {};
        return std::unexpected(written.error());
    }
    // Once nothing came for a whole interval, the next record may as well wake us.
    pace_ = *written == 0 && ring_->announce_sleep() ? Pace::asleep : Pace::awake;
    return {};
}

int AuditLog::patience() const noexcept {
    switch (pace_) {
        case Pace::asleep:
            return -1;
        case Pace::awake:
            return static_cast<int>(AuditRing::drain_interval.count());
        case Pace::failing:
            return failing_interval_ms;
    }
    return -1;
}

Result<void> AuditLog::reopen() {
    if (path_.empty()) return {};
    auto file = open_file(path_);
    if (!file) return std::unexpected(file.error());
    file_ = std::move(*file);
    return {};
}

}  // namespace fdbroker::opener
