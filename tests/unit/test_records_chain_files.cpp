// SPDX-License-Identifier: MIT
// What the chain of hashes shows of several files.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "opener/audit/audit_chain.hpp"
#include "opener/records/chain_files.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"

using namespace fdbroker;
using namespace fdbroker::records;
using namespace fdbroker::test;
using opener::AuditChain;
using opener::hash_of;
using opener::to_hex;

namespace {

// A log of 30 records in three files, the youngest without a number.
struct Log {
    TempDir directory{};
    std::string oldest = directory / "log.2", middle = directory / "log.1", youngest = directory / "log";
    AuditChain chain{};
    std::uint64_t sequence = 0;
    RecordHash middle_head{};

    Log() {
        write_file(oldest, records(10));
        write_file(middle, records(10));
        middle_head = chain.head();
        write_file(youngest, records(10));
    }

    std::string records(unsigned count) {
        std::string text;
        for (unsigned i = 0; i < count; ++i) {
            ++sequence;
            chain.append(text, R"({"seq":)" + std::to_string(sequence) +
                                   R"(,"generation":1,"time":"2026-11-29T10:00:)" +
                                   std::to_string(10 + sequence) + R"(.000000Z","event":"stop"})" + "\n");
        }
        return text;
    }
};

ChainReport verify(const std::vector<std::string>& names, const std::vector<RecordHash>& published = {}) {
    auto files = open_record_files(names);
    REQUIRE(files);
    auto report = verify_chain(std::move(*files), published, [](const Progress&) {});
    REQUIRE(report);
    return std::move(*report);
}

std::string findings(const ChainReport& report) {
    std::string text;
    for (const ChainFinding& one : report.findings)
        text += (text.empty() ? "" : " ") + std::string(to_string(one.kind)) + "@" +
                one.file.substr(one.file.rfind('/') + 1) + ":" + std::to_string(one.line);
    return text;
}

void write_without(const std::string& file, std::size_t first, std::size_t last) {
    std::string text = read_file(file), left;
    std::size_t number = 0;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = text.find('\n', begin) + 1;
        if (++number < first || number > last) left += text.substr(begin, end - begin);
        begin = end;
    }
    write_file(file, left);
}

}  // namespace

TEST_CASE("records chain: files are put in their order, whatever the order they are given in") {
    const auto before = DescriptorTable::now();
    {
        const Log log;
        for (const auto& names : {std::vector{log.youngest, log.middle, log.oldest},
                                  std::vector{log.oldest, log.middle, log.youngest},
                                  std::vector{log.middle, log.youngest, log.oldest, log.middle}}) {
            const ChainReport report = verify(names);
            CHECK(report.holds());
            CHECK(report.records() == 30);
            REQUIRE(report.files.size() == 3);
            CHECK(report.files[0].file == log.oldest);
            CHECK(report.files[2].file == log.youngest);
            CHECK(report.files[2].head == log.chain.head());
        }
        // Only what is there can be said of some.
        CHECK(verify({log.middle}).holds());
        CHECK(verify({log.youngest, log.middle}).holds());
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("records chain: a file that is missing between others, or was cut, is told") {
    const Log log;
    CHECK(findings(verify({log.oldest, log.youngest})) == "missing@log:1");
    write_without(log.middle, 8, 10);
    CHECK(findings(verify({log.youngest, log.middle, log.oldest})) == "missing@log:1");
    const Log other;
    write_without(other.middle, 1, 2);
    CHECK(findings(verify({other.youngest, other.middle, other.oldest})) == "missing@log.1:1");
    const Log third;
    write_without(third.oldest, 3, 4);
    CHECK(findings(verify({third.youngest, third.middle, third.oldest})) == "missing@log.2:3");
}

TEST_CASE("records chain: records that were cut off the end show where a head was published") {
    const Log log;
    CHECK(verify({log.youngest, log.middle}, {log.chain.head(), log.middle_head}).holds());
    const ChainReport report = verify({log.youngest, log.middle}, {log.middle_head});
    REQUIRE(report.heads.size() == 1);
    CHECK(report.heads[0].file == log.middle);
    CHECK(report.heads[0].place.sequence == 20);
    write_without(log.youngest, 10, 10);
    CHECK(verify({log.youngest, log.middle}).holds());
    const ChainReport cut = verify({log.youngest, log.middle}, {log.chain.head()});
    CHECK(!cut.holds());
    CHECK(cut.findings[0].text.find(to_hex(log.chain.head())) != std::string::npos);
}

TEST_CASE("records chain: a line that a crash cut short may end a file, where the next file knows of it") {
    const Log log;
    const std::string whole = read_file(log.middle);
    const std::size_t last = whole.rfind('\n', whole.size() - 2) + 1;
    write_file(log.middle, whole + "{\"seq\":2\n");
    CHECK(findings(verify({log.middle})) == "cut-short@log.1:11");
    CHECK(findings(verify({log.middle, log.youngest})) == "cut-short@log.1:11");
    AuditChain next(hash_of(whole.substr(last) + "{\"seq\":2\n"));
    std::string text;
    next.append(
        text, "{\"seq\":1,\"generation\":1,\"time\":\"2026-11-29T11:00:00.000000Z\",\"event\":\"start\"}\n");
    write_file(log.youngest, text);
    CHECK(verify({log.youngest, log.middle}).holds());
}

TEST_CASE("records chain: a chain that begins behind another, and a copy of a file, are told apart") {
    Log log;
    write_file(log.directory / "copy", read_file(log.middle));
    CHECK(verify({log.oldest, log.middle, log.directory / "copy", log.youngest}).holds());
    log.chain = AuditChain();
    write_file(log.youngest, log.records(3));
    CHECK(findings(verify({log.youngest, log.middle, log.oldest})) == "begun-anew@log:1");
    CHECK(verify({log.youngest}).holds());
    write_file(log.directory / "empty", "");
    CHECK(verify({log.directory / "empty", log.youngest}).holds());
}
