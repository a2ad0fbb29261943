// SPDX-License-Identifier: MIT
// `limits:` and `audit:`.
#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "policy/language/schema.hpp"

namespace fdbroker::policy {
namespace {

constexpr std::uint64_t max_connections = 1U << 20;  // fs.nr_open: a process has no more descriptors
constexpr std::uint64_t max_requests = std::numeric_limits<std::uint32_t>::max();

constexpr std::uint64_t max_busy_poll = 1000;  // microseconds

constexpr std::uint64_t least_file_size = 64U << 10;
constexpr std::uint64_t max_files = 1000;

std::optional<std::uint64_t> positive_size(LoadContext& context, const Node& node, std::string_view what) {
    const auto size = context.reader.size(node, what);
    if (!size || *size != 0) return size;
    context.reader.wrong(node.mark, std::string(what) + ": expected 1 or more");
    return std::nullopt;
}

constexpr Key<LoadContext, Rate> rate_keys[] = {
    {"rate",
     [](LoadContext& context, const Node& node, Rate& rate) {
         if (const auto number = context.reader.number(node, "rate", 1, max_requests)) rate.rate = *number;
     },
     true},
    {"burst",
     [](LoadContext& context, const Node& node, Rate& rate) {
         if (const auto number = context.reader.number(node, "burst", 1, max_requests)) rate.burst = *number;
     },
     true},
};

constexpr Key<LoadContext, Rate> byte_rate_keys[] = {
    {"rate",
     [](LoadContext& context, const Node& node, Rate& rate) {
         if (const auto size = positive_size(context, node, "rate")) rate.rate = *size;
     },
     true},
    {"burst",
     [](LoadContext& context, const Node& node, Rate& rate) {
         if (const auto size = positive_size(context, node, "burst")) rate.burst = *size;
     },
     true},
};

constexpr Key<LoadContext, Limits> limits_keys[] = {
    {"connections",
     [](LoadContext& context, const Node& node, Limits& limits) {
         if (const auto number = context.reader.number(node, "connections", 1, max_connections))
             limits.connections = static_cast<unsigned>(*number);
     }},
    {"connections_total",
     [](LoadContext& context, const Node& node, Limits& limits) {
         if (const auto number = context.reader.number(node, "connections_total", 1, max_connections))
             limits.connections_total = static_cast<unsigned>(*number);
     }},
    {"requests_per_second",
     [](LoadContext& context, const Node& node, Limits& limits) {
         Rate rate;
         read_mapping(context, node, "requests_per_second", rate_keys, rate);
         limits.requests_per_second = rate;
     }},
    {"snapshot_bytes_per_second",
     [](LoadContext& context, const Node& node, Limits& limits) {
         read_mapping(context, node, "snapshot_bytes_per_second", byte_rate_keys,
                      limits.snapshot_bytes_per_second);
     }},
    {"record_bytes_per_second",
     [](LoadContext& context, const Node& node, Limits& limits) {
         read_mapping(context, node, "record_bytes_per_second", byte_rate_keys,
                      limits.record_bytes_per_second);
     }},
    {"stream_idle",
     [](LoadContext& context, const Node& node, Limits& limits) {
         if (const auto time = context.reader.time(node, "stream_idle")) limits.stream_idle = *time;
     }},
    {"busy_poll",
     [](LoadContext& context, const Node& node, Limits& limits) {
         if (const auto number = context.reader.number(node, "busy_poll", 0, max_busy_poll))
             limits.busy_poll = std::chrono::microseconds(*number);
     }},
    {"reply_timeout",
     [](LoadContext& context, const Node& node, Limits& limits) {
         if (const auto time = context.reader.time(node, "reply_timeout")) limits.reply_timeout = *time;
     }},
};

constexpr Key<LoadContext, AuditSettings> audit_keys[] = {
    {"refused",
     [](LoadContext& context, const Node& node, AuditSettings& audit) {
         if (const auto truth = context.reader.truth(node, "refused")) audit.refused = *truth;
     }},
    {"allowed",
     [](LoadContext& context, const Node& node, AuditSettings& audit) {
         if (const auto truth = context.reader.truth(node, "allowed")) audit.allowed = *truth;
     }},
    {"on_failure",
     [](LoadContext& context, const Node& node, AuditSettings& audit) {
         static constexpr std::string_view words[] = {"refuse", "allow"};
         if (const auto word = context.reader.word(node, "on_failure", words))
             audit.refuse_unrecorded = *word == 0;
     }},
    {"max_size",
     [](LoadContext& context, const Node& node, AuditSettings& audit) {
         const auto size = context.reader.size(node, "max_size");
         if (!size) return;
         if (*size != 0 && *size < least_file_size)
             return context.reader.wrong(node.mark, "max_size: expected 64KiB or more, or 0 for no rotation");
         audit.max_size = *size;
     }},
    {"keep",
     [](LoadContext& context, const Node& node, AuditSettings& audit) {
         if (const auto number = context.reader.number(node, "keep", 1, max_files))
             audit.keep = static_cast<unsigned>(*number);
     }},
};

}  // namespace

void read_limits(LoadContext& context, const Node& node) {
    const Reader::Scope scope(context.reader, "limits");
    Limits& limits = context.draft.limits;
    const unsigned total = std::exchange(limits.connections_total, 0);
    read_mapping(context, node, "", limits_keys, limits);
    // A user who is alone may have all of `connections`: an eighth of what nobody has.
    if (limits.connections_total == 0) limits.connections_total = std::max(total, 9 * limits.connections);
}

void read_audit(LoadContext& context, const Node& node) {
    const Reader::Scope scope(context.reader, "audit");
    read_mapping(context, node, "", audit_keys, context.draft.audit);
}

}  // namespace fdbroker::policy
