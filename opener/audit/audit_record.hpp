// SPDX-License-Identifier: MIT
// What stands in the audit log: one line of JSON for each decision, and for what befell the opener and its
// sessions. fdbroker-audit(5) describes every key; they are only ever added to.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "policy/matching/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// The text that is the same in all records of one session, made once: who asks, through which listener.
std::string audit_peer(const policy::PeerIdentity& identity, std::int32_t pid,
                       std::span<const std::string_view> roles);

// The fields that every record begins with, in this order.
struct RecordHead {
    std::uint64_t sequence = 0;
    std::uint32_t generation = 0;
    std::string_view policy{};  // policy_digest_shown digits; empty: the supervisor's, which knows no policy
    std::chrono::system_clock::time_point time{};
};

// A policy is known by the SHA-256 of the sources, in hexadecimal. Records have this many digits; the record that
// begins a generation has all.
inline constexpr std::size_t policy_digest_shown = 16;

// Puts the beginning of the line with this number into `out`, replacing what is there; the supervisor, who counts them as
// well, expects it.
void write_line_beginning(std::string& out, std::uint64_t sequence, std::uint32_t generation);

// No line is longer, newline included: three paths of which every byte is escaped, and a peer with many roles.
inline constexpr std::size_t max_line = std::size_t{128} << 10;

struct DecisionRecord {
    RecordHead head{};
    std::chrono::nanoseconds duration{};
    std::uint64_t session = 0;
    std::uint32_t request = 0;
    std::string_view peer{};  // made by audit_peer()
    proto::Call call = proto::Call::open;
    policy::OperationSet operations{};
    std::string_view path{};
    std::string_view final_path{};       // where links led; empty: the path itself
    std::string_view new_path{};         // the new name in a rename
    const policy::Rule* rule = nullptr;  // that granted or denied; null: none
    int errno_value = 0;                 // 0: allowed and delivered
    proto::Step step = proto::Step::none;
    std::string_view reason{};
    std::uint64_t count = 1;  // failures of one kind that the record stands for
};

// Writes the line, newline included, into `out`, replacing what is there; its capacity is kept, so that in the long
// run nothing is allocated. Bytes of a path outside printable ASCII stand as \u00XX, one for each byte.
void write_line(std::string& out, const DecisionRecord& record);

// The record of a decision, as far as one has been made.
struct Recorded {
    std::uint64_t sequence = 0;  // the number of the record; 0: none has been made
    bool may_leave = true;       // false: the decision could not be put on record, and that is the answer
};

// A record about the opener itself or a session.
struct EventRecord {
    RecordHead head{};
    std::string_view event{};
    std::uint64_t session = 0;  // 0: not about a session
    std::string_view peer{};    // made by audit_peer(), or empty
    std::string_view policy_digest{};
    std::string_view path{};             // may be empty
    const policy::Rule* rule = nullptr;  // null: left out
    std::string_view cause{};            // in words; may be empty
    std::uint64_t bytes = 0;             // 0: left out
    std::uint64_t count = 1;             // that this one stands for; 1: left out
    // Numbers that no record bears, from the first to the last; 0: there are none.
    std::uint64_t unused_first = 0;
    std::uint64_t unused_last = 0;
};
void write_line(std::string& out, const EventRecord& record);

}  // namespace fdbroker::opener
