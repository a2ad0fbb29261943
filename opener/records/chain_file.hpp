// SPDX-License-Identifier: MIT
// The chain of hashes (opener/audit/audit_chain.hpp) in one file of records: whether each record follows the one before it, and
// if not, what became of which. In constant memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "opener/audit/audit_chain.hpp"
#include "opener/records/line_reader.hpp"

namespace fdbroker::records {

using opener::RecordHash;

struct ChainFinding {
    enum class Kind : std::uint8_t {
        changed,    // a record, or the hash that the next one bears of it
        missing,    // records between two others, or at the end of a file
        inserted,   // a record or a line that the chain does not know
        reordered,  // a record stands before the one that it follows
        cut_short,  // a line is no whole record, and no record vouches for it
        unchained,  // a record without a hash among those that have one
        begun_anew  // a record says that none is before it, and there is one
    };
    Kind kind{};
    std::string file{};
    std::uint64_t line = 0;    // from 1
    std::uint64_t record = 0;  // the number of the record; 0: not known
    std::string text{};        // in words, without file and line
};
const char* to_string(ChainFinding::Kind kind) noexcept;

// A record, for messages.
struct ChainPlace {
    std::uint64_t line = 0;
    std::uint64_t sequence = 0;
};

// The records of one file as a whole, and how the file joins others.
struct FileChain {
    std::string file{};
    std::uint64_t records = 0;    // chained ones
    std::uint64_t unchained = 0;  // records before the chain begins, as openers before 0.2 wrote them
    std::uint64_t torn = 0;       // lines that a crash cut short, for which the next record vouches
    std::optional<RecordHash>
        begins{};  // the hash that the first chained record bears; nullopt: there is none
    // The hash of the last record (in an unchained file: line), without and with the lines behind it that are no records.
    RecordHash head = opener::no_record;
    RecordHash whole_head = opener::no_record;
    ChainPlace first{}, last{};
    std::string first_time{}, last_time{};
    std::optional<ChainFinding>
        left{};                 // at the end, unless the first record of the file that follows vouches for it
    bool ends_in_line = false;  // without a line feed, as a crash or a write that is under way leaves it
    std::vector<ChainFinding> findings{};
    std::uint64_t more_findings = 0;  // that are counted only
};
inline constexpr std::size_t max_chain_findings = 1000;

class ChainReader {
  public:
    // `published` are looked for among the hashes of all records.
    ChainReader(std::string file, const std::vector<RecordHash>& published);

    void add(const Line& line);
    // At the end, once.
    FileChain finish();
    // Where a published hash was seen, by its place in the list.
    const std::map<std::size_t, ChainPlace>& seen() const noexcept { return seen_; }

  private:
    // A record whose predecessor has not been seen.
    struct Orphan {
        ChainPlace place{};
        ChainPlace before{};  // the record that stands before it
        RecordHash wanted{};
        std::uint64_t index = 0;           // counts the records of the file
        std::optional<ChainPlace> rest{};  // the first line between the two that is no record
    };
    struct Known {
        std::uint64_t index = 0;
        ChainPlace place{};
    };
    // As many records are remembered to tell what was moved or inserted from what is gone.
    static constexpr std::size_t window = 4096;

    void add_record(const Line& line, const RecordHash& previous);
    void become_last(const Line& line, const ChainPlace& place);
    void add_other(const Line& line);
    void add_before_chain(const Line& line);
    bool follows(const RecordHash& previous);
    void misplaced(const ChainPlace& place, const RecordHash& previous);
    void look_between(std::uint64_t from, std::uint64_t to);
    void adopt_orphans(const ChainPlace& place);
    void remember(const ChainPlace& place);
    void note_published(const RecordHash& hash, const ChainPlace& place);
    void give_up(const Orphan& orphan);
    void tell(ChainFinding::Kind kind, const ChainPlace& place, std::string text);

    const std::vector<RecordHash>& published_;
    FileChain chain_{};
    std::map<std::size_t, ChainPlace> seen_{};
    opener::RunningHash since_record_{};  // the last record and the lines behind it
    std::optional<ChainPlace> rest_{};    // the first of those lines
    std::uint64_t rest_lines_ = 0;
    std::uint64_t index_ = 0;  // the last record's
    std::map<RecordHash, Known> known_{};
    std::deque<std::pair<RecordHash, ChainPlace>> recent_{};  // the last ones of known_, oldest first
    std::deque<Orphan> orphans_{};
    std::deque<std::pair<std::uint64_t, std::uint64_t>>
        moved_{};  // indices, from and to, that are told already
    std::string last_line_{};
};

}  // namespace fdbroker::records
