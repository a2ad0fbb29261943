// SPDX-License-Identifier: MIT
#include "tests/soak/scene.hpp"

#include <fcntl.h>
#include <signal.h>

#include <array>
#include <cerrno>
#include <stdexcept>

#include "proto/payload.hpp"
#include "tests/support/child.hpp"
#include "tests/support/deadline.hpp"
#include "tests/support/wait.hpp"

namespace fdbroker::soak {

using namespace fdbroker::test;
using proto::Call;

namespace {

// As many as one user has connections; one more is turned away.
constexpr std::size_t connections_of_user = 8;
constexpr std::size_t peers_of_user = 4;
constexpr std::array<uid_t, 3> users{0, some_user, other_user};
// Requests of a peer in a wave.
constexpr std::size_t requests_per_message = 12;

}  // namespace

Place::Place() {
    make_directory(data);
    for (const char* name : {"/hanging", "/held", "/made", "/copied"}) make_directory(data + name);
    for (int i = 0; i < 10; ++i) write_file(data + "/file" + std::to_string(i), "content", {.mode = 0600});
    write_file(data + "/copied/file", "content", {.mode = 0600});
}

std::string Place::policy() const {
    const auto below = [this](const char* name) { return "paths: [\"" + data + name + "\"]"; };
    return "version: 1\nrules:\n"
           "  - {name: made, allow: [manage, stat], create: {mode: \"0600\"}, " +
           below("/made/**") + "}\n  - {name: copied, allow: [read], deliver: snapshot, " +
           below("/copied/**") + "}\n  - {name: hanging, allow: [read], deadline: 200ms, " +
           below("/hanging/**") + "}\n  - {name: data, allow: [read, list, stat], " + below("/**") +
           "}\n  - {name: key, deny: all, " + below("/**/*.key") +
           "}\nlimits: {connections: " + std::to_string(connections_of_user) +
           "}\naudit: {max_size: 4MiB, keep: 2}\n";
}

Scene::Scene(Generations generations) : generations_(generations) {
    for (const uid_t user : users) {
        for (TestPeer& peer : peers_of(user, opener_, peers_of_user)) peers_.push_back(std::move(peer));
    }
    watcher_.send("watch --json\n");
}

void Scene::round(std::chrono::steady_clock::time_point until) {
    ++tally_.rounds;
    const bool many = generations_ == Generations::many;
    if (many) reloader_.send("reload --json\n");
    if (tally_.rounds % rounds_per_hang == 0) hang();
    do {
        wave();
        receive_visitors();
        use_control();
    } while (std::chrono::steady_clock::now() < until);
    if (many) {
        if (!nlohmann::json::parse(reloader_.line()).contains("reloaded"))
            throw std::runtime_error("a reload failed");
        ++tally_.reloads;
    }
    if (many && tally_.rounds % rounds_per_crash == 0) crash();
    rest();
}

// ---- requests ------------------------------------------------------------------------------------------

// All ask before any answer is read.
void Scene::wave() {
    for (TestPeer& peer : peers_) ask(peer, next_++);
    for (TestPeer& peer : peers_) take_answers(peer);
}

void Scene::ask(TestPeer& peer, std::uint64_t number) {
    const std::string some_file = place_.data + "/file" + std::to_string(number % 10);
    const std::string made = place_.data + "/made/" + std::to_string(number % 40);
    const std::string other = made + ".other";
    const std::string other_name = other + '\0';
    const std::string hidden = some_file + ".key";
    const std::string malformed = some_file + "//";
    const std::string copied = place_.data + "/copied/file";
    const std::string hanging = place_.data + "/hanging/fine";
    const std::string made_directory = made + ".directory";
    const std::string beginning(8, '\0');  // the beginning of a directory
    std::vector<std::byte> buffer(proto::max_message_size);
    proto::RequestWriter writer(buffer);
    std::uint32_t id = 0;
    std::array<proto::Request, requests_per_message> requests{{
        {.path = some_file},
        {.path = "/etc/shadow"},
        {.path = hidden},
        {.path = malformed},
        {.call = Call::stat, .path = some_file},
        {.call = Call::list, .path = place_.data, .payload = beginning},
        {.path = copied},
        {.path = hanging},
        {.flags = O_WRONLY | O_CREAT, .mode = 0600, .path = made},
        {.call = Call::rename, .path = made, .payload = other_name},
        {.call = Call::remove, .path = other},
        {.call = Call::mkdir, .mode = 0700, .path = made_directory},
    }};
    for (proto::Request& request : requests) {
        request.id = ++id;
        if (!writer.add(request)) throw std::runtime_error("the requests are too long");
    }
    peer.send(writer.message());
}

void Scene::take_answers(TestPeer& peer) {
    for (std::size_t left = requests_per_message; left > 0;) {
        for (const TestPeer::Answer& answer : peer.answers()) {
            --left;
            // By their places in the message.
            const bool needs_helper = answer.id >= 6;
            if (answer.status == 0) {
                ++tally_.done;
                tally_.by_helpers += needs_helper;
            } else if (answer.step == proto::Step::decide || answer.step == proto::Step::parse) {
                ++tally_.refused;
            } else {
                ++tally_.failed;
            }
        }
    }
}

// The deadline passes, and the helper comes back afterwards.
void Scene::hang() {
    TestPeer& peer = peers_.front();
    peer.ask({place_.data + "/hanging/open"});
    filesystem_.wait_for_hanging(1);
    const auto answers = peer.answers();
    if (answers.at(0).status != ETIMEDOUT && answers.at(0).status != EIO)
        throw std::runtime_error("a request that hangs was answered: " + answers.at(0).reason);
    ++tally_.timed_out;
    filesystem_.release();
}

// ---- those who come and go -----------------------------------------------------------------------------

void Scene::receive_visitors() {
    // A visitor asks and does not wait for the answers, another sends garbage, the others say nothing. Some are
    // more than may be.
    std::vector<TestPeer> visitors = peers_of(some_user, opener_, connections_of_user - peers_of_user + 2);
    tally_.visitors += visitors.size();
    visitors[0].ask(std::vector<std::string>(20, place_.data + "/hanging/fine"));
    visitors[1].send(std::vector<std::byte>(100, std::byte{0xff}));
    visitors[1].wait_for_end();
    visitors.back().wait_for_end();
    ++tally_.turned_away;
}

void Scene::use_control() {
    for (const char* command : {"status --json", "connections --grants --json", "metrics --json",
                                "why 1 --json", "echo hello", "nonsense"}) {
        if (asker_.ask(command).empty()) throw std::runtime_error("the control socket has nothing to say");
        ++tally_.commands;
    }
    watcher_.drop_what_came();
}

// ---- the broker ----------------------------------------------------------------------------------------

void Scene::crash() {
    rest();
    const pid_t broker = opener_.broker();
    ::kill(broker, SIGKILL);
    ++tally_.crashes;
    const Deadline deadline = in_good_time();
    while (brokers_of(opener_.process().pid()) == std::vector{broker} ||
           brokers_of(opener_.process().pid()).empty()) {
        if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("no broker follows");
    }
}

// Until whatever has been begun is over.
void Scene::rest() {
    const Deadline deadline = in_good_time();
    for (;;) {
        const auto status = asker_.ask_json("status --json");
        const auto& helpers = status["helpers"];
        if (status["sessions"] == peers_.size() && helpers["stuck"] == 0 && helpers["waiting"] == 0 &&
            helpers["helpers"] <= 4 && brokers_of(opener_.process().pid()).size() == 1)
            return;
        if (std::chrono::steady_clock::now() > deadline)
            throw std::runtime_error("the opener does not come to rest: " + status.dump());
    }
}

Figures Scene::figures() const {
    const pid_t supervisor = opener_.process().pid();
    return figures_of(supervisor, newest_broker(supervisor));
}

}  // namespace fdbroker::soak
