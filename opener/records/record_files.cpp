// SPDX-License-Identifier: MIT
#include "opener/records/record_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>
#include <utility>

namespace fdbroker::records {

using proto::Result;
using proto::UniqueFd;

namespace {

// Often enough for an eye, seldom enough to cost nothing.
constexpr std::uint64_t records_per_telling = 16384;

UniqueFd open_input(const std::string& name) {
    if (name == "-") return UniqueFd(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    return UniqueFd(::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
}

bool is_blank(std::string_view line) {
    return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

Result<std::vector<RecordFile>> open_record_files(const std::vector<std::string>& names) {
    std::vector<RecordFile> files;
    std::set<std::pair<dev_t, ino_t>> seen;
    for (const std::string& name : names) {
        RecordFile file{.name = name == "-" ? "<stdin>" : name, .fd = open_input(name)};
        struct stat status{};
        if (!file.fd || ::fstat(file.fd.number(), &status) != 0)
            return proto::system_error("open", file.name);
        if (S_ISDIR(status.st_mode)) return proto::system_error("open", file.name, EISDIR);
        if (S_ISREG(status.st_mode)) {
            if (!seen.emplace(status.st_dev, status.st_ino).second) continue;
            file.size = static_cast<std::uint64_t>(status.st_size);
        }
        files.push_back(std::move(file));
    }
    return files;
}

std::uint64_t total_size(const std::vector<RecordFile>& files) {
    std::uint64_t size = 0;
    for (const RecordFile& file : files) {
        if (!file.size) return 0;
        size += *file.size;
    }
    return size;
}

Result<ReadTotals> read_records(std::vector<RecordFile> files,
                                const std::function<Reading(const Record&)>& use,
                                const std::function<void(const Progress&)>& tell, Detail detail) {
    ReadTotals totals;
    Progress progress{.size = total_size(files)};
    RecordParser parser(detail);
    for (RecordFile& file : files) {
        auto source = open_byte_source(std::move(file.fd), file.name);
        if (!source) return std::unexpected(source.error());
        LineReader lines(std::move(*source));
        const std::uint64_t before = progress.consumed;
        for (;;) {
            const auto line = lines.next();
            if (!line) return std::unexpected(line.error());
            if (!*line) break;
            if (is_blank((*line)->text)) continue;
            const Record* const parsed = (*line)->too_long ? nullptr : parser.parse((*line)->text);
            if (parsed == nullptr) {
                if (totals.malformed++ == 0)
                    totals.first_malformed = file.name + ":" + std::to_string((*line)->number);
                continue;
            }
            Record record = *parsed;
            record.file = file.name;
            record.line = (*line)->number;
            ++totals.records;
            if (use(record) == Reading::stop) return totals;
            if (totals.records % records_per_telling != 0) continue;
            progress.records = totals.records;
            progress.consumed = before + lines.consumed();
            tell(progress);
        }
        progress.consumed = before + lines.consumed();
    }
    return totals;
}

}  // namespace fdbroker::records
