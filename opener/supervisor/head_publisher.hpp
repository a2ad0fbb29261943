// SPDX-License-Identifier: MIT
// Publishes the head of the audit log's chain (opener/audit/audit_chain.hpp) where whoever can change the log cannot change it
// too: in the journal, or wherever standard error leads, and in `status`.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>

#include "opener/audit/audit_log.hpp"
#include "opener/link/supervisor_facts.hpp"

namespace fdbroker::opener {

class HeadPublisher {
  public:
    using Clock = std::chrono::steady_clock;
    // No record is longer on record without a published head behind it.
    static constexpr std::chrono::seconds interval{60};

    // `say` is log_event() but in tests.
    using Say = std::function<void(std::string_view event, std::string_view text)>;
    HeadPublisher(SupervisorFacts& facts, Say say) : facts_(facts), say_(std::move(say)) {}

    // After records were written: tells the heads of files that were rotated away, and once in an interval that of the log
    // where it is another.
    void look(AuditLog& log, Clock::time_point now);
    // Tells the head now, unless it was told already.
    void publish(const AuditLog& log, std::string_view occasion, Clock::time_point now);
    // When look() is next of use.
    std::optional<Clock::time_point> due() const noexcept { return due_; }

  private:
    void say(const RecordHash& head, std::string_view occasion);

    SupervisorFacts& facts_;
    Say say_;
    RecordHash published_ = no_record;
    std::optional<Clock::time_point> published_at_{};
    std::optional<Clock::time_point> due_{};
};

}  // namespace fdbroker::opener
