// SPDX-License-Identifier: MIT
// The audit log of a real opener: full disks and pipes, rotation, the journal, brokers that die or were taken over.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <random>
#include <sstream>

#include "opener/audit/audit_ring.hpp"
#include "tests/integration/served_data.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using nlohmann::json;

namespace {

struct Fixture : ServedFile {
    // An opener whose records go to `destination`, started by a shell with these redirections.
    Process start(const std::string& destination, const std::string& redirections = "",
                  std::map<int, proto::BorrowedFd> descriptors = {}) const {
        write_file(directory / "policy.yaml", policy);
        std::vector<std::string> arguments{"sh", "-c", "exec \"$@\" " + redirections, "sh"};
        std::ranges::move(RunningOpener::arguments(directory, {}), std::back_inserter(arguments));
        arguments.back() = destination;
        Process process = Process::start({.arguments = arguments, .descriptors = std::move(descriptors)});
        wait_for_path(directory / "opener.sock");
        return process;
    }
    std::filesystem::path socket() const { return directory / "opener.sock"; }
};

std::vector<json> parse(const std::string& text) {
    REQUIRE((text.empty() || text.ends_with('\n')));
    std::vector<json> records;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) records.push_back(json::parse(line));
    return records;
}

struct Pipe {
    proto::UniqueFd reader, writer;

    Pipe() {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        reader = proto::UniqueFd(ends[0]);
        writer = proto::UniqueFd(ends[1]);
    }
    // Until it has no room for another byte. Its flags are as before.
    void fill() const {
        REQUIRE(::fcntl(writer.number(), F_SETFL, O_NONBLOCK) == 0);
        const std::string block(4096, '\n');
        while (::write(writer.number(), block.data(), block.size()) > 0) {
        }
        while (::write(writer.number(), block.data(), 1) > 0) {
        }
        REQUIRE(::fcntl(writer.number(), F_SETFL, 0) == 0);
    }
    // The bytes that are there now.
    std::string read() const {
        REQUIRE(::fcntl(reader.number(), F_SETFL, O_NONBLOCK) == 0);
        std::string text, block(65536, '\0');
        for (ssize_t size; (size = ::read(reader.number(), block.data(), block.size())) > 0;)
            text.append(block, 0, static_cast<std::size_t>(size));
        return text;
    }
};

// Asks until a request ends like this.
void ask_until(TestPeer& peer, const std::string& file, int status) {
    const Deadline deadline = in_good_time();
    for (int last = -1; last != status;) {
        REQUIRE(std::chrono::steady_clock::now() < deadline);
        const auto answer = peer.open(file);
        last = answer.status;
        CHECK((last == 0 || last == EIO));
        if (last == EIO) CHECK(answer.step == proto::Step::record);
    }
}

int end(Process& process) {
    process.signal(SIGTERM);
    return process.wait().status;
}

// A new socket of the journal's, in place of the one before.
proto::UniqueFd make_journal_socket() {
    const sockaddr_un address{AF_UNIX, "/run/systemd/journal/socket"};
    ::unlink(address.sun_path);
    proto::UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(socket.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    return socket;
}

// The fields of the next entry, by their names.
std::map<std::string, std::string> receive_entry(const proto::UniqueFd& socket) {
    wait_readable(socket.borrow());
    std::string entry(std::size_t{1} << 20, '\0');
    const ssize_t size = ::recv(socket.number(), entry.data(), entry.size(), 0);
    REQUIRE(size > 0);
    entry.resize(static_cast<std::size_t>(size));
    std::map<std::string, std::string> fields;
    std::istringstream lines(entry);
    for (std::string line; std::getline(lines, line);) {
        const std::size_t end = line.find('=');
        std::string& value = fields[line.substr(0, end)];
        if (end != std::string::npos) {
            value = line.substr(end + 1);
            continue;
        }
        // A value with a line feed: its size in eight bytes, and the value.
        std::uint64_t length = 0;
        lines.read(reinterpret_cast<char*>(&length), sizeof length);
        value.resize(length);
        lines.read(value.data(), static_cast<std::streamsize>(length));
        lines.get();
    }
    return fields;
}

}  // namespace

