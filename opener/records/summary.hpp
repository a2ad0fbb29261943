// SPDX-License-Identifier: MIT
// Aggregates of any number of records in constant memory: who asked for what, what was refused and why, when, by which rule.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "opener/records/record.hpp"

namespace fdbroker::records {

// The key of a row: requests that are alike.
struct RequestKind {
    std::string user{};  // with the uid where there is a name: "www-data (33)"
    std::string listener{};
    std::string asked{};  // "open read"
    std::string path{};   // bytes; of a rename "FROM to TO"
    std::string rule{};
    std::string at{};
    std::string reason{};  // a refusal has one, with step and errno: "no rule allows read (decide, EACCES)"

    auto operator<=>(const RequestKind&) const = default;
};

struct Tally {
    std::uint64_t requests = 0;
    std::string first{}, last{};  // times, as records have them

    void add(std::uint64_t count, std::string_view time);
};

struct Both {
    Tally allowed{}, refused{};
    std::uint64_t requests() const noexcept { return allowed.requests + refused.requests; }
};

// The most frequent keys, at most `most` of them; the counts of those that had to go are kept together.
template <typename Key, typename Value>
class Frequent {
  public:
    explicit Frequent(std::size_t most) : most_(most) {}
    // May be forgotten again when 2 × most others are more frequent.
    Value& of(const Key& key);
    // The most frequent first.
    std::vector<std::pair<const Key*, const Value*>> sorted() const;
    std::uint64_t others() const noexcept { return others_; }  // requests
    std::size_t size() const noexcept { return values_.size(); }

  private:
    void prune();
    std::size_t most_;
    std::map<Key, Value> values_{};
    std::uint64_t others_ = 0;
};

// Requests over time, in at most max_spans spans of equal length.
class Timeline {
  public:
    static constexpr std::size_t max_spans = 288;
    struct Span {
        std::uint64_t allowed = 0;
        std::uint64_t refused = 0;
    };
    void add(std::string_view time, Decision decision, std::uint64_t count);
    std::int64_t seconds() const noexcept { return seconds_; }  // the length of a span
    // By the span's beginning, in seconds since the epoch; empty ones are left out.
    const std::map<std::int64_t, Span>& spans() const noexcept { return spans_; }

  private:
    void widen();
    std::int64_t seconds_ = 60;
    std::map<std::int64_t, Span> spans_{};
};
// Seconds since the epoch of a record's time, rounded down; -1: it is none.
std::int64_t seconds_of(std::string_view time) noexcept;

struct EventTally {
    Tally tally{};
    std::string cause{};  // the last one's
    std::uint64_t requests() const noexcept { return tally.requests; }
};

struct Summary {
    static constexpr std::size_t most_requests = 10000;
    static constexpr std::size_t most_names = 2000;

    std::uint64_t records = 0;
    Both total{};
    Frequent<RequestKind, Tally> allowed{most_requests}, refused{most_requests};
    Frequent<std::pair<std::string, std::string>, Both> users{most_names};  // user and listener
    Frequent<std::pair<std::string, std::string>, Both> rules{most_names};  // name and place
    Frequent<std::string, Tally> reasons{most_names};                       // a refusal has one
    Frequent<std::string, EventTally> events{most_names};
    Timeline timeline{};

    void add(const Record& record);
};

}  // namespace fdbroker::records
