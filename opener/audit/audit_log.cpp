// SPDX-License-Identifier: MIT
#include "opener/audit/audit_log.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "opener/audit/audit_record.hpp"

namespace fdbroker::opener {

using proto::Result;

namespace {

// While the disk is full each try is in vain, so fewer of them.
constexpr std::chrono::milliseconds failing_interval{200};

constexpr std::string_view corrupt_cause = "the generation left what is no record, and was ended";

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
    log.sink_ = std::move(*sink);
    log.chain_ = AuditChain(log.sink_->head());
    return log;
}

void AuditLog::continue_from(const Position& position) {
    if (!is_kept()) return;
    next_ = position.next;
    generation_ = position.generation;
    pending_ = position.unwritten;
    if (position.head != no_record) chain_ = AuditChain(position.head);
}

// ---- generations ---------------------------------------------------------------------------------------

void AuditLog::begin(std::uint32_t generation, AuditRing* ring) {
    if (!is_kept()) return;
    generation_ = generation;
    sources_.push_back({.generation = generation, .ring = ring});
    ring->continue_at(next_);
    ring->announce_failing(pace_ == Pace::failing);
}

AuditLog::Source* AuditLog::serving() noexcept {
    const auto found =
        std::ranges::find_if(sources_, [](const Source& source) { return !source.block.has_value(); });
    return found == sources_.end() ? nullptr : &*found;
}

std::uint64_t AuditLog::hand_over(std::uint64_t records) {
    Source* const source = serving();
    if (source == nullptr) return 0;
    take(*source);
    const std::uint64_t granted = std::min(records, max_late_records);
    source->block = {.next = next_, .last = next_ + granted};
    source->ring->continue_at(next_);
    next_ = source->block->last + 1;
    return granted;
}

void AuditLog::end(std::uint32_t generation, std::string_view cause) {
    const auto source = std::ranges::find(sources_, generation, &Source::generation);
    if (source == sources_.end()) return;
    take(*source);
    if (source->block) {
        std::string_view event = cause.empty() ? "finished" : "crash";
        if (source->corrupt) {
            event = "foul";
            cause = corrupt_cause;
        }
        own_line(generation, source->block->last, event, cause, *source);
    } else if (!cause.empty()) {
        own_line(generation, next_++, "crash", cause, {});
    }
    sources_.erase(source);
}

bool AuditLog::is_corrupt(std::uint32_t generation) const noexcept {
    const auto source = std::ranges::find(sources_, generation, &Source::generation);
    return source != sources_.end() && source->corrupt;
}

// ---- what they put in ----------------------------------------------------------------------------------

// False: there was nothing.
bool AuditLog::take() {
    bool taken = false;
    for (Source& source : sources_) taken = take(source) || taken;
    return taken;
}

bool AuditLog::take(Source& source) {
    taken_.clear();
    if (source.ring->take(taken_) == 0) return false;
    if (!source.corrupt) check(source, taken_);
    return true;
}

// A generation that was taken over may write anything into its ring. It cannot write in another's name, under a number
// that is not due, or more than one line for a record.
void AuditLog::check(Source& source, std::string_view lines) {
    std::uint64_t& due = source.block ? source.block->next : next_;
    while (!lines.empty()) {
        const std::size_t length = lines.find('\n') + 1;
        const std::string_view line = lines.substr(0, length);
        write_line_beginning(beginning_, due, source.generation);
        if ((source.block && due == source.block->last) || length == 0 || length > max_line ||
            !line.starts_with(beginning_) || !line.ends_with("}\n")) {
            source.corrupt = true;
            source.foul_bytes = lines.size();
            if (!source.block) own_line(source.generation, next_++, "foul", corrupt_cause, source);
            return;
        }
        ++due;
        chain_.append(pending_, line);
        lines.remove_prefix(length);
    }
}

void AuditLog::own_line(std::uint32_t generation, std::uint64_t number, std::string_view event,
                        std::string_view cause, const Source& about) {
    EventRecord record{
        .head = {.sequence = number, .generation = generation, .time = std::chrono::system_clock::now()},
        .event = event,
        .cause = cause,
        .bytes = about.foul_bytes};
    if (about.block && about.block->next != about.block->last) {
        record.unused_first = about.block->next;
        record.unused_last = about.block->last - 1;
    }
    std::string line;
    write_line(line, record);
    chain_.append(pending_, line);
}

void AuditLog::record(std::string_view event, std::string_view cause) {
    if (is_kept()) own_line(generation_, next_++, event, cause, {});
}

// ---- where it goes -------------------------------------------------------------------------------------

Result<void> AuditLog::write() {
    while (!pending_.empty()) {
        const auto written = sink_->write(pending_);
        if (!written) return std::unexpected(written.error());
        if (*written == 0) {
            // Nobody reads. The ring holds what comes, but nobody shall wait until it is full.
            if (std::ranges::none_of(sources_, [](const Source& one) { return one.ring->is_half_full(); }))
                break;
            return proto::system_error("write", "the audit log, which nobody reads", EAGAIN);
        }
        pending_.erase(0, *written);
    }
    return {};
}

RecordHash AuditLog::written_head() const noexcept {
    // The pending lines bear it.
    const auto next = previous_of(std::string_view(pending_).substr(0, pending_.find('\n')));
    return next.value_or(chain_.head());
}

Result<void> AuditLog::drain() {
    if (!is_kept()) return {};
    for (const Source& source : sources_) source.ring->announce_awake();
    auto written = write();
    // While writes fail, what is taken would only pile up here.
    const bool taken = pending_.empty() && take();
    if (taken) written = write();
    if (!written) {
        for (const Source& source : sources_) source.ring->announce_failing(true);
        const bool known = std::exchange(pace_, Pace::failing) == Pace::failing;
        if (known) return {};
        return written;
    }
    for (const Source& source : sources_) source.ring->announce_failing(false);
    // Once nothing came for a whole interval, the next record may as well wake us.
    const bool sleeps = !taken && pending_.empty() && std::ranges::all_of(sources_, [](const Source& source) {
        return source.ring->announce_sleep();
    });
    pace_ = sleeps ? Pace::asleep : Pace::awake;
    return {};
}

Result<void> AuditLog::finish() {
    if (!is_kept()) return {};
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

std::optional<std::chrono::milliseconds> AuditLog::drain_again_after() const noexcept {
    switch (pace_) {
        case Pace::asleep:
            return std::nullopt;
        case Pace::awake:
            return AuditRing::drain_interval;
        case Pace::failing:
            return failing_interval;
    }
    return std::nullopt;
}

}  // namespace fdbroker::opener
