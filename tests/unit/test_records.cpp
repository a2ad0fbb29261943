// SPDX-License-Identifier: MIT
// Reading the audit log back: bytes, lines, records.
#include <doctest/doctest.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "opener/audit/audit_record.hpp"
#include "opener/records/line_reader.hpp"
#include "opener/records/record.hpp"
#include "opener/records/record_files.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::records;
using namespace fdbroker::test;

namespace {

std::string gzip(const std::string& text) {
    std::string packed(::compressBound(text.size()) + 64, '\0');
    z_stream stream{};
    REQUIRE(::deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    std::string input = text;
    stream.next_in = reinterpret_cast<Bytef*>(input.data());
    stream.avail_in = static_cast<uInt>(input.size());
    stream.next_out = reinterpret_cast<Bytef*>(packed.data());
    stream.avail_out = static_cast<uInt>(packed.size());
    REQUIRE(::deflate(&stream, Z_FINISH) == Z_STREAM_END);
    packed.resize(stream.total_out);
    ::deflateEnd(&stream);
    return packed;
}

std::string zstd(const std::string& text) {
    std::string packed(::ZSTD_compressBound(text.size()), '\0');
    ZSTD_CCtx* const context = ::ZSTD_createCCtx();
    ::ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);  // as zstd(1) does
    packed.resize(::ZSTD_compress2(context, packed.data(), packed.size(), text.data(), text.size()));
    ::ZSTD_freeCCtx(context);
    return packed;
}

struct Fixture {
    TempDir directory{};
    std::string file(const std::string& name, const std::string& bytes) const {
        write_file(directory / name, bytes);
        return directory / name;
    }
    LineReader lines(const std::string& bytes) const {
        auto files = open_record_files({file("lines", bytes)});
        REQUIRE(files);
        auto source = open_byte_source(std::move(files->front().fd), "lines");
        REQUIRE(source);
        return LineReader(std::move(*source));
    }
};

// The text of the file as its lines have it, "|" for each line feed.
proto::Result<std::string> text_of(LineReader reader) {
    std::string text;
    for (;;) {
        const auto line = reader.next();
        if (!line) return std::unexpected(line.error());
        if (!*line) return text;
        text += (*line)->text;
        if ((*line)->ended) text += '|';
    }
}

// With room behind it, as lines of a reader have.
std::string padded(std::string line) {
    line.reserve(line.size() + line_padding);
    return line;
}

std::string line_of(const opener::DecisionRecord& record) {
    std::string line;
    opener::write_line(line, record);
    line.pop_back();
    return padded(std::move(line));
}

}  // namespace

