// SPDX-License-Identifier: MIT
// What a generation counts about itself: plain numbers, written by the one thread of its broker.
//
// They begin at 0 with each generation, since they are about the rules of one policy. Prometheus's rate() takes that for
// what it is, a counter that starts anew. What is counted for a request costs an addition each:
// everything is found by a small index, and no clock is read but what the request has read anyway. Only how long the
// single steps take needs further readings, and is taken of one request in sample_every.
#pragma once

#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "opener/audit/audit_record.hpp"
#include "policy/matching/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// How long something took, in buckets that double.
class Latencies {
  public:
    // The bucket i holds what took at most 2^(i + first_bit) nanoseconds and no less than the one before: from 512 ns
    // to 8.6 s. What took longer is counted in `count` alone.
    static constexpr unsigned first_bit = 9;
    static constexpr std::size_t bucket_count = 25;

    void add(std::chrono::nanoseconds duration) noexcept {
        const auto ns = static_cast<std::uint64_t>(duration.count() > 0 ? duration.count() : 0);
        const auto bits = static_cast<unsigned>(std::bit_width(ns == 0 ? 0 : ns - 1));
        const std::size_t bucket = bits > first_bit ? bits - first_bit : 0;
        if (bucket < bucket_count) ++buckets_[bucket];
        ++count_;
        sum_ += ns;
        // An average that forgets: each one counts for 1/64.
        recent_ = count_ == 1 ? ns : recent_ - recent_ / 64 + ns / 64;
    }

    std::span<const std::uint64_t, bucket_count> buckets() const noexcept { return buckets_; }
    std::uint64_t count() const noexcept { return count_; }
    std::chrono::nanoseconds sum() const noexcept { return std::chrono::nanoseconds(sum_); }
    // The mean of all, and of the last hundred or so; 0 when there was none.
    std::chrono::nanoseconds mean() const noexcept {
        return std::chrono::nanoseconds(count_ == 0 ? 0 : sum_ / count_);
    }
    std::chrono::nanoseconds recent() const noexcept { return std::chrono::nanoseconds(recent_); }

  private:
    std::array<std::uint64_t, bucket_count> buckets_{};
    std::uint64_t count_ = 0;
    std::uint64_t sum_ = 0;     // nanoseconds
    std::uint64_t recent_ = 0;  // nanoseconds
};

// Why a request ended as it did: what the label `reason` says.
enum class Reason : std::uint8_t {
    granted,
    malformed,      // the path or the flags mean nothing
    no_rule,        // no rule allows it
    deny_rule,      // a rule denies it
    not_opened,     // the kernel, or a symbolic link on the way
    unfit,          // the object is not what the rule asks for
    not_delivered,  // the descriptor could not be sent
    not_recorded,   // the grant could not be put on record
    deadline,       // the outcome did not come in time
};
inline constexpr std::size_t reason_count = 9;
std::string_view to_string(Reason reason) noexcept;

// Where the time of what a helper carried out went.
enum class HelperStep : std::uint8_t {
    wait,       // for a helper, from the message's arrival
    carry_out,  // resolve and inspect, and what the request changes, until the helper's report
    deliver,    // record, and put the reply into the connection
};
inline constexpr std::size_t helper_step_count = 3;
std::string_view to_string(HelperStep step) noexcept;

Reason reason_of(const DecisionRecord& request) noexcept;

class Metrics {
  public:
    using Clock = std::chrono::steady_clock;
    static constexpr unsigned sample_every = 64;
    // Sets of operations that are told apart; requests for yet other ones are counted together.
    static constexpr std::size_t max_operation_sets = 32;

    // `rules` must outlive it; every rule that count() is given is one of them.
    explicit Metrics(std::span<const policy::Rule> rules) : rules_(rules), uses_(rules.size()) {}

    // `at`: when it was answered.
    void count(const DecisionRecord& request, Clock::time_point at) noexcept;

    // The steps of one request, one after the other: begin(), then done() at the end of each step. `may_sample`
    // requests in all, of which one in sample_every is measured.
    void begin() noexcept {
        sampling_ = ++begun_ % sample_every == 0;
        if (sampling_) step_began_ = Clock::now();
    }
    void done(proto::Step step) noexcept {
        if (!sampling_) return;
        const auto now = Clock::now();
        steps_[static_cast<std::size_t>(step)].add(now - step_began_);
        step_began_ = now;
    }

    // The rest of the steps of this request is not measured.
    void end() noexcept { sampling_ = false; }

    // A helper has delivered: all deliveries are measured.
    void helper_delivered(Clock::time_point received, Clock::time_point given, Clock::time_point reported,
                          Clock::time_point delivered) noexcept {
        helper_steps_[static_cast<std::size_t>(HelperStep::wait)].add(given - received);
        helper_steps_[static_cast<std::size_t>(HelperStep::carry_out)].add(reported - given);
        helper_steps_[static_cast<std::size_t>(HelperStep::deliver)].add(delivered - reported);
        by_helpers_.add(delivered - received);
    }

    void session_began() noexcept { ++sessions_begun_; }

    // ---- what was counted ----

    struct ByOperations {
        policy::OperationSet
            operations{};  // empty: all that no other entry is about, malformed requests included
        std::array<std::uint64_t, reason_count> requests{};  // by Reason
    };
    std::span<const ByOperations> requests() const noexcept {
        return std::span(requests_).first(operation_sets_);
    }
    struct RuleUse {
        std::uint64_t requests = 0;    // that it granted or denied
        Clock::time_point last_use{};  // the epoch: never
    };
    std::span<const policy::Rule> rules() const noexcept { return rules_; }
    const RuleUse& use_of(std::size_t rule) const noexcept { return uses_[rule]; }
    const Latencies& whole_requests() const noexcept { return whole_; }
    const Latencies& step(proto::Step step) const noexcept { return steps_[static_cast<std::size_t>(step)]; }
    const Latencies& helper_requests() const noexcept { return by_helpers_; }
    const Latencies& helper_step(HelperStep step) const noexcept {
        return helper_steps_[static_cast<std::size_t>(step)];
    }
    std::uint64_t sessions_begun() const noexcept { return sessions_begun_; }

  private:
    ByOperations& entry_for(policy::OperationSet operations) noexcept;

    std::span<const policy::Rule> rules_;
    std::vector<RuleUse> uses_;
    // The first one is for all the rest.
    std::array<ByOperations, max_operation_sets + 1> requests_{};
    std::size_t operation_sets_ = 1;
    std::size_t last_set_ = 0;
    Latencies whole_{};
    std::array<Latencies, 7> steps_{};
    Latencies by_helpers_{};
    std::array<Latencies, helper_step_count> helper_steps_{};
    unsigned begun_ = 0;
    bool sampling_ = false;
    Clock::time_point step_began_{};
    std::uint64_t sessions_begun_ = 0;
};

}  // namespace fdbroker::opener
