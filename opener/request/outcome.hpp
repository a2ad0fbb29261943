// SPDX-License-Identifier: MIT
// How a request ended, as the peer is told of it and as it goes on record.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "opener/base/sparse_string.hpp"
#include "opener/request/background_work.hpp"
#include "opener/resolve/resolver.hpp"
#include "policy/matching/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

struct Outcome {
    Completion completion = Completion::done;
    // Where it was not done: the errno, the step that it ended at, and why.
    int errno_value = 0;
    proto::Step step = proto::Step::none;
    SparseString reason{};

    // The reply's contents, where the request was done. Most have either of them.
    std::optional<DeliverableFile> file{};
    SparseString payload{};  // bytes
    // Work that goes on once the reply has left; only where ExecutionContext::allows_background().
    std::unique_ptr<BackgroundWork> background{};

    // For the record: what was asked for, which rule decided (null: none), and what the peer is not told where it is told
    // something else (`reveal: ENOENT`).
    policy::OperationSet operations{};
    const policy::Rule* rule = nullptr;
    SparseString final_path{};  // where links that were followed led; empty: none was
    proto::Step recorded_step = proto::Step::none;
    SparseString other_reason{};  // empty: the same that the peer is told
    std::uint64_t copied = 0;     // bytes of memory that the snapshot takes which the peer is given

    bool is_done() const noexcept { return completion == Completion::done; }
    bool needs_helper() const noexcept { return completion == Completion::needs_helper; }
    std::string_view recorded_reason() const noexcept {
        return other_reason.empty() ? reason.view() : other_reason.view();
    }
};

// Refused at `step`; operations and rule are the caller's to fill in.
inline Outcome refused(proto::Step step, int errno_value, SparseString reason) {
    return {.completion = Completion::refused,
            .errno_value = errno_value,
            .step = step,
            .reason = std::move(reason),
            .recorded_step = step};
}
inline Outcome refused(const Obstacle& obstacle) {
    Outcome outcome = refused(obstacle.step, obstacle.errno_value, obstacle.text);
    outcome.completion = obstacle.completion;
    return outcome;
}
// The peer is told another reason, another step than what goes on record.
inline void tell_instead(Outcome& outcome, proto::Step step, SparseString reason) {
    outcome.step = step;
    outcome.other_reason = std::exchange(outcome.reason, std::move(reason));
}

}  // namespace fdbroker::opener