TEST_CASE("records: plain, gzip and zstd files are read alike, also of several members") {
    const auto before = DescriptorTable::now();
    {
        const Fixture fixture;
        std::string many;
        for (unsigned i = 0; i < 200000; ++i) many += "line " + std::to_string(i) + '\n';
        std::string expected = many + "the end\n";
        for (char& byte : expected)
            if (byte == '\n') byte = '|';
        for (const std::string& bytes :
             {many + "the end\n", gzip(many + "the end\n"), gzip(many) + gzip("the ") + gzip("end\n"),
              gzip(many + "the end\n") + std::string(512, '\0'), zstd(many + "the end\n"),
              zstd(many) + zstd("the end\n")}) {
            const auto text = text_of(fixture.lines(bytes));
            REQUIRE(text);
            CHECK(*text == expected);
        }
        CHECK(text_of(fixture.lines("")).value().empty());
        CHECK(text_of(fixture.lines(gzip(""))).value().empty());
        CHECK(text_of(fixture.lines("\n\na")).value() == "||a");
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("records: a compressed file that is cut short or damaged is an error that names it") {
    const Fixture fixture;
    std::string many;
    for (unsigned i = 0; i < 10000; ++i) many += std::to_string(i * i) + '\n';
    for (const std::string& whole : {gzip(many), zstd(many)}) {
        const auto cut = text_of(fixture.lines(whole.substr(0, whole.size() - 5)));
        REQUIRE(!cut);
        CHECK(cut.error().message().find("lines: ") != std::string::npos);
        CHECK(cut.error().message().find("cut short") != std::string::npos);
        std::string damaged = whole;
        for (std::size_t i = whole.size() / 2; i < whole.size() / 2 + 40; ++i) damaged[i] = '\x55';
        CHECK(!text_of(fixture.lines(damaged)));
    }
    CHECK(!text_of(fixture.lines(gzip("a\n") + "something else")));
    const auto xz = open_record_files({fixture.file("log.xz", std::string("\xfd"
                                                                          "7zXZ\0more",
                                                                          10))});
    REQUIRE(xz);
    auto file = open_record_files({fixture.directory / "log.xz"});
    const auto source = open_byte_source(std::move(file->front().fd), "log.xz");
    REQUIRE(!source);
    CHECK(source.error().message().find("neither gzip nor zstd") != std::string::npos);
}

TEST_CASE("records: lines are counted, an unfinished one and one that is too long are told") {
    const Fixture fixture;
    const std::string longest(max_line_length, 'a');
    LineReader reader = fixture.lines("one\n" + longest + "\n" + longest + "bb\nafter\n" + longest + longest +
                                      longest + "\nlast");
    const auto next = [&] {
        const auto line = reader.next();
        REQUIRE(line);
        REQUIRE(*line);
        return **line;
    };
    CHECK(next().text == "one");
    CHECK(next().text == longest);
    const Line too_long = next();
    CHECK(too_long.too_long);
    CHECK(too_long.number == 3);
    CHECK(too_long.text.starts_with("aaa"));
    CHECK(too_long.text.size() < 1000);
    CHECK(next().text == "after");
    CHECK(next().too_long);
    const Line last = next();
    CHECK(last.text == "last");
    CHECK(last.number == 6);
    CHECK(!last.ended);
    CHECK(!reader.next().value());
}

TEST_CASE("records: a record of the opener is read back, byte for byte") {
    std::string path = "/srv/";
    for (int byte = 1; byte < 256; ++byte)
        if (byte != '/') path += static_cast<char>(byte);
    policy::Rule rule;
    rule.name = "\xc3\xa4rger \"quoted\"";
    rule.location = {"/etc/p\xff.yaml", 7, 3};
    const std::string peer = opener::audit_peer({.uid = 33, .gid = 34, .user = "www\xff", .listener = "web"},
                                                4711, std::vector<std::string_view>{"web", "all"});
    const std::string line = line_of({.head = {.sequence = 12, .generation = 3, .policy = "0123456789abcdef"},
                                      .duration = std::chrono::nanoseconds(77),
                                      .session = 5,
                                      .request = 6,
                                      .peer = peer,
                                      .call = proto::Call::rename,
                                      .operations = {policy::Operation::rename, policy::Operation::remove},
                                      .path = path,
                                      .final_path = "/final",
                                      .new_path = "/new",
                                      .rule = &rule,
                                      .errno_value = EACCES,
                                      .step = proto::Step::decide,
                                      .reason = "because of \"this\"",
                                      .count = 9});
    RecordParser parser;
    const Record* const record = parser.parse(line);
    REQUIRE(record != nullptr);
    CHECK(record->sequence == 12);
    CHECK(record->generation == 3);
    CHECK(record->policy == "0123456789abcdef");
    CHECK(record->time == "1970-01-01T00:00:00.000000Z");
    CHECK(record->event == "request");
    CHECK(record->decision == Decision::refused);
    CHECK(record->is_refused_by_policy());
    CHECK(record->session == 5);
    CHECK(record->call == "rename");
    CHECK(record->operations == policy::OperationSet{policy::Operation::rename, policy::Operation::remove});
    CHECK(record->path == path);
    CHECK(record->final_path == "/final");
    CHECK(record->new_path == "/new");
    CHECK(record->rule == rule.name);
    CHECK(record->at == "/etc/p\xff.yaml:7");
    CHECK(record->step == "decide");
    CHECK(record->errno_value == EACCES);
    CHECK(record->reason == "because of \"this\"");
    CHECK(record->count == 9);
    CHECK(record->duration_ns == 77);
    REQUIRE(record->peer != nullptr);
    CHECK(record->peer->listener == "web");
    CHECK(record->peer->uid == 33);
    CHECK(record->peer->gid == 34);
    CHECK(record->peer->user == "www\xff");
    CHECK(record->peer->roles == std::vector<std::string>{"web", "all"});
}

TEST_CASE("records: keys come in any order, unknown ones are passed over, missing ones are told as such") {
    RecordParser parser;
    const std::string line = padded(
        R"( { "path" : "/a\u00ff\"", "x": {"seq": [1, {"path": "/b"}]}, "peer": {"roles": [], "uid": 7, "user": null, )"
        R"("groups": [4, 5]}, "decision": "allowed", "event": "request", "seq": 3, "operation": ["read", "fly"] } )");
    const Record* const record = parser.parse(line);
    REQUIRE(record != nullptr);
    CHECK(record->path == "/a\xff\"");
    CHECK(record->sequence == 3);
    CHECK(record->decision == Decision::allowed);
    CHECK(record->operations == policy::OperationSet{policy::Operation::read});
    CHECK(record->unknown_operation);
    REQUIRE(record->peer != nullptr);
    CHECK(record->peer->uid == 7);
    CHECK(!record->peer->gid);
    CHECK(record->peer->user == "");
    CHECK(!record->peer->group);
    CHECK(record->peer->groups == std::vector<std::uint32_t>{4, 5});
    CHECK(record->peer->listener.empty());

    const Record* const stop = parser.parse(padded(R"({"seq":4,"event":"stop"})"));
    REQUIRE(stop != nullptr);
    CHECK(stop->peer == nullptr);
    CHECK(!stop->is_request());
    CHECK(stop->path.empty());
}

TEST_CASE("records: a peer is the same in all its connections, and another listener's is another") {
    RecordParser parser;
    const auto id = [&](const std::string& pid, const std::string& uid, const std::string& listener) {
        const Record* const record =
            parser.parse(padded(R"({"seq":1,"event":"session-start","listener":")" + listener +
                                R"(","peer":{"pid":)" + pid + R"(,"uid":)" + uid + "}}"));
        REQUIRE(record != nullptr);
        REQUIRE(record->peer != nullptr);
        return record->peer->id;
    };
    const std::uint64_t first = id("1", "7", "web");
    CHECK(id("2", "7", "web") == first);
    CHECK(id("1", "8", "web") != first);
    CHECK(id("1", "7", "job") != first);
    CHECK(id("3", "7", "web") == first);
    for (unsigned uid = 100; uid < 100 + RecordParser::max_peers; ++uid) id("1", std::to_string(uid), "web");
    CHECK(id("3", "7", "web") > first);
}

TEST_CASE("records: lines that are no records are none") {
    RecordParser parser;
    for (const char* line : {"", "{}", "[]", "null", "{\"seq\":1", "{\"seq\":1}", "text", R"({"event":7})",
                             R"({"event":"a"} {)", R"({"seq":"1","event":"a"})", R"({"seq":-1,"event":"a"})",
                             R"({"event":"a","peer":[]})", R"({"event":"a","path":"\ud800"})",
                             "{\"event\":\"\xff\"}", R"({"seq":1,"event":"request","peer":{"uid")"}) {
        CAPTURE(line);
        CHECK(parser.parse(padded(line)) == nullptr);
    }
}

TEST_CASE("records: files are read one after the other, what is no record is counted, a file once") {
    const Fixture fixture;
    const std::string one = fixture.file("one", R"({"seq":1,"event":"start"})"
                                                "\n\nno record\n");
    const std::string two = fixture.file("two", gzip(R"({"seq":2,"event":"a"})"
                                                     "\n"
                                                     R"({"seq":3,"event":"b"})"
                                                     "\n"
                                                     R"({"seq":4,"ev)"));
    std::string seen;
    const auto read = [&](std::vector<std::string> names, Reading after) {
        seen.clear();
        auto files = open_record_files(names);
        REQUIRE(files);
        const auto totals = read_records(std::move(*files), [&](const Record& record) {
            seen += std::to_string(record.sequence) + "@" + std::to_string(record.line) +
                    (record.file == two ? "b " : "a ");
            return after;
        });
        REQUIRE(totals);
        return *totals;
    };
    const ReadTotals totals = read({one, two, std::string(fixture.directory / ".") + "/one"}, Reading::go_on);
    CHECK(seen == "1@1a 2@1b 3@2b ");
    CHECK(totals.records == 3);
    CHECK(totals.malformed == 2);
    CHECK(totals.first_malformed == one + ":3");
    CHECK(read({two, one}, Reading::stop).records == 1);
    CHECK(seen == "2@1b ");
    CHECK(!open_record_files({one, fixture.directory / "absent"}));
    CHECK(open_record_files({fixture.directory / "."}).error().errno_value == EISDIR);
}