TEST_CASE("audit: while the disk is full nothing is granted, and what is written is whole and complete") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    make_directory(fixture.directory / "log");
    run_in_mount_namespace([&] {
        const std::string log = fixture.directory / "log";
        REQUIRE(::mount("tmpfs", log.c_str(), "tmpfs", 0, "size=64k") == 0);
        Process opener = fixture.start(log + "/audit.jsonl");
        TestPeer peer(fixture.socket());
        ask_until(peer, fixture.file, EIO);
        // A refusal needs no record to leave.
        CHECK(peer.open("/etc/shadow").status == EACCES);
        CHECK(parse(read_file(log + "/audit.jsonl")).size() > 10);
        REQUIRE(::mount(nullptr, log.c_str(), nullptr, MS_REMOUNT, "size=16m") == 0);
        ask_until(peer, fixture.file, 0);
        CHECK(end(opener) == 0);
        const auto records = parse(read_file(log + "/audit.jsonl"));
        CHECK(unexplained_numbers(records) == "");
        CHECK(records.back()["event"] == "stop");
        REQUIRE(::umount(log.c_str()) == 0);
    });
}

TEST_CASE("audit: with on_failure: allow a full disk stops nothing") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    Fixture fixture;
    fixture.policy += "audit: {on_failure: allow}\n";
    Process opener = fixture.start("/dev/full");
    opener.wait_for_error("audit: on_failure");
    TestPeer peer(fixture.socket());
    for (int i = 0; i < 100; ++i) CHECK(peer.open(fixture.file).status == 0);
    CHECK(end(opener) == 0);
}

TEST_CASE("audit: a standard output that nobody reads holds nobody up, and stops grants until it is read") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const Pipe pipe;
    Process opener = fixture.start("-", ">&3 3>&-", {{3, pipe.writer.borrow()}});
    TestPeer peer(fixture.socket());
    ask_until(peer, fixture.file, EIO);
    // The supervisor goes on as well.
    ::kill(newest_broker(opener.pid()), SIGKILL);
    CHECK(TestPeer(fixture.socket()).open("/etc/shadow").status == EACCES);
    std::string text = pipe.read();
    const Deadline deadline = in_good_time();
    while (peer.open(fixture.file).status != 0) {
        REQUIRE(std::chrono::steady_clock::now() < deadline);
        text += pipe.read();
    }
    opener.signal(SIGTERM);
    while (text.find("\"event\":\"stop\"") == std::string::npos) {
        REQUIRE(std::chrono::steady_clock::now() < deadline);
        text += pipe.read();
    }
    CHECK(opener.wait().status == 0);
    CHECK(unexplained_numbers(parse(text + pipe.read())) == "");
}

TEST_CASE("audit: a standard error that nobody reads holds nobody up") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const Pipe pipe;
    pipe.fill();
    Process opener =
        fixture.start(fixture.directory / "audit.jsonl", "2>&3 3>&-", {{3, pipe.writer.borrow()}});
    TestPeer peer(fixture.socket());
    CHECK(peer.open(fixture.file).status == 0);
    ::kill(newest_broker(opener.pid()), SIGKILL);
    CHECK(peer.open(fixture.file).status == 0);
    // Other holders of the pipe are not affected: the flags are as they were.
    CHECK((::fcntl(pipe.writer.number(), F_GETFL) & O_NONBLOCK) == 0);
    CHECK(end(opener) == 0);
}

TEST_CASE(
    "audit: no number is missing or there twice after rotations, reloads, kills and another opener's "
    "rename") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    Fixture fixture;
    fixture.policy += "audit: {max_size: 64KiB, keep: 40}\n";
    const std::string log = fixture.directory / "audit.jsonl";
    {
        RunningOpener opener(fixture.directory, fixture.policy);
        std::vector<TestPeer> peers;
        for (int i = 0; i < 4; ++i) peers.emplace_back(opener.socket());
        std::minstd_rand random(5);
        for (int round = 0; round < 12; ++round) {
            for (auto i = random() % 120; i > 0; --i) {
                for (TestPeer& peer : peers) peer.ask({fixture.file});
                for (TestPeer& peer : peers) {
                    for (const auto& answer : peer.answers())
                        CHECK((answer.status == 0 || answer.status == EIO));
                }
            }
            if (round % 3 == 0) {
                ::kill(opener.broker(), SIGKILL);
            } else if (round % 3 == 1) {
                opener.process().signal(SIGHUP);
            } else if (round == 5) {
                std::filesystem::rename(log, log + ".renamed");
                opener.process().signal(SIGUSR1);
                wait_for_path(log);
            }
        }
        CHECK(opener.stop() == 0);
    }
    std::vector<json> all;
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(fixture.directory.path())) {
        if (!entry.path().filename().string().starts_with("audit.jsonl")) continue;
        ++files;
        CHECK(entry.file_size() <= 64U << 10);
        std::ranges::copy(parse(read_file(entry.path())), std::back_inserter(all));
    }
    CHECK(files > 3);
    CHECK(unexplained_numbers(all) == "");
}

