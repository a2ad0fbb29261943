// SPDX-License-Identifier: MIT
// The chain of hashes over the audit log (fdbroker-audit(5), "Tamper evidence"): each record ends with the SHA-256
// (FIPS 180-4) of the bytes from the beginning of the record before it to its own beginning. That is the line before it,
// line feed included, and whatever a crash has left between the two.
//
// A chain alone shows what was changed by somebody who has not written all that follows anew; the published heads show that,
// too.
#pragma once

#include <nettle/sha2.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fdbroker::opener {

using RecordHash = std::array<std::uint8_t, 32>;
// The record that begins a chain bears this.
inline constexpr RecordHash no_record{};

std::string to_hex(const RecordHash& hash);
// 64 digits, of either case. nullopt: something else.
std::optional<RecordHash> hash_from_hex(std::string_view digits) noexcept;
RecordHash hash_of(std::string_view bytes) noexcept;

// The hash of bytes that come one after the other.
class RunningHash {
  public:
    RunningHash() noexcept { ::nettle_sha256_init(&context_); }
    void add(std::string_view bytes) noexcept {
        ::nettle_sha256_update(&context_, bytes.size(), reinterpret_cast<const std::uint8_t*>(bytes.data()));
    }
    // More may be added later.
    RecordHash hash() const noexcept;

  private:
    sha256_ctx context_;
};

// Every chained record ends with this key.
inline constexpr std::string_view chain_key = "previous_sha256";
// By so much a line is longer for it, its "}" included.
inline constexpr std::size_t chain_length = chain_key.size() + 64 + 7;

// The hash of the record before, as a line tells it. `line` comes without its line feed. nullopt: the line does not end as
// chained ones do.
std::optional<RecordHash> previous_of(std::string_view line) noexcept;

// The hash of the last record at the end of a log and of what follows that record. Where no line is chained: the hash of
// the last line. `end` is the end of the log, which ends with a line feed. no_record: there is no whole line.
RecordHash head_of(std::string_view end) noexcept;

class AuditChain {
  public:
    explicit AuditChain(const RecordHash& head = no_record) noexcept : head_(head) {}
    // Appends the line, which ends with "}" and a line feed, to `out`, with its place in the chain.
    void append(std::string& out, std::string_view line);
    // The hash of the last one.
    const RecordHash& head() const noexcept { return head_; }

  private:
    RecordHash head_;
};

}  // namespace fdbroker::opener
