// SPDX-License-Identifier: MIT
// What peers of several users get from a real opener, and what they cannot do to each other.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "proto/address.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Step;

namespace {

// A directory of root's files that nobody else may open, and rules over them.
struct Fixture {
    TempDir directory{TempDir::Place::var_tmp};
    std::string data = (directory / "data").string();
    std::string policy = fill(R"(version: 1
roles:
  nobodies: {users: [nobody]}
  group7: {groups: ["30007"]}
rules:
  - name: data
    allow: [read]
    paths: ["DATA/**"]
  - name: keys
    deny: all
    paths: ["DATA/**/*.key"]
  - name: hidden
    deny: all
    paths: ["DATA/hidden"]
    reveal: ENOENT
  - {name: for-nobody, roles: [nobodies], allow: [read], paths: ["NOBODY/**"]}
  - {name: for-group, roles: [group7], allow: [read], paths: ["GROUP/**"]}
)");

    Fixture() {
        for (const char* name : {"data", "data/sub", "nobody", "group"}) make_directory(directory / name);
        for (const char* name :
             {"data/secret", "data/sub/deep", "data/tls.key", "data/hidden", "nobody/file", "group/file"}) {
            write_file(directory / name, name, {.mode = 0600, .uid = 0, .gid = 0});
        }
    }

    std::string fill(std::string text) const {
        for (const auto& [word, path] : {std::pair<std::string, std::string>{"DATA", "data"},
                                         {"NOBODY", "nobody"},
                                         {"GROUP", "group"}}) {
            text = replace_all(std::move(text), word, (directory / path).string());
        }
        return text;
    }
};

}  // namespace

TEST_CASE("opener: a user gets a file that only root may open, for reading and nothing else") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    run_as(some_user, [&] {
        CHECK(::open((fixture.data + "/secret").c_str(), O_RDONLY | O_CLOEXEC) < 0);
        TestPeer peer(opener.socket());
        const auto answer = peer.open(fixture.data + "/secret");
        REQUIRE(answer.status == 0);
        CHECK(answer.content() == "data/secret");
        CHECK((::fcntl(answer.fd.number(), F_GETFL) & O_ACCMODE) == O_RDONLY);
        CHECK((::fcntl(answer.fd.number(), F_GETFL) & O_NONBLOCK) == 0);
        CHECK((::fcntl(answer.fd.number(), F_GETFD) & FD_CLOEXEC) != 0);
        CHECK(::write(answer.fd.number(), "x", 1) < 0);
        const auto nonblocking = peer.open(fixture.data + "/secret", O_NONBLOCK);
        CHECK((::fcntl(nonblocking.fd.number(), F_GETFL) & O_NONBLOCK) != 0);
    });
    CHECK(opener.stop() == 0);
}

TEST_CASE(
    "opener: every refusal names its step, and a file that is hidden looks like one that is not there") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    const auto expect = [&](const std::string& path, int status, Step step, const std::string& reason,
                            std::uint32_t flags = 0) {
        CAPTURE(path);
        const auto answer = peer.open(path, flags);
        CHECK(answer.status == status);
        CHECK(answer.step == step);
        CHECK(answer.reason == reason);
        CHECK(answer.record != 0);
        return answer.reason;
    };
    expect("/etc/shadow", EACCES, Step::decide, "no rule allows read");
    expect(fixture.data + "s/secret", EACCES, Step::decide, "no rule allows read");
    expect(fixture.data.substr(0, fixture.data.size() - 1), EACCES, Step::decide, "no rule allows read");
    expect(fixture.data + "/tls.key", EACCES, Step::decide, "rule \"keys\" denies it");
    expect(fixture.data + "/not-there.key", EACCES, Step::decide, "rule \"keys\" denies it");
    expect(fixture.data + "/secret", EACCES, Step::decide, "no rule allows write", O_WRONLY);
    expect(fixture.data + "/not-there", ENOENT, Step::resolve, "it does not exist");
    expect(fixture.data + "/hidden", ENOENT, Step::resolve, "it does not exist");
    expect("relative", EINVAL, Step::parse, "the path is relative");
    expect(fixture.data + "/../secret", EINVAL, Step::parse, peer.open(fixture.data + "/./secret").reason);
    expect(fixture.data + "/secret", EINVAL, Step::parse, "access mode 3 is not a mode", O_ACCMODE);
    expect(fixture.data + "/secret", EINVAL, Step::parse, "O_TRUNC without write access", O_TRUNC);

    // The log tells the truth about the hidden one.
    const auto records = opener.wait_for_event("request", 13);
    const auto hidden = std::ranges::find_if(
        records, [&](const auto& r) { return r.value("path", "").ends_with("/hidden"); });
    REQUIRE(hidden != records.end());
    CHECK((*hidden)["rule"] == "hidden");
    CHECK((*hidden)["step"] == "decide");
}

