// SPDX-License-Identifier: MIT
// The program `worker` against a broker that does what the test tells it to.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "proto/address.hpp"
#include "proto/payload.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"
#include "tests/unit/test_client_broker.hpp"
#include "worker/sandbox/sandbox.hpp"

namespace fdbroker::test {
namespace {

using proto::Step;

std::vector<std::string> arguments(std::vector<std::string> more) {
    more.insert(more.begin(), worker_program());
    return more;
}

// `worker` as another user, its connection inherited.
Outcome run_worker(FakeBroker& broker, const std::vector<std::string>& more) {
    const proto::UniqueFd end = broker.take_client_end();
    return run({.arguments = arguments(more),
                .identity = Identity{.uid = some_user, .gid = some_user},
                .environment = {{"FDBROKER_FD", "7"}},
                .descriptors = {{7, end.borrow()}}});
}

Outcome run_alone(const std::vector<std::string>& more, uid_t uid = some_user) {
    return run({.arguments = arguments(more), .identity = Identity{.uid = uid, .gid = uid}});
}

}  // namespace

TEST_CASE("worker: cat prints the files, goes on after a refused one and exits 1") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    const std::string large(1000000, 'x');
    FakeBroker broker(after_hello([&large](BrokerEnd& end) {
        end.reply({{.id = end.receive_requests().at(0).id, .has_descriptor = true}}, {"first\n"});
        const auto refused = end.receive_requests();
        CHECK(refused.at(0).path == "/etc/shadow");
        CHECK(refused.at(0).flags == (O_RDONLY | O_CLOEXEC));
        end.reply({{.id = refused[0].id,
                    .status = EACCES,
                    .step = Step::decide,
                    .record = 4711,
                    .reason = "no rule allows read"}},
                  {""});
        end.reply({{.id = end.receive_requests().at(0).id, .has_descriptor = true}}, {large});
    }));
    const Outcome outcome = run_worker(broker, {"cat", "/a", "/etc/shadow", "/b"});
    CHECK(outcome.status == 1);
    // The strings are too long to be shown.
    CHECK((outcome.out == "first\n" + large));
    CHECK(outcome.err ==
          "worker: /etc/shadow: Permission denied: decide: no rule allows read (record 4711)\n");
    CHECK(broker.trouble() == "");
}

TEST_CASE("worker: cat exits 0 when all went well") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    FakeBroker broker(after_hello([](BrokerEnd& end) { end.grant(end.receive_requests().at(0)); }));
    const Outcome outcome = run_worker(broker, {"cat", "/a"});
    CHECK(outcome.status == 0);
    CHECK(outcome.out == "/a");
    CHECK(outcome.err == "");
}

TEST_CASE("worker: a file that cannot be read is complained about") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    FakeBroker broker(after_hello([](BrokerEnd& end) {
        std::array<std::byte, 64> buffer{};
        proto::ReplyWriter writer(buffer);
        const proto::UniqueFd directory(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        CHECK(writer.add({.id = end.receive_requests().at(0).id, .has_descriptor = true}));
        end.send(writer.message(), {directory.borrow()});
    }));
    const Outcome outcome = run_worker(broker, {"cat", "/"});
    CHECK(outcome.status == 1);
    CHECK(outcome.err == "worker: /: Is a directory\n");
}

TEST_CASE("worker: an opener that goes away, or breaks the protocol, is told and exits 4") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    const auto ending = [](FakeBroker::Script script) {
        FakeBroker broker(std::move(script));
        const Outcome outcome = run_worker(broker, {"cat", "/a", "/b"});
        CHECK(outcome.status == 4);
        return outcome.err;
    };
    CHECK(ending(after_hello([](BrokerEnd& end) { end.receive_requests(); })) ==
          "worker: /a: Connection reset by peer: client: the broker is gone\n");
    CHECK(
        ending(after_hello([](BrokerEnd& end) {
            end.receive_requests();
            end.send_end(ESHUTDOWN, "the opener stops");
        })) ==
        "worker: /a: Connection reset by peer: client: the broker ended the connection: the opener stops\n");
    CHECK(ending(after_hello([](BrokerEnd& end) {
              end.receive_requests();
              end.send(Bytes(9, std::byte{1}));
          })).starts_with("worker: /a: Protocol error: client: "));
    CHECK(ending([](BrokerEnd& end) {
              end.receive();
              end.send_end(EUSERS, "too many connections");
          }) == "worker: fd:7: Too many users\n");
}

