#include "opener/audit_log.hpp"

#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>

#include "opener/audit_record.hpp"

namespace fdbroker::opener {

using proto::Result;

namespace {

// While the disk is full each try is in vain, so fewer of them.
constexpr int failing_interval_ms = 200;

Result<std::unique_ptr<AuditSink>> open_sink(const Options& options) {
    switch (options.audit) {
        case AuditDestination::file:
            return open_audit_file(options.audit_file);
        case AuditDestination::standard_output:
            return open_audit_stream(proto::BorrowedFd(STDOUT_FILENO));
        case AuditDestination::journal:
            return open_audit_journal();
        case AuditDestination::none:
            break;
    }
    return std::unique_ptr<AuditSink>();
}

}  // namespace

Result<AuditLog> AuditLog::open(const Options& options) {
    AuditLog log;
    auto sink = open_sink(options);
    if (!sink) return std::unexpected(sink.error());
    if (!*sink) return log;
    auto ring = AuditRing::create();
    if (!ring) return std::unexpected(ring.error());
    log.sink_ = std::move(*sink);
    log.ring_.emplace(std::move(*ring));
    return log;
}

void AuditLog::begin(std::uint32_t generation) {
    if (!ring_) return;
    static_cast<void>(take());
    generation_ = generation;
    foul_ = false;
    ring_->renew(next_);
}

// False: there was nothing.
bool AuditLog::take() {
    const std::size_t before = pending_.size();
    if (ring_->take(pending_) == 0) return false;
    if (foul_) {
        pending_.resize(before);
    } else {
        check(before);
    }
    return true;
}

// A generation that was taken over may write anything into the ring, but not in another's name nor under a number that
// is not due, nor more than one line where it is one.
void AuditLog::check(std::size_t from) {
    while (from < pending_.size()) {
        const std::string_view rest = std::string_view(pending_).substr(from);
        const std::size_t length = rest.find('\n') + 1;
        const std::string_view line = rest.substr(0, length);
        if (length == 0 || length > max_line || !line.starts_with(line_beginning(next_, generation_)) ||
            !line.ends_with("}\n")) {
            const std::size_t bytes = rest.size();
            pending_.resize(from);
            foul_ = true;
            own_line("foul", "the generation left what is no record, and was ended", bytes);
            return;
        }
        ++next_;
        from += length;
    }
}

void AuditLog::own_line(std::string_view event, std::string_view cause, std::size_t bytes) {
    std::string line;
    write_line(line, EventRecord{.head = {.sequence = next_++,
                                          .generation = generation_,
                                          .time = std::chrono::system_clock::now()},
                                 .event = event,
                                 .cause = cause,
                                 .bytes = bytes});
    pending_ += line;
}

void AuditLog::record(std::string_view event, std::string_view cause) {
    if (!ring_) return;
    static_cast<void>(take());
    own_line(event, cause, 0);
    ring_->renew(next_);
}

Result<void> AuditLog::write() {
    while (!pending_.empty()) {
        const auto written = sink_->write(pending_);
        if (!written) return std::unexpected(written.error());
        if (*written == 0) {
            // Nobody reads. The ring holds what comes, but nobody shall wait until it is full.
            if (!ring_->is_half_full()) break;
            return proto::system_error("write", "the audit log, which nobody reads", EAGAIN);
        }
        pending_.erase(0, *written);
    }
    return {};
}

Result<void> AuditLog::drain() {
    if (!ring_) return {};
    ring_->announce_awake();
    // While writes fail, what is taken would only pile up here.
    const bool taken = pending_.empty() && take();
    if (auto written = write(); !written) {
        ring_->announce_failing(true);
        const bool known = std::exchange(pace_, Pace::failing) == Pace::failing;
        if (known) return {};
        return written;
    }
    ring_->announce_failing(false);
    // Once nothing came for a whole interval, the next record may as well wake us.
    pace_ = !taken && pending_.empty() && ring_->announce_sleep() ? Pace::asleep : Pace::awake;
    return {};
}

Result<void> AuditLog::finish() {
    if (!ring_) return {};
    const auto until = std::chrono::steady_clock::now() + last_patience;
    for (;;) {
        static_cast<void>(take());
        auto written = write();
        if (pending_.empty()) return {};
        if (std::chrono::steady_clock::now() >= until) {
            return written ? proto::system_error("write", "the audit log, which nobody reads", EAGAIN)
                           : written;
        }
        std::this_thread::sleep_for(AuditRing::drain_interval);
    }
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

}  // namespace fdbroker::opener