TEST_CASE("opener: only regular files are delivered, and no link on the way is followed") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const auto in_data = [&](const char* name) { return fixture.data + "/" + name; };
    REQUIRE(::mkfifo(in_data("fifo").c_str(), 0600) == 0);
    REQUIRE(::mknod(in_data("device").c_str(), S_IFCHR | 0600, makedev(1, 5)) == 0);
    REQUIRE(::symlink("/etc/shadow", in_data("link").c_str()) == 0);
    REQUIRE(::symlink("secret", in_data("inside").c_str()) == 0);
    REQUIRE(::symlink("/etc", in_data("directory").c_str()) == 0);
    const auto name = proto::Address::parse(in_data("socket"))->socket_name();
    const proto::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(socket.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) == 0);

    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(in_data("fifo")).status == EACCES);
    CHECK(peer.open(in_data("fifo")).step == Step::inspect);
    CHECK(peer.open(in_data("sub")).status == EISDIR);
    CHECK(peer.open(in_data("device")).status == EACCES);
    CHECK(peer.open(in_data("socket")).status == ENXIO);
    for (const char* link : {"link", "inside", "directory/shadow"}) {
        const auto answer = peer.open(in_data(link));
        CHECK(answer.status == ELOOP);
        const std::string named = std::string(link).substr(0, std::string(link).find('/'));
        CHECK(answer.reason == "\"" + in_data(named.c_str()) + "\" is a symbolic link");
    }
    CHECK(peer.open(in_data("secret/x")).status == ENOTDIR);
}

TEST_CASE("opener: a file with another link is refused where users may make links to it") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    // The rule's directory belongs to a user, who could have linked anything of theirs into it.
    REQUIRE(::chown(fixture.data.c_str(), some_user, some_user) == 0);
    REQUIRE(::link((fixture.data + "/secret").c_str(), (fixture.data + "/second").c_str()) == 0);
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(fixture.data + "/secret").status == EACCES);
    CHECK(peer.open(fixture.data + "/second").step == Step::inspect);
    CHECK(peer.open(fixture.data + "/sub/deep").status == 0);
}

TEST_CASE(
    "opener: a message of 253 requests is answered for each, with all its descriptors, on both sides' tables "
    "nothing stays") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    const auto supervisor_before = DescriptorTable::of(opener.process().pid());
    const auto broker_before = DescriptorTable::of(opener.broker());
    const auto mine_before = DescriptorTable::now();
    {
        TestPeer peer(opener.socket());
        std::vector<std::string> paths;
        for (std::size_t i = 0; i < proto::max_requests; ++i) {
            paths.push_back(i % 3 == 0 ? "/etc/shadow"
                                       : fixture.data + (i % 3 == 1 ? "/secret" : "/sub/deep"));
        }
        peer.ask(paths);
        std::vector<TestPeer::Answer> answers;
        while (answers.size() < paths.size()) std::ranges::move(peer.answers(), std::back_inserter(answers));
        for (std::size_t i = 0; i < paths.size(); ++i) {
            CHECK(answers[i].id == i + 1);
            CHECK(answers[i].status == (i % 3 == 0 ? EACCES : 0));
            if (i % 3 != 0) CHECK(answers[i].content() == (i % 3 == 1 ? "data/secret" : "data/sub/deep"));
        }
    }
    opener.wait_for_event("session-end");
    CHECK(DescriptorTable::now().changes_since(mine_before) == "");
    CHECK(DescriptorTable::of(opener.broker()).changes_since(broker_before) == "");
    CHECK(opener.stop() == 0);
    // The supervisor drops the duplicate right after the session; at the supervisor's end it is gone.
    CHECK(supervisor_before.count() > 0);
}