TEST_CASE(
    "audit: a file that somebody has renamed is not rotated once more, and no older one is lost for it") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    Fixture fixture;
    fixture.policy += "audit: {max_size: 64KiB, keep: 6}\n";
    const std::string log = fixture.directory / "audit.jsonl";
    {
        RunningOpener opener(fixture.directory, fixture.policy);
        TestPeer peer(opener.socket());
        for (int i = 0; i < 250; ++i) CHECK(peer.open(fixture.file).status == 0);
        wait_for_path(log + ".1");
        // A rotation takes the name away before it makes the next file.
        wait_for_path(log);
        std::filesystem::rename(log, log + ".renamed");
        for (int i = 0; i < 250; ++i) CHECK(peer.open(fixture.file).status == 0);
        CHECK(opener.stop() == 0);
    }
    std::vector<json> all;
    for (const char* name : {".2", ".1", ".renamed", ""})
        if (std::filesystem::exists(log + name))
            std::ranges::copy(parse(read_file(log + name)), std::back_inserter(all));
    CHECK(unexplained_numbers(all) == "");
    CHECK(std::filesystem::file_size(log + ".renamed") <= 64U << 10);
}

TEST_CASE("audit: a broker that was taken over can put no other's record into the log") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.file).status == 0);
    spoil_audit_ring(opener.broker());
    CHECK(peer.open("/etc/shadow").status == EACCES);
    const auto records = opener.wait_for_event("start", 2);
    CHECK(unexplained_numbers(records) == "");
    CHECK(std::ranges::any_of(records, [](const json& record) { return record["event"] == "foul"; }));
    CHECK(std::ranges::any_of(records, [](const json& record) { return record["event"] == "crash"; }));
    CHECK(peer.open(fixture.file).status == 0);
}

TEST_CASE(
    "audit: what is granted together is on record one by one, under the numbers that the replies bear") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    const auto granted = peer.call_together({{.path = fixture.file}, {.path = fixture.file}});
    const auto refused = peer.call_together({{.path = fixture.file}, {.path = "/etc/shadow"}});
    auto records = opener.wait_for_event("request", 4);
    std::erase_if(records, [](const json& record) { return record["event"] != "request"; });
    for (std::size_t i = 0; i < 2; ++i) {
        CHECK(granted[i].status == 0);
        CHECK(records[i]["seq"] == granted[i].record);
        CHECK(records[i]["request"] == granted[i].id);
        CHECK(records[i]["decision"] == "allowed");
        CHECK(records[2 + i]["seq"] == refused[i].record);
        CHECK(records[2 + i]["decision"] == "refused");
    }
    CHECK(records[2]["errno"] == ECANCELED);
    CHECK(unexplained_numbers(opener.wait_for_event("request", 4)) == "");
}

TEST_CASE("audit: a policy that does not load is on record, and the log names each policy") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.file).status == 0);
    write_file(opener.policy(), "version: 1\nrules: nonsense\n");
    opener.process().signal(SIGHUP);
    opener.wait_for_event("reload-failed");
    write_file(opener.policy(), fixture.policy + "# changed\n");
    opener.process().signal(SIGHUP);
    opener.wait_for_event("start", 2);
    CHECK(peer.open(fixture.file).status == 0);
    const auto records = opener.wait_for_event("request", 2);
    const Outcome sum = run({.arguments = {"sha256sum", opener.policy()}});
    CHECK(records.back()["policy"] == sum.out.substr(0, 16));
    CHECK(records.front()["policy"] != records.back()["policy"]);
    CHECK(records.front()["event"] == "start");
    const auto start = std::ranges::find_if(
        records, [](const json& record) { return record["event"] == "start" && record["generation"] != 1; });
    REQUIRE(start != records.end());
    CHECK((*start)["policy_sha256"] == sum.out.substr(0, 64));
}

