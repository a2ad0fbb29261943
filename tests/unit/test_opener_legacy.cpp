// SPDX-License-Identifier: MIT
// What an opener leaves to the next one, in the form in which it travels.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "opener/audit/audit_log.hpp"
#include "opener/link/inflight_log.hpp"
#include "opener/supervisor/connection_table.hpp"
#include "opener/supervisor/legacy.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/files.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;
using namespace fdbroker::test;

namespace {

Legacy some_legacy() {
    return {.last_generation = 7,
            .records = {.next = 100,
                        .generation = 7,
                        .unwritten = std::string("half a\0line\n", 12),
                        .head = hash_of("a record")},
            .next_connection = 12,
            .listeners = {{.socket = 1,
                           .name = "default",
                           .address = "/run/a",
                           .kind = ListenerKind::control,
                           .path = "/run/a",
                           .device = 2,
                           .inode = 3}},
            .connections = {{.socket = 4,
                             .connection_id = 11,
                             .listener = "default",
                             .controls = true,
                             .since = std::chrono::steady_clock::time_point(std::chrono::nanoseconds(-5)),

                             .refused = 7,
                             .control_note = 6}},
            .inflight_logs = {{.generation = 7, .bytes = "log"}},
            .answers = {{.asker = 11, .result = CommandResult::failed}},
            .worker_count = 2,
            .workers = {{.pid = 8, .channel = 9, .connection_id = 10, .starts = 3}},
            .descriptors = {{.name = "fdb.c", .number = 9}}};
}

}  // namespace

TEST_CASE("legacy: all of it arrives as it was") {
    const Legacy sent = some_legacy();
    const auto got = Legacy::unpack(sent.packed());
    REQUIRE(got);
    CHECK(got->packed() == sent.packed());
    CHECK(got->records.unwritten == sent.records.unwritten);
    CHECK(got->records.head == hash_of("a record"));
    REQUIRE(got->listeners.size() == 1);
    CHECK(got->listeners[0].address == "/run/a");
    CHECK(got->listeners[0].kind == ListenerKind::control);
    REQUIRE(got->connections.size() == 1);
    CHECK(got->connections[0].since == sent.connections[0].since);
    CHECK(got->connections[0].controls);
    CHECK(got->connections[0].control_note == 6);
    CHECK(got->connections[0].refused == 7);
    CHECK(got->inflight_logs.at(0).bytes == "log");
    CHECK(got->worker_count == 2);
    CHECK(got->workers.at(0).pid == 8);
    CHECK(got->answers.at(0).asker == 11);
    CHECK(got->answers.at(0).result == CommandResult::failed);
    CHECK(got->descriptors.at(0).number == 9);
}

TEST_CASE("legacy: a message that is cut short, too long or of another form is refused") {
    const std::string whole = some_legacy().packed();
    for (std::size_t size = 0; size < whole.size(); ++size)
        CHECK_FALSE(Legacy::unpack(whole.substr(0, size)));
    CHECK_FALSE(Legacy::unpack(whole + '\0'));
    std::string other = whole;
    other[other.find("legacy 4") + 7] = '1';
    CHECK_FALSE(Legacy::unpack(other));
}

TEST_CASE(
    "legacy: an in-flight log has the same requests in another process, and one of another form is refused") {
    auto log = InflightLog::create();
    REQUIRE(log);
    InflightLog::note(*log->acquire(5), 42);
    log->note_apart(6, 43);
    auto restored = InflightLog::restore(log->bytes());
    REQUIRE(restored);
    CHECK(restored->entries()[0].connection_id == 5);
    CHECK(restored->entries()[0].ids[0] == 42);
    CHECK(restored->slots()[0].connection_id == 6);
    CHECK(restored->slots()[0].id == 43);
    CHECK_FALSE(InflightLog::restore("short"));
}

TEST_CASE("legacy: record numbers go on, and what could not be written is written") {
    const TempDir directory{TempDir::Place::var_tmp};
    Options options;
    options.audit_file = directory / "audit.jsonl";
    AuditLog::Position position;
    {
        auto log = AuditLog::open(options);
        REQUIRE(log);
        log->record("stop", "first");
        position = log->position();
    }
    CHECK(position.next == 2);
    auto log = AuditLog::open(options);
    REQUIRE(log);
    log->continue_from(position);
    log->record("stop", "second");
    REQUIRE(log->finish());
    std::istringstream lines(read_file(directory / "audit.jsonl"));
    std::vector<std::uint64_t> numbers;
    for (std::string line; std::getline(lines, line);) numbers.push_back(nlohmann::json::parse(line)["seq"]);
    CHECK(numbers == std::vector<std::uint64_t>{1, 2});
}

TEST_CASE("legacy: inherited connections keep their connection ids, and new ones get others") {
    ConnectionTable table;
    table.continue_at(12);
    table.inherit(11, {.uid = 3});
    CHECK(table.add({.uid = 3}) == 12);
    CHECK(table.of_uid(3) == 2);
    table.release(11);
    CHECK(table.of_uid(3) == 1);
    CHECK(table.next() == 13);
}

TEST_CASE("legacy: without a service manager nothing is inherited, and no descriptor stays") {
    const auto before = DescriptorTable::now();
    const auto inheritance = take_inheritance();
    REQUIRE(inheritance);
    CHECK_FALSE(inheritance->legacy);
    CHECK(inheritance->sockets.empty());
    CHECK(DescriptorTable::now().changes_since(before) == "");
}