TEST_CASE("opener: roles tell users and groups apart") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    const std::string of_nobody = fixture.directory / "nobody/file",
                      of_group = fixture.directory / "group/file";
    const struct {
        Identity identity;
        bool nobody, group;
    } cases[] = {
        {{.uid = nobody, .gid = nobody}, true, false},
        {{.uid = some_user, .gid = some_user}, false, false},
        {{.uid = some_user, .gid = 30007}, false, true},
        {{.uid = some_user, .gid = some_user, .groups = {4, 30007}}, false, true},
        {{.uid = other_user, .gid = nobody}, false, false},
        {{.uid = nobody, .gid = nobody, .groups = {30007}}, true, true},
    };
    for (const auto& one : cases) {
        run_as(one.identity, [&] {
            TestPeer peer(opener.socket());
            CHECK((peer.open(of_nobody).status == 0) == one.nobody);
            CHECK((peer.open(of_group).status == 0) == one.group);
        });
    }
    const auto records = opener.wait_for_event("session-end", std::size(cases));
    CHECK(std::ranges::any_of(
        records, [](const auto& r) { return r.contains("peer") && r["peer"]["user"] == "nobody"; }));
}

TEST_CASE("opener: a peer that breaks the protocol is told so and ends alone") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    const auto broker_before = DescriptorTable::of(opener.broker());
    std::size_t ended = 0;
    {
        TestPeer good(opener.socket());
        const std::string garbage[] = {
            "x",
            std::string(8, '\0'),
            std::string(65536, '\xff'),
            std::string("\x01\x04\x01\x00\x00\x00\xff\xff", 8),   // replies
            std::string("\x02\x01\x00\x00\x00\x00\xff\xff", 8),   // version 2
            std::string("\x01\x03\xfd\x00\x00\x00\xff\xff", 8)};  // 253 requests, none there
        for (const std::string& message : garbage) {
            TestPeer bad(opener.socket());
            bad.send(std::as_bytes(std::span(message)));
            CHECK(bad.wait_for_end() != "");
            CHECK(good.open(fixture.data + "/secret").status == 0);
            ++ended;
        }
        // Descriptors that a peer sends never arrive (SO_PASSRIGHTS), or end its session.
        TestPeer sender(opener.socket());
        std::array<std::byte, 64> hello;
        const std::size_t size = proto::write_hello(hello);
        const proto::BorrowedFd mine(STDIN_FILENO);
        auto sent = proto::send(sender.socket(), std::span(hello).first(size), std::span(&mine, 1),
                                proto::Wait::block);
        if (sent) sender.wait_for_end();
        CHECK(good.open(fixture.data + "/secret").status == 0);
        ended += 2;
    }
    opener.wait_for_event("session-end", ended);
    CHECK(DescriptorTable::of(opener.broker()).changes_since(broker_before) == "");
}

TEST_CASE("opener: a hello tells the versions, the limits and the calls") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy);
    TestPeer peer(opener.socket());
    std::array<std::byte, 64> hello;
    peer.send(std::span(hello).first(proto::write_hello(hello)));
    std::array<std::byte, 256> buffer;
    auto message = proto::receive(peer.socket(), buffer, proto::Wait::block);
    REQUIRE(message);
    const auto reply = proto::read_hello_reply(*message);
    REQUIRE(reply);
    CHECK(reply->newest_version == proto::protocol_version);
    CHECK(reply->max_requests_per_message == proto::max_requests);
    CHECK(reply->calls == (std::uint64_t{1} << proto::call_count) - 1);
}

