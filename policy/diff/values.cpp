// SPDX-License-Identifier: MIT
// `limits:` and `audit:` of two policies.
#include <fmt/format.h>

#include "policy/diff/diff.hpp"

namespace fdbroker::policy {
namespace {

std::string text_of(bool value) {
    return value ? "true" : "false";
}
std::string text_of(std::uint64_t value) {
    return std::to_string(value);
}
std::string text_of(std::chrono::milliseconds value) {
    return fmt::format("{} ms", value.count());
}
std::string text_of(std::chrono::microseconds value) {
    return fmt::format("{} us", value.count());
}
std::string text_of(const Rate& value) {
    return fmt::format("{} a second, {} at once", value.rate, value.burst);
}
std::string text_of(const std::optional<Rate>& value) {
    return value ? text_of(*value) : "none";
}

}  // namespace

std::vector<ValueDifference> value_differences(const Policy& before, const Policy& after) {
    std::vector<ValueDifference> found;
    const auto compare = [&](const char* key, const auto& one, const auto& other) {
        std::string was = text_of(one);
        std::string is = text_of(other);
        if (was != is) found.push_back({key, std::move(was), std::move(is)});
    };
    const Limits& was = before.limits();
    const Limits& is = after.limits();
    compare("limits: connections", std::uint64_t{was.connections}, std::uint64_t{is.connections});
    compare("limits: connections_total", std::uint64_t{was.connections_total},
            std::uint64_t{is.connections_total});
    compare("limits: requests_per_second", was.requests_per_second, is.requests_per_second);
    compare("limits: snapshot_bytes_per_second", was.snapshot_bytes_per_second, is.snapshot_bytes_per_second);
    compare("limits: record_bytes_per_second", was.record_bytes_per_second, is.record_bytes_per_second);
    compare("limits: reply_timeout", was.reply_timeout, is.reply_timeout);
    compare("limits: busy_poll", was.busy_poll, is.busy_poll);
    compare("limits: stream_idle", was.stream_idle, is.stream_idle);
    const AuditSettings& recorded = before.audit();
    const AuditSettings& records = after.audit();
    compare("audit: refused", recorded.refused, records.refused);
    compare("audit: allowed", recorded.allowed, records.allowed);
    compare("audit: on_failure", std::uint64_t{recorded.refuse_unrecorded},
            std::uint64_t{records.refuse_unrecorded});
    compare("audit: max_size", recorded.max_size, records.max_size);
    compare("audit: keep", std::uint64_t{recorded.keep}, std::uint64_t{records.keep});
    return found;
}

}  // namespace fdbroker::policy
