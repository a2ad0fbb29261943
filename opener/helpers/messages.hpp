// SPDX-License-Identifier: MIT
// What a broker and its helpers say to each other: one SOCK_SEQPACKET message each.
//
//   broker → helper   job      what is to be done, with the peer's connection attached
//   helper → broker   report   what came of it; nothing of it has reached the peer yet
//   broker → helper   verdict  it is on record and may leave, or: too late, drop it
//   helper → broker   sent     the reply is in the connection, or why it is not
//   helper → broker   idle     the connection and what was opened for it are closed
//
// A helper whose job leaves background work says so in `sent`, and then is not idle any more. It takes further jobs about
// that work alone, each with a report, a verdict and `sent`. At the end of the work it says `ended`, and exits. While bytes go
// through a stream the helper says `moved`, once a second at most.
//
// Both ends are the same program, so numbers travel as they lie in memory. A helper may have been taken over by what a
// hostile filesystem did to the kernel's answers: what it sends is checked like a peer's message.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "opener/audit/audit_record.hpp"
#include "opener/request/outcome.hpp"
#include "policy/matching/policy.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

// Every message fits: a whole one of a peer's, and what goes before it.
inline constexpr std::size_t max_helper_message = proto::max_message_size + 4096;

struct Job {
    std::uint64_t number = 0;
    bool allows_background = false;  // something may go on after the reply
    std::chrono::steady_clock::time_point deadline{};
    std::string_view listener{};  // where the peer connected
    std::string_view user{};      // the names of uid and gid; empty: none
    std::string_view group{};
    std::span<const std::byte> requests{};  // a message of requests as proto/message.hpp has it
};
std::vector<std::byte> write_job(const Job& job);
std::optional<Job> read_job(std::span<const std::byte> message);
// In a job that has been written, which is before anybody knows.
void set_allows_background(std::span<std::byte> job, bool allows_background) noexcept;

// Bytes of a message beside the greatest number of outcomes, each with the longest reason. The last final paths of a batch
// are cut short where all together are longer.
inline constexpr std::size_t max_final_paths = std::size_t{10} << 10;
// The outcomes as they go on record: without what the peer is told or given instead.
struct Report {
    std::uint64_t job = 0;
    std::vector<Outcome> outcomes{};  // an outcome for each request
};
// `rules`: the policy's, which both ends have.
std::vector<std::byte> write_report(std::uint64_t job, std::span<const Outcome> outcomes,
                                    std::span<const policy::Rule> rules);

struct Verdict {
    std::uint64_t job = 0;
    bool over_budget = false;         // the peer is told that instead of what was done: too_many_copies
    std::vector<Recorded> records{};  // a record for each request; none: drop it, the peer has been answered
};
std::vector<std::byte> write_verdict(const Verdict& verdict);
std::optional<Verdict> read_verdict(std::span<const std::byte> message);

struct Sent {
    std::uint64_t job = 0;
    std::uint32_t descriptors = 0;  // that the reply carried
    std::int32_t errno_value = 0;   // 0: it is in the connection
    bool in_background = false;     // the helper stays with what the job has left going on
};
std::vector<std::byte> write_sent(const Sent& sent);
std::vector<std::byte> write_idle();
std::vector<std::byte> write_moved();
// 0: what had been left going on is done.
std::vector<std::byte> write_ended(std::int32_t errno_value);

// A message of a helper's; nullopt: not one that a helper sends.
struct FromHelper {
    enum class Type : std::uint32_t { report = 1, sent = 2, idle = 3, ended = 4, moved = 5 };
    Type type{};
    Report report{};
    Sent sent{};
    std::int32_t errno_value = 0;  // errno of `ended`
};
std::optional<FromHelper> read_from_helper(std::span<const std::byte> message,
                                           std::span<const policy::Rule> rules);

}  // namespace fdbroker::opener