TEST_CASE("opener: a user has as many connections as the policy says, and others theirs all the same") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy + "limits: {connections: 3}\n");
    std::vector<TestPeer> peers;
    for (int i = 0; i < 3; ++i) {
        peers.emplace_back(opener.socket());
        CHECK(peers.back().open(fixture.data + "/secret").status == 0);
    }
    CHECK(TestPeer(opener.socket()).wait_for_end().find("as many connections") != std::string::npos);
    run_as(some_user, [&] { CHECK(TestPeer(opener.socket()).open(fixture.data + "/secret").status == 0); });
    peers.pop_back();
    opener.wait_for_event("session-end", 2);
    CHECK(TestPeer(opener.socket()).open(fixture.data + "/secret").status == 0);
}

TEST_CASE("opener: peers that do not read neither stop the others nor hold descriptors without end") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory, fixture.policy + "limits: {connections: 200}\n");
    const std::vector<std::string> batch(proto::max_requests, fixture.data + "/secret");
    std::vector<TestPeer> mute;
    TestPeer good(opener.socket());
    // More than there are places for replies that wait, each until its own socket takes no more.
    for (int i = 0; i < 80; ++i) {
        REQUIRE(::seteuid(some_user) == 0);
        mute.emplace_back(opener.socket());
        REQUIRE(::seteuid(0) == 0);
        for (int messages = 0; messages < 64 && mute.back().ask(batch, 0, proto::Wait::never); ++messages) {
        }
        CHECK(good.open(fixture.data + "/secret").status == 0);
    }
    CHECK(DescriptorTable::of(opener.broker()).count() < 20'000);
    const auto broker_before = opener.broker();
    mute.clear();
    opener.wait_for_event("session-end", 80);
    CHECK(good.open(fixture.data + "/secret").status == 0);
    CHECK(opener.broker() == broker_before);
}

TEST_CASE("opener: a grant that cannot be recorded is refused, and served again when it can be") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace(), "needs root and mount namespaces");
    const Fixture fixture;
    run_in_mount_namespace([&] {
        make_directory(fixture.directory / "log");
        REQUIRE(::mount("tmpfs", (fixture.directory / "log").c_str(), "tmpfs", 0, "size=64k") == 0);
        write_file(fixture.directory / "policy.yaml", fixture.policy);
        Process process = Process::start(
            {.arguments = {opener_program(), "--control", "none", "--policy",
                           fixture.directory / "policy.yaml", "--listen", fixture.directory / "opener.sock",
                           "--audit", fixture.directory / "log/audit.jsonl"}});
        process.wait_for_error("serving");
        TestPeer peer(fixture.directory / "opener.sock");
        TestPeer::Answer answer;
        for (int i = 0; i < 100'000 && answer.status == 0; ++i) answer = peer.open(fixture.data + "/secret");
        CHECK(answer.status == EIO);
        CHECK(answer.step == Step::record);
        process.wait_for_error("No space left");
        // A request that is refused anyway keeps that reason.
        CHECK(peer.open("/etc/shadow").status == EACCES);

        REQUIRE(::mount("", (fixture.directory / "log").c_str(), "", MS_REMOUNT, "size=1m") == 0);
        const Deadline deadline = in_good_time();
        do {
            answer = peer.open(fixture.data + "/secret");
        } while (answer.status == EIO && std::chrono::steady_clock::now() < deadline);
        CHECK(answer.status == 0);
        process.signal(SIGTERM);
        CHECK(process.wait().status == 0);
        // Every number is there, once and in order.
        std::uint64_t expected = 1;
        const std::string log = read_file(fixture.directory / "log/audit.jsonl");
        for (std::size_t start = 0, end; (end = log.find('\n', start)) != std::string::npos;
             start = end + 1) {
            REQUIRE(nlohmann::json::parse(log.substr(start, end - start))["seq"] == expected++);
        }
    });
}
