// SPDX-License-Identifier: MIT
// What the chain of hashes shows of a file of records.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "opener/audit/audit_chain.hpp"
#include "opener/records/chain_file.hpp"

using namespace fdbroker;
using namespace fdbroker::records;
using opener::AuditChain;
using opener::hash_of;
using Kind = ChainFinding::Kind;

namespace {

std::string record(std::uint64_t sequence, const std::string& path = "/some/file") {
    return R"({"seq":)" + std::to_string(sequence) +
           R"(,"generation":1,"time":"2026-11-29T10:00:00.000001Z",)" +
           R"("event":"request","decision":"allowed","path":")" + path + "\"}\n";
}

// Lines with their line feeds.
std::vector<std::string> chained(std::uint64_t first, std::uint64_t last, AuditChain& chain) {
    std::vector<std::string> lines;
    for (; first <= last; ++first) chain.append(lines.emplace_back(), record(first));
    return lines;
}

FileChain read(const std::vector<std::string>& lines, const std::vector<RecordHash>& published = {},
               std::map<std::size_t, ChainPlace>* seen = nullptr) {
    ChainReader reader("log", published);
    std::uint64_t number = 0;
    for (const std::string& line : lines) {
        const bool ended = line.ends_with('\n');
        reader.add({.text = std::string_view(line).substr(0, line.size() - (ended ? 1 : 0)),
                    .number = ++number,
                    .ended = ended});
    }
    FileChain chain = reader.finish();
    if (seen != nullptr) *seen = reader.seen();
    return chain;
}

// "changed@3" and so on.
std::string findings(const std::vector<std::string>& lines) {
    const FileChain chain = read(lines);
    std::string text;
    for (const ChainFinding& one : chain.findings)
        text += (text.empty() ? "" : " ") + std::string(to_string(one.kind)) + "@" + std::to_string(one.line);
    if (chain.left) text += " left@" + std::to_string(chain.left->line);
    return text;
}

