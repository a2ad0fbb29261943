// SPDX-License-Identifier: MIT
// One audit record, read back from its line (fdbroker-audit(5) describes the keys). Keys may come in any order; those that
// are not known are passed over.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/matching/operation.hpp"

namespace fdbroker::records {

// The peer that asked. A key that the record lacks is nullopt: readers tell so and never guess.
struct RecordedPeer {
    // The same for the same peer, whatever its pid, in one reading; never given to another. From 1.
    std::uint64_t id = 0;
    std::string listener{};  // empty: not told
    std::optional<std::uint32_t> uid{};
    std::optional<std::uint32_t> gid{};
    std::optional<std::string> user{};                   // empty: the uid has no name (null in the record)
    std::optional<std::string> group{};                  // the name of gid; empty: there is none (null)
    std::optional<std::vector<std::uint32_t>> groups{};  // supplementary; nullopt also where not all are told
    std::vector<std::string> roles{};
};

enum class Decision : std::uint8_t { none, allowed, refused };  // none: the record is no request's

// Views are valid until the next record is read.
struct Record {
    std::string_view file{};  // where it stands
    std::uint64_t line = 0;   // from 1
    std::string_view text{};  // the line itself, without the line feed

    std::uint64_t sequence = 0;
    std::uint32_t generation = 0;
    std::string_view policy{};  // digits of the SHA-256
    std::string_view time{};    // RFC 3339, UTC
    std::string_view event{};
    Decision decision = Decision::none;
    std::uint64_t session = 0;
    const RecordedPeer* peer =
        nullptr;  // null: the record has none; lives longer than the record (max_peers)
    std::string_view call{};
    policy::OperationSet operations{};
    bool unknown_operation = false;  // among the words is one that is not known here
    // Bytes, as they were asked for.
    std::string_view path{};
    std::string_view final_path{};  // where links led; empty: the path itself
    std::string_view new_path{};    // the new name in a rename
    std::string_view rule{};
    std::string_view at{};  // file:line of the rule
    std::string_view step{};
    int errno_value = 0;
    std::string_view reason{};
    std::string_view cause{};
    std::uint64_t count = 1;  // requests or events that the record stands for
    std::int64_t duration_ns = 0;

    bool is_request() const noexcept { return decision != Decision::none; }
    // The policy itself refused. What ended at a later step had been granted; what ended at `parse`, or with others
    // that failed (ECANCELED), was never decided.
    bool is_refused_by_policy() const noexcept { return decision == Decision::refused && step == "decide"; }
    bool is_decided() const noexcept;
};

// How much of a record is read. For decisions: whatever a decision depends on, rule and errno; not sequence, generation,
// policy, time, session, reason, cause and duration.
enum class Detail : std::uint8_t { all, decisions };

class RecordParser {
  public:
    explicit RecordParser(Detail detail = Detail::all);
    ~RecordParser();
    RecordParser(const RecordParser&) = delete;
    RecordParser& operator=(const RecordParser&) = delete;

    // nullptr: the line is no record. At least line_padding bytes behind the line may be read. The record is valid until the
    // next call. Takes about half a microsecond.
    const Record* parse(std::string_view line);

    // Peers that are remembered. When there are more, all are forgotten: the ids of later ones differ.
    static constexpr std::size_t max_peers = 16384;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace fdbroker::records
