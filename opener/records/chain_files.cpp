// SPDX-License-Identifier: MIT
#include "opener/records/chain_files.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace fdbroker::records {

using opener::no_record;
using proto::Result;

namespace {

using Kind = ChainFinding::Kind;

bool has_lines(const FileChain& chain) {
    return chain.records != 0 || chain.unchained != 0;
}

// Whether `next` goes on where `before` ends.
bool goes_on(const FileChain& before, const FileChain& next) {
    return has_lines(before) && next.unchained == 0 && next.begins && *next.begins != no_record &&
           (*next.begins == before.head || *next.begins == before.whole_head);
}

// As a file and what it has just been compressed to.
std::vector<FileChain> without_copies(std::vector<FileChain> files) {
    std::vector<FileChain> once;
    for (FileChain& file : files) {
        const auto is_same = [&](const FileChain& other) {
            return file.begins && other.begins == file.begins && other.head == file.head &&
                   other.records == file.records && other.unchained == file.unchained &&
                   file.findings.empty();
        };
        if (std::ranges::none_of(once, is_same)) once.push_back(std::move(file));
    }
    return once;
}

// Puts files that follow one another side by side, and those groups in the order of time.
class Order {
  public:
    explicit Order(std::vector<FileChain> files) : files_(std::move(files)), after_(files_.size()) {}

    ChainReport report() {
        std::vector<bool> follows(files_.size(), false);
        for (std::size_t next = 0; next < files_.size(); ++next)
            for (std::size_t before = 0; before < files_.size() && !follows[next]; ++before)
                if (before != next && !after_[before] && goes_on(files_[before], files_[next])) {
                    after_[before] = next;
                    follows[next] = true;
                }
        std::vector<std::size_t> starts;
        for (std::size_t file = 0; file < files_.size(); ++file)
            if (!follows[file]) starts.push_back(file);
        std::ranges::stable_sort(starts, [&](std::size_t left, std::size_t right) {
            return files_[left].first_time < files_[right].first_time;
        });
        for (const std::size_t start : starts) add_group(start);
        return std::move(report_);
    }

  private:
    void add_group(std::size_t start) {
        std::vector<bool> added(files_.size(), false);
        begin_group(files_[start]);
        for (std::optional<std::size_t> file = start; file && !added[*file]; file = after_[*file]) {
            added[*file] = true;
            end_file(files_[*file], after_[*file] ? &files_[*after_[*file]] : nullptr);
            if (has_lines(files_[*file])) last_ = file;
            report_.files.push_back(files_[*file]);
        }
    }

    // A file that follows none of those that are given, though others come before it.
    void begin_group(const FileChain& file) {
        if (!last_ || !has_lines(file)) return;
        const FileChain& before = files_[*last_];
        if (!file.begins) {
            if (before.begins)
                tell(Kind::unchained, file, file.first,
                     "records without hashes are younger than some that have one");
            return;
        }
        if (*file.begins == no_record)
            return tell(Kind::begun_anew, file, file.first,
                        fmt::format("a chain begins here; nothing shows that it follows {}", before.file));
        if (file.unchained != 0) return;
        tell(
            Kind::missing, file, file.first,
            fmt::format("record {} follows none of those that are here: a file, or the end of {}, is missing",
                        file.first.sequence, before.file));
    }

    void end_file(const FileChain& file, const FileChain* next) {
        for (const ChainFinding& finding : file.findings) add(finding);
        report_.more_findings += file.more_findings;
        // The record after the crash that cut the line short stands in the next file.
        if (file.left && (next == nullptr || *next->begins != file.whole_head)) add(*file.left);
    }

    void tell(Kind kind, const FileChain& file, const ChainPlace& place, std::string text) {
        add({.kind = kind,
             .file = file.file,
             .line = place.line,
             .record = place.sequence,
             .text = std::move(text)});
    }

    void add(ChainFinding finding) {
        if (report_.findings.size() < max_chain_findings)
            report_.findings.push_back(std::move(finding));
        else
            ++report_.more_findings;
    }

    std::vector<FileChain> files_;
    std::vector<std::optional<std::size_t>> after_;  // which file follows, by index
    std::optional<std::size_t> last_{};
    ChainReport report_{};
};

}  // namespace

std::uint64_t ChainReport::records() const noexcept {
    return std::accumulate(
        files.begin(), files.end(), std::uint64_t{0},
        [](std::uint64_t sum, const FileChain& file) { return sum + file.records + file.unchained; });
}

ChainReport join_chains(std::vector<FileChain> files) {
    return Order(without_copies(std::move(files))).report();
}

Result<ChainReport> verify_chain(std::vector<RecordFile> files, const std::vector<RecordHash>& published,
                                 const std::function<void(const Progress&)>& tell) {
    constexpr std::uint64_t lines_per_telling = 16384;
    Progress progress{.size = total_size(files)};
    std::vector<FileChain> chains;
    std::vector<PublishedHead> heads;
    for (const RecordHash& head : published) heads.push_back({.head = head});
    for (RecordFile& file : files) {
        auto source = open_byte_source(std::move(file.fd), file.name);
        if (!source) return std::unexpected(source.error());
        LineReader lines(std::move(*source));
        ChainReader reader(file.name, published);
        const std::uint64_t before = progress.consumed;
        for (;;) {
            const auto line = lines.next();
            if (!line) return std::unexpected(line.error());
            progress.consumed = before + lines.consumed();
            if (!*line) break;
            reader.add(**line);
            if (++progress.records % lines_per_telling == 0) tell(progress);
        }
        chains.push_back(reader.finish());
        for (const auto& [index, place] : reader.seen()) heads[index] = {heads[index].head, file.name, place};
    }
    ChainReport report = join_chains(std::move(chains));
    report.heads = std::move(heads);
    for (const PublishedHead& head : report.heads)
        if (head.file.empty())
            report.findings.push_back(
                {.kind = Kind::missing,
                 .text = fmt::format(
                     "no record has the published hash {}: it was removed or changed, or stands in "
                     "another file",
                     opener::to_hex(head.head))});
    return report;
}

}  // namespace fdbroker::records