void edit(std::string& line, const std::string& from, const std::string& to) {
    const std::size_t at = line.find(from);
    REQUIRE(at != std::string::npos);
    line.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("records chain: an untouched file holds") {
    AuditChain chain;
    const auto lines = chained(1, 20, chain);
    const FileChain read_chain = read(lines);
    CHECK(read_chain.findings.empty());
    CHECK(read_chain.records == 20);
    CHECK(read_chain.begins == opener::no_record);
    CHECK(read_chain.head == chain.head());
    CHECK(read_chain.whole_head == chain.head());
    CHECK(read_chain.first.sequence == 1);
    CHECK(read_chain.last.line == 20);
    CHECK(read_chain.last_time == "2026-11-29T10:00:00.000001Z");
    CHECK(read({}).records == 0);
    CHECK(!read({}).begins);
}

TEST_CASE("records chain: a record that was changed is named") {
    AuditChain chain;
    const auto lines = chained(1, 20, chain);
    for (std::size_t changed = 0; changed < 19; ++changed) {
        auto other = lines;
        edit(other[changed], "/some/file", "/same/file");
        CAPTURE(changed);
        CHECK(findings(other) == "changed@" + std::to_string(changed + 1));
        other = lines;
        edit(other[changed], "allowed", "refused and much longer than before");
        CHECK(findings(other) == "changed@" + std::to_string(changed + 1));
    }
    // A change of the last record shows by a published hash alone.
    auto other = lines;
    edit(other[19], "/some/file", "/same/file");
    CHECK(findings(other).empty());
    std::map<std::size_t, ChainPlace> seen;
    read(other, {chain.head()}, &seen);
    CHECK(seen.empty());
    read(lines, {hash_of("x"), chain.head(), hash_of(lines[3])}, &seen);
    REQUIRE(seen.size() == 2);
    CHECK(seen[1].line == 20);
    CHECK(seen[2].sequence == 4);
}

TEST_CASE("records chain: records that were removed are named by those beside them") {
    AuditChain chain;
    const auto lines = chained(1, 20, chain);
    for (std::size_t removed = 1; removed < 19; ++removed) {
        auto other = lines;
        other.erase(other.begin() + static_cast<std::ptrdiff_t>(removed));
        CAPTURE(removed);
        CHECK(findings(other) == "missing@" + std::to_string(removed + 1));
    }
    auto other = lines;
    other.erase(other.begin() + 4, other.begin() + 9);
    const FileChain read_chain = read(other);
    REQUIRE(read_chain.findings.size() == 1);
    CHECK(read_chain.findings[0].record == 10);
    CHECK(read_chain.findings[0].text.find("records 5 to 9") != std::string::npos);
}

TEST_CASE("records chain: records that changed places are named, near and far") {
    AuditChain chain;
    const auto lines = chained(1, 40, chain);
    auto other = lines;
    std::swap(other[9], other[10]);
    CHECK(findings(other) == "reordered@10");
    other = lines;
    // The tenth stands behind the thirtieth now.
    std::rotate(other.begin() + 9, other.begin() + 10, other.begin() + 30);
    CHECK(findings(other) == "reordered@10");
}

TEST_CASE("records chain: an inserted line is named, with a hash that fits or without") {
    AuditChain chain;
    const auto lines = chained(1, 20, chain);
    AuditChain fitting(hash_of(lines[9]));
    std::string forged;
    fitting.append(forged, record(11, "/forged"));
    auto other = lines;
    other.insert(other.begin() + 10, forged);
    CHECK(findings(other) == "inserted@11");

    AuditChain foreign(hash_of("another"));
    forged.clear();
    foreign.append(forged, record(11, "/forged"));
    other = lines;
    other.insert(other.begin() + 10, forged);
    CHECK(findings(other) == "inserted@11");

    other = lines;
    other.insert(other.begin() + 10, record(11, "/forged"));
    CHECK(findings(other) == "inserted@11");
    other = lines;
    other.insert(other.begin() + 10, "\n");
    CHECK(findings(other) == "inserted@11");
    other = lines;
    other.insert(other.begin() + 10, other[9]);
    CHECK(findings(other) == "inserted@10");
}

TEST_CASE("records chain: a record that was cut short is no crash where the next one knew it whole") {
    AuditChain chain;
    const auto lines = chained(1, 20, chain);
    auto other = lines;
    other[9] = other[9].substr(0, 50) + "\n";
    CHECK(findings(other) == "changed@10");
    other = lines;
    other.back() = other.back().substr(0, 50) + "\n";
    CHECK(findings(other) == " left@20");
    other.back().pop_back();
    CHECK(findings(other).empty());
    CHECK(read(other).ends_in_line);
}

TEST_CASE("records chain: a line that a crash cut short is told, and vouched for by the record after it") {
    AuditChain chain;
    auto lines = chained(1, 5, chain);
    lines.push_back("{\"seq\":6,\"gener\n");
    AuditChain next(hash_of(lines[4] + lines[5]));
    for (const std::string& line : chained(1, 5, next)) lines.push_back(line);
    const FileChain read_chain = read(lines);
    CHECK(read_chain.findings.empty());
    CHECK(read_chain.torn == 1);
    CHECK(read_chain.records == 10);
    auto other = lines;
    other[5] = "{\"seq\":6,\"genes\n";
    CHECK(findings(other) == "changed@6");
    other = lines;
    other.erase(other.begin() + 5);
    CHECK(findings(other) == "missing@6");
}

TEST_CASE("records chain: records of an opener that made no chain come first, and are counted") {
    std::vector<std::string> lines{record(1), record(2)};
    AuditChain chain(hash_of(lines[1]));
    for (const std::string& line : chained(1, 3, chain)) lines.push_back(line);
    const FileChain read_chain = read(lines);
    CHECK(read_chain.findings.empty());
    CHECK(read_chain.unchained == 2);
    CHECK(read_chain.records == 3);
    auto other = lines;
    edit(other[1], "/some/file", "/same/file");
    CHECK(findings(other) == "changed@2");
    const FileChain old = read({record(1), record(2)});
    CHECK(!old.begins);
    CHECK(old.head == hash_of(record(2)));
}

TEST_CASE("records chain: a chain that begins anew behind another shows nothing of what was between") {
    AuditChain one, two;
    auto lines = chained(1, 5, one);
    for (const std::string& line : chained(1, 5, two)) lines.push_back(line);
    CHECK(findings(lines) == "begun-anew@6");
}

TEST_CASE("records chain: whatever is done to a file at random is found") {
    AuditChain chain;
    const auto lines = chained(1, 60, chain);
    const std::vector<RecordHash> published{chain.head()};
    std::mt19937 random(16);
    const auto any = [&](std::size_t below) { return static_cast<std::size_t>(random() % below); };
    unsigned found = 0;
    for (unsigned round = 0; round < 2000; ++round) {
        auto other = lines;
        switch (any(5)) {
            case 0:
                other[any(60)][any(20)] ^= '\x04';
                break;
            case 1:
                other.erase(other.begin() + static_cast<std::ptrdiff_t>(any(60)));
                break;
            case 2: {
                const std::size_t from = any(59);
                std::swap(other[from], other[from + 1 + any(59 - from)]);
                break;
            }
            case 3:
                other.insert(other.begin() + static_cast<std::ptrdiff_t>(any(60)), other[any(60)]);
                break;
            default:
                other.resize(any(60));
        }
        std::map<std::size_t, ChainPlace> seen;
        const FileChain read_chain = read(other, published, &seen);
        const bool starts = read_chain.begins == opener::no_record;
        if (!read_chain.findings.empty() || read_chain.left || !starts || seen.empty()) ++found;
    }
    // A record that was inserted beside itself changes nothing but that it is there twice.
    CHECK(found == 2000);
}
