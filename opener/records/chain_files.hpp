// SPDX-License-Identifier: MIT
// The chain of hashes over several files: which follows which, whatever their names and the order they are given in, and what
// is missing between them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "opener/records/chain_file.hpp"
#include "opener/records/record_files.hpp"
#include "proto/error.hpp"

namespace fdbroker::records {

struct PublishedHead {
    RecordHash head{};
    std::string file{};  // where it was found; empty: nowhere
    ChainPlace place{};
};

struct ChainReport {
    std::vector<FileChain> files{};  // the oldest first, as the chain has them
    std::vector<PublishedHead> heads{};
    std::vector<ChainFinding> findings{};  // in and between the files, and heads that are not found
    std::uint64_t more_findings = 0;

    bool holds() const noexcept { return findings.empty() && more_findings == 0; }
    std::uint64_t records() const noexcept;
};

// The error: a file cannot be read. `tell` as for read_records().
proto::Result<ChainReport> verify_chain(std::vector<RecordFile> files,
                                        const std::vector<RecordHash>& published,
                                        const std::function<void(const Progress&)>& tell);

// As verify_chain() puts them together.
ChainReport join_chains(std::vector<FileChain> files);

}  // namespace fdbroker::records