TEST_CASE(
    "audit: where links led stands in the record, with the rule that decided about it, also where that is "
    "refused") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string data = fixture.directory / "data";
    std::filesystem::create_symlink("file", data + "/link");
    std::filesystem::create_symlink("key", data + "/forbidden");
    RunningOpener opener(fixture.directory,
                         "version: 1\nrules:\n  - {name: file, allow: [read], paths: [\"" + data +
                             "/file\"]}\n  - {name: all, allow: [read], symlinks: follow, paths: [\"" + data +
                             "/**\"]}\n  - {name: key, deny: all, paths: [\"" + data + "/key\"]}\n");
    TestPeer peer(opener.socket());
    CHECK(peer.open(data + "/file").status == 0);
    CHECK(peer.open(data + "/link").status == 0);
    CHECK(peer.open(data + "/forbidden").status == EACCES);
    auto records = opener.wait_for_event("request", 3);
    std::erase_if(records, [](const json& record) { return record["event"] != "request"; });
    CHECK(!records[0].contains("final_path"));
    CHECK(records[1]["path"] == data + "/link");
    CHECK(records[1]["final_path"] == data + "/file");
    CHECK(records[2]["final_path"] == data + "/key");
    CHECK(records[2]["decision"] == "refused");
    CHECK(records[1]["rule"] == "file");
    CHECK(records[2]["rule"] == "key");
}

TEST_CASE(
    "audit: a rename is on record with both its names, done or refused, and refusals of others are others") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string data = fixture.directory / "data";
    RunningOpener opener(
        fixture.directory,
        "version: 1\nrules:\n  - {name: all, allow: [manage], paths: [\"" + data + "/**\"]}\n");
    TestPeer peer(opener.socket());
    const auto rename = [&](const std::string& to) {
        const std::string payload = to + '\0';
        return peer.call({.call = proto::Call::rename, .path = data + "/file", .payload = payload}).status;
    };
    CHECK(rename("/etc/file") == EACCES);
    CHECK(rename("/etc/other") == EACCES);
    CHECK(rename(data + "/renamed") == 0);
    auto records = opener.wait_for_event("request", 3);
    std::erase_if(records, [](const json& record) { return record["event"] != "request"; });
    for (const json& record : records) CHECK(record["path"] == data + "/file");
    CHECK(records[0]["new_path"] == "/etc/file");
    CHECK(records[1]["new_path"] == "/etc/other");
    CHECK(records[2]["new_path"] == data + "/renamed");
}

