// SPDX-License-Identifier: MIT
#include "opener/supervisor/head_publisher.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace fdbroker::opener {

void HeadPublisher::say(const RecordHash& head, std::string_view occasion) {
    if (head == published_) return;
    published_ = head;
    say_("audit-head", fmt::format("the head of the audit log {}: {}", occasion, to_hex(head)));
}

void HeadPublisher::publish(const AuditLog& log, std::string_view occasion, Clock::time_point now) {
    const RecordHash head = log.written_head();
    due_.reset();
    if (!log.is_kept() || head == no_record || head == published_) return;
    published_at_ = now;
    say(head, occasion);
}

void HeadPublisher::look(AuditLog& log, Clock::time_point now) {
    if (!log.is_kept()) return;
    for (const RecordHash& closed : log.take_closed()) say(closed, "that was rotated away");
    const RecordHash head = log.written_head();
    facts_.audit_head.store(head);
    if (head == published_) {
        due_.reset();
        return;
    }
    if (!due_) due_ = published_at_ ? std::max(now, *published_at_ + interval) : now + interval;
    if (now >= *due_) publish(log, "is now", now);
}

}  // namespace fdbroker::opener