TEST_CASE("worker: an opener that is not there, or not root's, exits 4") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    const TempDir directory;
    const std::string path = directory / "socket";
    Outcome outcome = run_alone({"--socket", path, "cat", "/a"});
    CHECK(outcome.status == 4);
    CHECK(outcome.err == "worker: " + path + ": no opener listens there: No such file or directory\n");

    const proto::UniqueFd listening(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const auto name = proto::Address::parse(path)->socket_name();
    REQUIRE(::bind(listening.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) == 0);
    REQUIRE(::chmod(path.c_str(), 0600) == 0);
    outcome = run_alone({"--socket", path, "cat", "/a"});
    CHECK(outcome.status == 4);
    CHECK(outcome.err == "worker: " + path + ": Permission denied\n");
    REQUIRE(::chmod(path.c_str(), 0666) == 0);
    outcome = run_alone({"--socket", path, "cat", "/a"});
    CHECK(outcome.status == 4);
    CHECK(outcome.err == "worker: " + path + ": no opener listens there: Connection refused\n");
    // The listener's owner is who calls listen(2).
    REQUIRE(::setresuid(other_user, other_user, 0) == 0);
    const int listened = ::listen(listening.number(), 1);
    REQUIRE(::setresuid(0, 0, 0) == 0);
    REQUIRE(listened == 0);
    outcome = run_alone({"--socket", path, "cat", "/a"});
    CHECK(outcome.status == 4);
    CHECK(outcome.err ==
          "worker: " + path + ": the listener is not root's; --any-owner takes it all the same\n");
}

TEST_CASE("worker: standard output that nobody reads, or that is closed, exits 1") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    for (const auto& [redirection, error] :
         {std::pair{"| true", "Broken pipe"}, std::pair{">&-", "Bad file descriptor"}}) {
        CAPTURE(redirection);
        const std::string large(1000000, 'x');
        FakeBroker broker(after_hello([&large](BrokerEnd& end) {
            end.reply({{.id = end.receive_requests().at(0).id, .has_descriptor = true}}, {large});
        }));
        const proto::UniqueFd end = broker.take_client_end();
        const Outcome outcome = run({.arguments = {"/bin/bash", "-c",
                                                   "set -o pipefail; " + worker_program() +
                                                       " --socket fd:7 cat /a /b " + redirection},
                                     .identity = Identity{.uid = some_user, .gid = some_user},
                                     .descriptors = {{7, end.borrow()}}});
        CHECK(outcome.status == 1);
        CHECK(outcome.err == std::string("worker: standard output: ") + error + "\n");
    }
}

TEST_CASE("worker: stat tells in a line what a file is, and goes on after a refused one") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    const auto status = proto::status_payload({.links = 2,
                                               .uid = 7,
                                               .gid = 8,
                                               .mode = S_IFDIR | 01751,
                                               .size = 4096,
                                               .modification = {.seconds = 1700000000, .nanoseconds = 0}});
    FakeBroker broker(after_hello([&](BrokerEnd& end) {
        end.refuse(end.receive_requests().at(0), EACCES);
        const auto asked = end.receive_requests().at(0);
        CHECK(asked.call == proto::Call::stat);
        CHECK(asked.flags == AT_SYMLINK_NOFOLLOW);
        end.answer(asked, {status.data(), status.size()});
    }));
    const Outcome outcome = run_worker(broker, {"stat", "--no-follow", "/a", "/d"});
    CHECK(outcome.status == 1);
    CHECK(outcome.out == "drwxr-x--t 2 7 8 4096 2023-11-14T22:13:20Z /d\n");
    CHECK(outcome.err == "worker: /a: Permission denied: decide: Permission denied\n");
    CHECK(broker.trouble() == "");
}

TEST_CASE("worker: list prints the names of a directory, sorted") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    for (const std::string& end_of_line : {std::string("\n"), std::string(1, '\0')}) {
        FakeBroker broker(after_hello([](BrokerEnd& end) {
            proto::DirectoryPageWriter page(1000);
            for (const char* name : {"c", "a", "b"}) CHECK(page.add({.name = name}));
            end.answer(end.receive_requests().at(0), page.payload());
        }));
        const Outcome outcome = end_of_line == "\n" ? run_worker(broker, {"list", "/d"})
                                                    : run_worker(broker, {"list", "--null", "/d"});
        CHECK(outcome.status == 0);
        CHECK(outcome.out == "a" + end_of_line + "b" + end_of_line + "c" + end_of_line);
        CHECK(outcome.err == "");
    }
}

