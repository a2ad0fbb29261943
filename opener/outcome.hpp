// How a request ended, as the peer is told of it and as it goes on record.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "opener/lasting_work.hpp"
#include "opener/resolver.hpp"
#include "policy/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

struct Outcome {
    // 0: it was done; then step is none and the reason empty.
    int errno_value = 0;
    proto::Step step = proto::Step::none;
    std::string reason{};

    // What the reply carries, where it was done. Most have one or the other.
    std::optional<DeliverableFile> file{};
    std::string payload{};  // bytes
    // What goes on once the reply has left; only from where Place::may_last().
    std::unique_ptr<LastingWork> lasting{};

    // For the record: what was asked for, which rule decided (null: none), and what the peer is not told where it is told
    // something else (`reveal: ENOENT`).
    policy::OperationSet operations{};
    const policy::Rule* rule = nullptr;
    std::string final_path{};  // where links that were followed led; empty: none was
    proto::Step recorded_step = proto::Step::none;
    std::string recorded_reason{};
};

// Refused at `step`; operations and rule are the caller's to fill in.
inline Outcome refused(proto::Step step, int errno_value, std::string_view reason) {
    return {.errno_value = errno_value,
            .step = step,
            .reason = std::string(reason),
            .recorded_step = step,
            .recorded_reason = std::string(reason)};
}

}  // namespace fdbroker::opener
