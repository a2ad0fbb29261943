// SPDX-License-Identifier: MIT
#include "opener/records/summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <utility>

#include "policy/explain/explain.hpp"

namespace fdbroker::records {

namespace {

std::uint64_t requests_of(const Tally& tally) {
    return tally.requests;
}
template <typename Value>
std::uint64_t requests_of(const Value& value) {
    return value.requests();
}

std::string user_of(const Record& record) {
    if (record.peer == nullptr) return "unknown";
    const RecordedPeer& peer = *record.peer;
    const std::string uid = peer.uid ? fmt::format("{}", *peer.uid) : "?";
    return peer.user && !peer.user->empty() ? fmt::format("{} ({})", *peer.user, uid) : "uid " + uid;
}

std::string asked_of(const Record& record) {
    std::string operations = policy::to_text(record.operations);
    if (record.call.empty() || operations == record.call) return operations;
    return operations.empty() ? std::string(record.call) : fmt::format("{} {}", record.call, operations);
}

std::string reason_of(const Record& record) {
    const char* const name = ::strerrorname_np(record.errno_value);
    return fmt::format("{} ({}, {})", record.reason, record.step,
                       name != nullptr ? std::string(name) : std::to_string(record.errno_value));
}

std::string path_of(const Record& record) {
    std::string path(record.path);
    if (!record.new_path.empty()) path.append(" to ").append(record.new_path);
    if (!record.final_path.empty()) path.append(" (a link to ").append(record.final_path).append(")");
    return path;
}

}  // namespace

void Tally::add(std::uint64_t count, std::string_view time) {
    requests += count;
    if (time.empty()) return;
    if (first.empty() || time < first) first = time;
    if (time > last) last = time;
}

// ---- the most frequent ---------------------------------------------------------------------------------

template <typename Key, typename Value>
Value& Frequent<Key, Value>::of(const Key& key) {
    const auto found = values_.find(key);
    if (found != values_.end()) return found->second;
    if (values_.size() >= 3 * most_) prune();
    return values_[key];
}

template <typename Key, typename Value>
void Frequent<Key, Value>::prune() {
    std::vector<std::uint64_t> counts;
    for (const auto& [key, value] : values_) counts.push_back(requests_of(value));
    const auto place = counts.begin() + static_cast<std::ptrdiff_t>(most_);
    std::ranges::nth_element(counts, place, std::ranges::greater());
    std::size_t left = most_;
    for (const std::uint64_t count : counts) left -= count > *place ? 1U : 0U;
    std::erase_if(values_, [&, limit = *place](const auto& one) {
        const std::uint64_t count = requests_of(one.second);
        if (count > limit) return false;
        if (count == limit && left > 0) {
            --left;
            return false;
        }
        others_ += count;
        return true;
    });
}

template <typename Key, typename Value>
std::vector<std::pair<const Key*, const Value*>> Frequent<Key, Value>::sorted() const {
    std::vector<std::pair<const Key*, const Value*>> all;
    for (const auto& [key, value] : values_) all.emplace_back(&key, &value);
    std::ranges::stable_sort(all, [](const auto& left, const auto& right) {
        return requests_of(*left.second) > requests_of(*right.second);
    });
    return all;
}

template class Frequent<RequestKind, Tally>;
template class Frequent<std::pair<std::string, std::string>, Both>;
template class Frequent<std::string, Tally>;
template class Frequent<std::string, EventTally>;

// ---- over time -----------------------------------------------------------------------------------------

std::int64_t seconds_of(std::string_view time) noexcept {
    // 2026-11-22T18:00:00
    if (time.size() < 19 || time[4] != '-' || time[7] != '-' || time[10] != 'T' || time[13] != ':' ||
        time[16] != ':')
        return -1;
    const auto number = [&](std::size_t at, std::size_t digits) {
        int value = -1;
        const char* const start = time.data() + at;
        const auto [end, error] = std::from_chars(start, start + digits, value);
        return error == std::errc{} && end == start + digits ? value : -1;
    };
    const int year = number(0, 4), month = number(5, 2), day = number(8, 2);
    const int hour = number(11, 2), minute = number(14, 2), second = number(17, 2);
    const std::chrono::year_month_day date{std::chrono::year(year),
                                           std::chrono::month(static_cast<unsigned>(month)),
                                           std::chrono::day(static_cast<unsigned>(day))};
    if (year < 0 || !date.ok() || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 ||
        second > 60)
        return -1;
    const std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
    return days * 86400 + std::int64_t{hour} * 3600 + std::int64_t{minute} * 60 + second;
}

void Timeline::add(std::string_view time, Decision decision, std::uint64_t count) {
    const std::int64_t second = seconds_of(time);
    if (second < 0) return;
    Span& span = spans_[second - second % seconds_];
    (decision == Decision::allowed ? span.allowed : span.refused) += count;
    while ((spans_.rbegin()->first - spans_.begin()->first) / seconds_ >=
           static_cast<std::int64_t>(max_spans))
        widen();
}

// Lengths that a clock has: minutes, then hours, then days.
void Timeline::widen() {
    for (const std::int64_t next : {60, 300, 900, 1800, 3600, 7200, 14400, 43200, 86400})
        if (next > seconds_) {
            seconds_ = next;
            break;
        } else if (next == 86400) {
            seconds_ *= 2;
        }
    for (const auto& [begin, span] : std::exchange(spans_, {})) {
        Span& wide = spans_[begin - begin % seconds_];
        wide.allowed += span.allowed;
        wide.refused += span.refused;
    }
}

// ---- all together --------------------------------------------------------------------------------------

void Summary::add(const Record& record) {
    ++records;
    if (!record.is_request()) {
        EventTally& event = events.of(std::string(record.event));
        event.tally.add(record.count, record.time);
        if (event.tally.last == record.time) event.cause = record.cause;
        return;
    }
    const bool is_allowed = record.decision == Decision::allowed;
    const auto count = [&](Both& both) {
        (is_allowed ? both.allowed : both.refused).add(record.count, record.time);
    };
    RequestKind kind{.user = user_of(record),
                     .listener = record.peer != nullptr ? record.peer->listener : std::string(),
                     .asked = asked_of(record),
                     .path = path_of(record),
                     .rule = std::string(record.rule),
                     .at = std::string(record.at)};
    count(total);
    count(users.of({kind.user, kind.listener}));
    if (!kind.rule.empty()) count(rules.of({kind.rule, kind.at}));
    timeline.add(record.time, record.decision, record.count);
    if (!is_allowed) {
        kind.reason = reason_of(record);
        reasons.of(kind.reason).add(record.count, record.time);
    }
    (is_allowed ? allowed : refused).of(kind).add(record.count, record.time);
}

}  // namespace fdbroker::records
