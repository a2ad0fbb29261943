// SPDX-License-Identifier: MIT
// The records of several files, one after the other, in constant memory. Every command of openerctl that reads the audit log
// reads it through this.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "opener/records/line_reader.hpp"
#include "opener/records/record.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::records {

struct RecordFile {
    std::string name{};  // as it was given; "<stdin>" for standard input
    proto::UniqueFd fd{};
    std::optional<std::uint64_t> size{};  // bytes on disk, compressed as they are; nullopt: not known
};

// Opens them all at once, before an opener can rotate one away; - is standard input. A file that is given twice, also by
// another name, is opened once. The error: one cannot be opened.
proto::Result<std::vector<RecordFile>> open_record_files(const std::vector<std::string>& names);

// Bytes on disk; 0: not known of all of them.
std::uint64_t total_size(const std::vector<RecordFile>& files);

struct Progress {
    std::uint64_t records = 0;
    std::uint64_t consumed = 0;  // bytes read from the files
    std::uint64_t size = 0;      // the sum of all files; 0: not known

    // From 0 to 1; below 0: not known.
    double share() const noexcept {
        return size == 0 ? -1 : static_cast<double>(consumed) / static_cast<double>(size);
    }
};

// How many lines were records, and how many were not.
struct ReadTotals {
    std::uint64_t records = 0;
    std::uint64_t malformed = 0;    // lines that are no record
    std::string first_malformed{};  // file:line
};

enum class Reading { go_on, stop };

// Calls `use` with each record in the order of the files and lines, and `tell` now and then. Lines that are no records are
// counted. The error: a file cannot be read, or is compressed and cut short.
proto::Result<ReadTotals> read_records(
    std::vector<RecordFile> files, const std::function<Reading(const Record&)>& use,
    const std::function<void(const Progress&)>& tell = [](const Progress&) {}, Detail detail = Detail::all);

}  // namespace fdbroker::records