TEST_CASE("worker: put fills a temporary and commits it, or discards what could not be filled") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    const proto::UniqueFd temporary = memory_file("");
    const auto number = proto::number_payload(7);
    const auto put = [&](const proto::UniqueFd& file, proto::Call expected) {
        FakeBroker broker(after_hello([&](BrokerEnd& end) {
            std::array<std::byte, 64> buffer{};
            proto::ReplyWriter writer(buffer);
            CHECK(writer.add({.id = end.receive_requests().at(0).id,
                              .has_descriptor = true,
                              .payload = {number.data(), number.size()}}));
            end.send(writer.message(), {file.borrow()});
            const auto last = end.receive_requests().at(0);
            CHECK(last.call == expected);
            CHECK(last.payload == std::string(number.data(), number.size()));
            end.answer(last);
        }));
        const proto::UniqueFd end = broker.take_client_end();
        const Outcome outcome = run({.arguments = arguments({"put", "--new", "/a"}),
                                     .identity = Identity{.uid = some_user, .gid = some_user},
                                     .environment = {{"FDBROKER_FD", "7"}},
                                     .input = "content",
                                     .descriptors = {{7, end.borrow()}}});
        CHECK(broker.trouble() == "");
        return outcome;
    };
    CHECK(put(temporary, proto::Call::commit).status == 0);
    CHECK(content_of(temporary.number()) == "content");
    const proto::UniqueFd unwritable(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const Outcome outcome = put(unwritable, proto::Call::discard);
    CHECK(outcome.status == 1);
    CHECK(outcome.err == "worker: /a: Bad file descriptor\n");
}

namespace {

// A listener of root's, and a `worker` that has connected to it: its connection.
struct Connected {
    Connected() {
        const auto name = proto::Address::parse(path)->socket_name();
        const proto::UniqueFd listening(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        REQUIRE(::bind(listening.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) == 0);
        REQUIRE(::chmod(path.c_str(), 0666) == 0);
        REQUIRE(::listen(listening.number(), 1) == 0);
        process.emplace(Process::start({.arguments = arguments({"--socket", path, "cat", "/a"}),
                                        .identity = Identity{.uid = some_user, .gid = some_user}}));
        wait_readable(listening.borrow());
        socket = proto::UniqueFd(::accept4(listening.number(), nullptr, nullptr, SOCK_CLOEXEC));
        ucred peer{};
        socklen_t size = sizeof peer;
        REQUIRE(::getsockopt(socket.number(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0);
        CHECK(peer.uid == some_user);
    }
    TempDir directory{};
    std::string path = directory / "socket";
    std::optional<Process> process{};
    proto::UniqueFd socket{};
};

}  // namespace

TEST_CASE("worker: the command works as process 1 of a namespace, and the parent ends with the same status") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    Connected worker;
    BrokerEnd end(std::move(worker.socket));
    end.answer_hello();
    const auto asked = end.receive_requests().at(0);
    const std::string parent = std::to_string(worker.process->pid());
    const std::string child = read_file("/proc/" + parent + "/task/" + parent + "/children");
    FDBROKER_SKIP_UNLESS(!child.empty(), "this process may have no namespaces");
    std::string numbers = read_file("/proc/" + std::to_string(std::stoi(child)) + "/status");
    numbers = numbers.substr(numbers.find("NSpid:"));
    CHECK(numbers.substr(0, numbers.find('\n')).ends_with("\t1"));
    end.refuse(asked, EACCES);
    CHECK(worker.process->wait().status == 1);
}

TEST_CASE("worker: whoever ends its parent ends it") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    Connected worker;
    BrokerEnd end(std::move(worker.socket));
    end.answer_hello();
    end.receive_requests();
    worker.process->signal(SIGTERM);
    CHECK(worker.process->wait().signal == SIGTERM);
    CHECK_THROWS(end.receive());
}

TEST_CASE("worker: sandbox-report shows every layer and every attempt stopped, to whoever asks") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    FDBROKER_SKIP_UNLESS(sanitizer() != "thread", "its own thread does not survive the sandbox");
    for (const uid_t uid : {0u, some_user}) {
        const Outcome outcome = run_alone({"sandbox-report", "--json"}, uid);
        const auto report = nlohmann::json::parse(outcome.out);
        // And the namespace of processes, which is not one of confine()'s.
        REQUIRE(report["layers"].size() == 1 + worker::layer_count);
        CHECK(report["layers"][0]["layer"] == "processes");
        CHECK(report["layers"][0]["detail"] != "");
        for (const auto& layer : report["layers"])
            if (layer["layer"] != "processes" && layer["layer"] != "namespaces" &&
                layer["layer"] != "Landlock")
                CHECK(layer["state"] == "enforced");
        CHECK(report["attempts"].size() > 120);
        for (const auto& attempt : report["attempts"]) {
            CAPTURE(attempt.dump());
            CHECK(attempt["stopped"] == true);
        }
        CHECK(outcome.status == (report["holds"] == true ? 0 : 1));
    }
    const Outcome text = run_alone({"sandbox-report"});
    CHECK(text.out.find("seccomp       enforced") != std::string::npos);
    CHECK(text.out.find("  open a file  ") != std::string::npos);
    CHECK(text.out.find("NOT STOPPED") == std::string::npos);
}

