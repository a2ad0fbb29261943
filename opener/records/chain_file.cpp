// SPDX-License-Identifier: MIT
#include "opener/records/chain_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "opener/records/record.hpp"

namespace fdbroker::records {

using opener::hash_of;
using opener::previous_of;

namespace {

using Kind = ChainFinding::Kind;

std::uint64_t sequence_of(std::string_view line) {
    constexpr std::string_view key = "\"seq\":";
    const std::size_t at = line.substr(0, 64).find(key);
    if (at == std::string_view::npos) return 0;
    const char* start = line.data() + at + key.size();
    const char* const end = line.data() + line.size();
    while (start != end && *start == ' ') ++start;
    std::uint64_t number = 0;
    std::from_chars(start, end, number);
    return number;
}

std::string time_of(std::string_view line) {
    std::string padded(line);
    padded.reserve(line.size() + line_padding);
    RecordParser parser;
    const Record* const record = parser.parse(padded);
    return record != nullptr ? std::string(record->time) : std::string();
}

std::string numbers(std::uint64_t first, std::uint64_t last) {
    return first == last ? fmt::format("record {}", first) : fmt::format("records {} to {}", first, last);
}

}  // namespace

const char* to_string(Kind kind) noexcept {
    switch (kind) {
        case Kind::changed:
            return "changed";
        case Kind::missing:
            return "missing";
        case Kind::inserted:
            return "inserted";
        case Kind::reordered:
            return "reordered";
        case Kind::cut_short:
            return "cut-short";
        case Kind::unchained:
            return "unchained";
        case Kind::begun_anew:
            return "begun-anew";
    }
    return "";
}

ChainReader::ChainReader(std::string file, const std::vector<RecordHash>& published) : published_(published) {
    chain_.file = std::move(file);
}

void ChainReader::tell(Kind kind, const ChainPlace& place, std::string text) {
    if (chain_.findings.size() == max_chain_findings) {
        ++chain_.more_findings;
        return;
    }
    chain_.findings.push_back({.kind = kind,
                               .file = chain_.file,
                               .line = place.line,
                               .record = place.sequence,
                               .text = std::move(text)});
}

void ChainReader::add(const Line& line) {
    const auto previous = line.ended && !line.too_long ? previous_of(line.text) : std::nullopt;
    chain_.ends_in_line = !line.ended;
    if (previous) return add_record(line, *previous);
    if (!chain_.begins && line.ended && !line.too_long) return add_before_chain(line);
    add_other(line);
}

// Lines of an opener that made no chain.
void ChainReader::add_before_chain(const Line& line) {
    const ChainPlace place{line.number, sequence_of(line.text)};
    if (chain_.unchained++ == 0) {
        chain_.first = place;
        chain_.first_time = time_of(line.text);
    }
    become_last(line, place);
}

void ChainReader::become_last(const Line& line, const ChainPlace& place) {
    chain_.last = place;
    last_line_ = line.text;
    since_record_ = {};
    since_record_.add(line.text);
    since_record_.add("\n");
    chain_.head = since_record_.hash();
}

void ChainReader::add_other(const Line& line) {
    if (!rest_) rest_ = ChainPlace{line.number, sequence_of(line.text)};
    ++rest_lines_;
    since_record_.add(line.text);
    // The opener that comes next ends the line so.
    since_record_.add("\n");
}

void ChainReader::note_published(const RecordHash& hash, const ChainPlace& place) {
    for (std::size_t i = 0; i < published_.size(); ++i)
        if (published_[i] == hash) seen_.insert_or_assign(i, place);
}

bool ChainReader::follows(const RecordHash& previous) {
    if (rest_ && previous == since_record_.hash()) {
        note_published(previous, chain_.last);
        chain_.torn += rest_lines_;
        return true;
    }
    if (previous != chain_.head) return false;
    if (rest_)
        tell(Kind::inserted, *rest_,
             fmt::format("the next record, in line {}, follows the one before this line",
                         rest_->line + rest_lines_));
    return true;
}

void ChainReader::add_record(const Line& line, const RecordHash& previous) {
    const ChainPlace place{line.number, sequence_of(line.text)};
    ++index_;
    if (!chain_.begins) {
        chain_.begins = previous;
        if (chain_.unchained == 0) {
            chain_.first = place;
            chain_.first_time = time_of(line.text);
            // Nothing vouches for lines above the first record.
            if (rest_) tell(Kind::cut_short, *rest_, "the file begins with what is no whole record");
        } else if (previous == opener::no_record) {
            // The opener that began the chain could not read what was there.
        } else if (!follows(previous)) {
            tell(Kind::changed, chain_.last, "the first record with a hash follows another one");
        }
    } else if (!follows(previous)) {
        misplaced(place, previous);
    }
    rest_.reset();
    rest_lines_ = 0;
    ++chain_.records;
    become_last(line, place);
    note_published(chain_.head, place);
    adopt_orphans(place);
    remember(place);
}

// The predecessor of this record does not stand before it.
void ChainReader::misplaced(const ChainPlace& place, const RecordHash& previous) {
    if (previous == opener::no_record)
        return tell(
            Kind::begun_anew, place,
            fmt::format(
                "record {} begins a chain of its own; nothing shows that it follows the one in line {}",
                place.sequence, chain_.last.line));
    orphans_.push_back(
        {.place = place, .before = chain_.last, .wanted = previous, .index = index_, .rest = rest_});
}

// The record that has just come may be the one that others wait for, or say of others that they do not belong here.
void ChainReader::adopt_orphans(const ChainPlace& place) {
    const bool is_orphan = !orphans_.empty() && orphans_.back().index == index_;
    const auto waiting = std::ranges::find_if(
        orphans_, [&](const Orphan& one) { return one.wanted == chain_.head && one.index != index_; });
    if (waiting != orphans_.end()) {
        tell(Kind::reordered, waiting->place,
             fmt::format("record {} stands before record {}, in line {}, which it follows",
                         waiting->place.sequence, place.sequence, place.line));
        moved_.emplace_back(waiting->index, index_);
        orphans_.erase(waiting);
    }
    if (!is_orphan) return;
    const auto found = known_.find(orphans_.back().wanted);
    if (found == known_.end()) return;
    orphans_.pop_back();
    look_between(found->second.index + 1, index_ - 1);
}

// The records with these indices stand between two that follow one another.
void ChainReader::look_between(std::uint64_t from, std::uint64_t to) {
    const auto is_moved = [&](std::uint64_t index) {
        return std::ranges::any_of(
            moved_, [&](const auto& range) { return index >= range.first && index <= range.second; });
    };
    for (std::uint64_t index = from; index <= to; ++index) {
        if (is_moved(index)) continue;
        const auto back = static_cast<std::size_t>(index_ - index);
        if (back > recent_.size()) continue;
        const ChainPlace place = recent_[recent_.size() - back].second;
        std::erase_if(orphans_, [&](const Orphan& one) { return one.index == index; });
        tell(Kind::inserted, place,
             fmt::format("record {} stands between two of which one follows the other", place.sequence));
    }
    moved_.emplace_back(from, to);
}

void ChainReader::remember(const ChainPlace& place) {
    known_.insert_or_assign(chain_.head, Known{index_, place});
    recent_.emplace_back(chain_.head, place);
    if (recent_.size() > window) {
        known_.erase(recent_.front().first);
        recent_.pop_front();
    }
    while (!orphans_.empty() && orphans_.front().index + window < index_) {
        give_up(orphans_.front());
        orphans_.pop_front();
    }
    while (!moved_.empty() && moved_.front().second + window < index_) moved_.pop_front();
}

// The record that it follows is nowhere.
void ChainReader::give_up(const Orphan& orphan) {
    const auto& [place, before, wanted, index, rest] = orphan;
    if (rest)
        return tell(Kind::changed, *rest,
                    fmt::format("what stands between record {} and record {} is not what was written there",
                                before.sequence, place.sequence));
    if (place.sequence > before.sequence + 1)
        return tell(Kind::missing, place,
                    fmt::format("{} should stand between line {} and this one",
                                numbers(before.sequence + 1, place.sequence - 1), before.line));
    if (place.sequence == before.sequence + 1)
        return tell(Kind::changed, before,
                    fmt::format("record {} is not the one that record {}, in line {}, follows",
                                before.sequence, place.sequence, place.line));
    tell(
        Kind::missing, place,
        fmt::format(
            "what record {} follows does not stand before it: records are missing, or record {}, in line {}, "
            "was changed",
            place.sequence, before.sequence, before.line));
}

FileChain ChainReader::finish() {
    for (const Orphan& orphan : std::exchange(orphans_, {})) give_up(orphan);
    std::ranges::stable_sort(chain_.findings, {}, &ChainFinding::line);
    chain_.whole_head = rest_ ? since_record_.hash() : chain_.head;
    if (rest_ && (rest_lines_ != 1 || !chain_.ends_in_line))
        chain_.left = ChainFinding{.kind = Kind::cut_short,
                                   .file = chain_.file,
                                   .line = rest_->line,
                                   .record = rest_->sequence,
                                   .text = "this is no whole record, and no record after it vouches for it"};
    if (!last_line_.empty()) {
        chain_.last_time = time_of(last_line_);
        if (chain_.last_time.empty()) tell(Kind::changed, chain_.last, "the last line is no record");
    }
    note_published(chain_.whole_head, chain_.last);
    return std::move(chain_);
}

}  // namespace fdbroker::records
