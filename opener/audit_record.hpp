// What stands in the audit log: one line of JSON for each decision, and for what befell the opener and its
// sessions. opener(8) describes every key; they are only ever added to.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "policy/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// The text that is the same in all records of one session, made once: who asks, through which listener.
std::string audit_peer(const policy::PeerIdentity& identity, std::int32_t pid,
                       std::span<const std::string_view> roles);

struct DecisionRecord {
    std::uint64_t sequence = 0;
    std::uint32_t generation = 0;
    std::chrono::system_clock::time_point time{};
    std::chrono::nanoseconds duration{};
    std::uint64_t session = 0;
    std::uint32_t request = 0;
    std::string_view peer{};  // of audit_peer()
    policy::OperationSet operations{};
    std::string_view path{};
    const policy::Rule* rule = nullptr;  // that granted or denied; null: none
    int errno_value = 0;                 // 0: allowed and delivered
    proto::Step step = proto::Step::none;
    std::string_view reason{};
};

// Writes the line, newline included, into `out`, replacing what is there; its capacity is kept, so that in the long
// run nothing is allocated. Bytes of the path outside printable ASCII stand as \u00XX, one for each byte.
void write_line(std::string& out, const DecisionRecord& record);

// A record about the opener itself or a session: "start", "ready", "crash", "stop", "session-end".
struct EventRecord {
    std::uint64_t sequence = 0;
    std::uint32_t generation = 0;
    std::chrono::system_clock::time_point time{};
    std::string_view event{};
    std::uint64_t session = 0;  // 0: not about a session
    std::string_view peer{};    // of audit_peer(), or empty
    std::string_view cause{};   // in words; may be empty
};
void write_line(std::string& out, const EventRecord& record);

}  // namespace fdbroker::opener