TEST_CASE("worker: wrong usage exits 2, and so does root") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    const std::vector<std::vector<std::string>> wrong{{},
                                                      {"cat"},
                                                      {"dog"},
                                                      {"--sandbox=none", "cat", "/a"},
                                                      {"--socket", "fd:x", "cat", "/a"},
                                                      {"--socket", std::string(200, 's'), "cat", "/a"}};
    for (const auto& arguments : wrong) {
        const Outcome outcome = run_alone(arguments);
        CHECK(outcome.status == 2);
        CHECK(outcome.err.starts_with("worker: "));
    }
    const Outcome as_root = run_alone({"cat", "/a"}, 0);
    CHECK(as_root.status == 2);
    CHECK(as_root.err.find("setpriv --reuid=USER --regid=GROUP --clear-groups worker cat") !=
          std::string::npos);
    const Outcome version = run_alone({"--version"}, 0);
    CHECK(version.status == 0);
    CHECK(version.out == "worker " FDBROKER_VERSION "\n");
    const Outcome help = run_alone({"--help"}, 0);
    CHECK(help.status == 0);
    CHECK(help.out.find("--socket") != std::string::npos);
}

namespace {

Outcome report_on(const std::vector<std::string>& more) {
    std::vector<std::string> all{"sandbox-report", "--json", "--program"};
    all.insert(all.end(), more.begin(), more.end());
    return run({.arguments = arguments(all), .identity = Identity{.uid = some_user, .gid = some_user}});
}

// The entry of a call with that path; null: there is none.
nlohmann::json call_with(const std::string& report, const std::string& path) {
    const auto parsed = nlohmann::json::parse(report);
    for (const auto& call : parsed.at("calls"))
        if (call.at("path").get<std::string>() == path) return call;
    return nullptr;
}

}  // namespace

TEST_CASE(
    "worker: sandbox-report tells which calls of a program would be refused, how often, and what to do") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    const Outcome told = report_on({"sh", "--", "-c", ": < /etc/passwd; : < /etc/passwd; cd /; exec 3>&2"});
    CHECK(told.status == 1);
    const auto report = nlohmann::json::parse(told.out);
    CHECK(report.at("program") == "sh");
    CHECK(report.at("confines_itself") == false);
    const auto opened = call_with(told.out, "/etc/passwd");
    REQUIRE(!opened.is_null());
    CHECK(opened.at("times") == 2);
    CHECK(std::string(opened.at("call")).starts_with("open"));
    CHECK(opened.at("instead") == "look up before");
    CHECK(call_with(told.out, "/").at("instead") == "fdbroker_set_directory()");
    // The loader's.
    CHECK(call_with(told.out, "/etc/ld.so.cache").is_null());
    CHECK_FALSE(told.out.contains("\"write\""));
}

TEST_CASE("worker: sandbox-report follows what a program starts, and passes its ending on to nobody") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root to be somebody else");
    const Outcome told = report_on({"sh", "--", "-c", "(: < /etc/hostname; exit 7); exit 9"});
    CHECK(told.status == 1);
    CHECK(!call_with(told.out, "/etc/hostname").is_null());
    const Outcome none = report_on({"/nonexistent/program"});
    CHECK(none.err.contains("/nonexistent/program: No such file or directory"));
}

}  // namespace fdbroker::test