TEST_CASE(
    "audit: every record is an entry of the journal, with its fields, and none is lost while that restarts") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    run_in_mount_namespace([&] {
        REQUIRE(::mount("tmpfs", "/run", "tmpfs", 0, "size=1m") == 0);
        std::filesystem::create_directories("/run/systemd/journal");
        proto::UniqueFd socket = make_journal_socket();
        Process opener = fixture.start("journal");
        TestPeer peer(fixture.socket());
        auto start = receive_entry(socket);
        CHECK(start["FDBROKER_EVENT"] == "start");
        CHECK(start["MESSAGE_ID"] == "ccadb719ca9644569f5061953e4eeb61");
        CHECK(start["PRIORITY"] == "5");
        CHECK(receive_entry(socket)["FDBROKER_EVENT"] == "session-start");
        // A path that looks like a key, and the longest record there is.
        CHECK(peer.open("/\",\"rule\":\"x").status == EACCES);
        auto fields = receive_entry(socket);
        CHECK(fields["SYSLOG_IDENTIFIER"] == "opener");
        CHECK(fields["FDBROKER_SEQ"] == "3");
        CHECK(fields["FDBROKER_DECISION"] == "refused");
        CHECK(fields["FDBROKER_UID"] == "0");
        CHECK(fields["FDBROKER_ERRNO"] == std::to_string(EACCES));
        CHECK(fields["FDBROKER_PATH"] == "/\",\"rule\":\"x");
        CHECK(fields["MESSAGE_ID"] == "59476fa7d95940db91cd5c3105f13142");
        CHECK(fields["PRIORITY"] == "5");
        CHECK(fields.count("FDBROKER_RULE") == 0);
        CHECK(json::parse(fields["MESSAGE"])["path"] == "/\",\"rule\":\"x");
        CHECK(peer.open("/" + std::string(4000, '\x01')).status == EINVAL);
        CHECK(receive_entry(socket)["FDBROKER_PATH"] == "/" + std::string(4000, '\x01'));
        CHECK(peer.open("/two\nlines/\xc3\xa9\\").status == EACCES);
        CHECK(receive_entry(socket)["FDBROKER_PATH"] == "/two\nlines/\xc3\xa9\\");
        CHECK(peer.open(fixture.file).status == 0);
        auto granted = receive_entry(socket);
        CHECK(granted["FDBROKER_RULE"] == "file");
        CHECK(granted["PRIORITY"] == "6");
        socket.reset();
        ask_until(peer, fixture.file, EIO);
        socket = make_journal_socket();
        CHECK(receive_entry(socket)["FDBROKER_SEQ"] == "7");
        ask_until(peer, fixture.file, 0);
        CHECK(end(opener) == 0);
    });
}

TEST_CASE("audit: a file that somebody else could change or replace is refused, with what to do") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    make_directory(fixture.directory / "theirs");
    const std::string log = fixture.directory / "theirs/audit.jsonl";
    const auto refusal = [&] {
        write_file(fixture.directory / "policy.yaml", fixture.policy);
        auto arguments = RunningOpener::arguments(fixture.directory, {});
        arguments.back() = log;
        const auto result = run({.arguments = std::move(arguments)});
        CHECK(result.status == 1);
        return result.err;
    };
    const auto says = [&](const std::string& text, const std::string& what) {
        CAPTURE(text);
        return text.find(what) != std::string::npos;
    };
    const std::string parent = fixture.directory / "theirs";
    REQUIRE(::chown(parent.c_str(), 1234, 0) == 0);
    CHECK(says(refusal(), parent + " belongs to uid 1234, who could change or replace the audit records"));
    CHECK(!std::filesystem::exists(log));
    REQUIRE(::chown(parent.c_str(), 0, 0) == 0);
    REQUIRE(::chmod(parent.c_str(), 0775) == 0);
    CHECK(says(refusal(), "chmod go-w " + parent));
    REQUIRE(::chmod(parent.c_str(), 0755) == 0);
    write_file(log, "");
    REQUIRE(::chown(log.c_str(), 1234, 0) == 0);
    CHECK(says(refusal(), log + " belongs to uid 1234"));
    REQUIRE(::unlink(log.c_str()) == 0);
    REQUIRE(::symlink("elsewhere", log.c_str()) == 0);
    CHECK(says(refusal(), log + " is a symbolic link, not a regular file"));
    CHECK(!std::filesystem::exists(parent + "/elsewhere"));
}

TEST_CASE("audit: a FIFO may be named at the start, and takes the place of a log file at no SIGUSR1") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string log = fixture.directory / "audit.jsonl";
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.file).status == 0);
    opener.wait_for_event("request");
    std::filesystem::rename(log, log + ".old");
    REQUIRE(::mkfifo(log.c_str(), 0600) == 0);
    const proto::UniqueFd reader(::open(log.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    opener.process().signal(SIGUSR1);
    opener.process().wait_for_error("is a FIFO, not a regular file; the old file stays in use");
    CHECK(peer.open(fixture.file).status == 0);
    CHECK(opener.stop() == 0);
    char byte;
    CHECK(::read(reader.number(), &byte, 1) == 0);
    CHECK(read_file(log + ".old").find("\"stop\"") != std::string::npos);
    Process again = fixture.start(log);
    CHECK(TestPeer(fixture.socket()).open(fixture.file).status == 0);
    CHECK(end(again) == 0);
    CHECK(::read(reader.number(), &byte, 1) == 1);
}
