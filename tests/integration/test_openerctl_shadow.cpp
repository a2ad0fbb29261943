// SPDX-License-Identifier: MIT
// `openerctl shadow`, `opener --shadow` and `reload --if-shadow-clean`: a candidate on live traffic.
#include <doctest/doctest.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "tests/integration/opener_support.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using nlohmann::json;

namespace {

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

struct Scene {
    TempDir directory{TempDir::Place::var_tmp};
    std::string control = directory / "control.sock";
    std::string file = directory / "data/a";
    std::string candidate = directory / "candidate.yaml";

    Scene() {
        make_directory(directory / "data");
        write_file(file, "a");
        write_file(candidate, allowing("other"));
    }
    std::string allowing(const std::string& below) const {
        return "version: 1\nrules: [{name: " + below + ", allow: [read], paths: [\"" +
               (directory / below).string() + "/**\"]}]\n";
    }
    Outcome openerctl(std::vector<std::string> arguments) const {
        arguments.insert(arguments.begin(), {openerctl_program(), "--control", control});
        return run({.arguments = std::move(arguments)});
    }
    json report() const { return json::parse(openerctl({"shadow", "--report", "--json"}).out); }
    // A grant and a refusal, both of which the candidate would decide otherwise.
    void ask(const RunningOpener& opener) const {
        TestPeer peer(opener.socket());
        CHECK(peer.open(file).content() == "a");
        CHECK(peer.open(directory / "other/b").status == EACCES);
    }
};

}  // namespace

TEST_CASE("shadow: a candidate changes no answer, and its differences are counted, recorded and told") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Scene scene;
    RunningOpener opener(scene.directory, scene.allowing("data"));
    CHECK(scene.report()["shadow"].is_null());
    CHECK(contains(scene.openerctl({"shadow", "--report"}).out, "no candidate decides"));
    TestPeer early(opener.socket());
    CHECK(early.open(scene.file).status == 0);
    const Outcome started = scene.openerctl({"shadow", scene.candidate});
    CAPTURE(started.err);
    CHECK(started.status == 0);
    CHECK(contains(started.out, scene.candidate + " decides beside the policy"));
    // The connection from before goes on, and counts.
    CHECK(early.open(scene.file).content() == "a");
    scene.ask(opener);
    const json report = scene.report();
    CHECK(report["shadow"] == scene.candidate);
    CHECK(report["decisions"] == 3);
    CHECK(report["would_be_refused"] == 2);
    CHECK(report["would_be_allowed"] == 1);
    REQUIRE(report["groups"].size() == 2);
    CHECK(report["groups"][0]["would_be"] == "refused");
    CHECK(report["groups"][0]["rule"] == "data");
    CHECK(report["groups"][0]["shadow_rule"].is_null());
    CHECK(report["groups"][0]["paths"][0] == json({{"path", scene.file}, {"requests", 2}, {"user", "root"}}));
    CHECK(report["groups"][1]["shadow_rule"] == "other");
    const auto events = opener.wait_for_event("shadow", 3);
    const auto first =
        std::ranges::find(events, "shadow", [](const json& record) { return record["event"]; });
    CHECK((*first)["path"] == scene.file);
    CHECK((*first)["cause"] == "would be refused: no rule allows it; rule \"data\" granted it");
    const std::string metrics = scene.openerctl({"metrics"}).out;
    CHECK(contains(metrics, "fdbroker_shadow 1"));
    CHECK(contains(metrics, "fdbroker_shadow_decisions_total{result=\"would_be_refused\"} 2"));
    CHECK(contains(scene.openerctl({"status"}).out, scene.candidate + " decides beside the policy"));
    CHECK(scene.openerctl({"shadow", "--stop"}).status == 0);
    CHECK(scene.report()["shadow"].is_null());
    scene.ask(opener);
    CHECK(opener.count_events("shadow") == 3);
    CHECK(scene.openerctl({"shadow", "--stop"}).status == 0);
    CHECK(opener.stop() == 0);
}

TEST_CASE("shadow: a candidate that does not load is told, and everything stays as it is") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Scene scene;
    RunningOpener opener(scene.directory, scene.allowing("data"));
    write_file(scene.candidate, "version: 1\nrules: [{name: r, alow: [read], paths: [/x]}]\n");
    const Outcome invalid = scene.openerctl({"shadow", scene.candidate});
    CHECK(invalid.status == 3);
    CHECK(contains(invalid.err, "the candidate is invalid"));
    CHECK(contains(invalid.err, "candidate.yaml:2:"));
    CHECK(scene.openerctl({"shadow", scene.directory / "absent.yaml"}).status == 1);
    CHECK(scene.report()["shadow"].is_null());
    scene.ask(opener);
    CHECK(scene.openerctl({"shadow"}).status == 2);
    CHECK(scene.openerctl({"shadow", scene.candidate, "--stop"}).status == 2);
    CHECK(opener.stop() == 0);
    CHECK(scene.openerctl({"shadow", "--report"}).status == 4);
}

TEST_CASE("shadow: opener --shadow begins with a candidate, which outlives reloads and crashes") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Scene scene;
    RunningOpener opener(scene.directory, scene.allowing("data"), {"--shadow", scene.candidate});
    scene.ask(opener);
    CHECK(scene.report()["would_be_refused"] == 1);
    CHECK(scene.openerctl({"reload"}).status == 0);
    CHECK(scene.report()["shadow"] == scene.candidate);
    ::kill(opener.broker(), SIGKILL);
    opener.wait_for_event("start", 3);
    scene.ask(opener);
    CHECK(scene.report()["would_be_refused"] == 1);
    CHECK(opener.stop() == 0);
    write_file(scene.candidate, "nothing\n");
    RunningOpener other(scene.directory, scene.allowing("data"), {"--shadow", scene.candidate});
    scene.ask(other);
    CHECK(scene.report()["shadow"].is_null());
    CHECK(other.stop() == 0);
}

TEST_CASE(
    "reload --if-shadow-clean: only the candidate is loaded, and only after it made no difference for so "
    "long") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Scene scene;
    RunningOpener opener(scene.directory, scene.allowing("data"));
    const auto reload = [&](const std::string& duration) {
        return scene.openerctl({"reload", "--if-shadow-clean", duration});
    };
    CHECK(contains(reload("0s").err, "no candidate decides"));
    CHECK(scene.openerctl({"shadow", scene.candidate}).status == 0);
    CHECK(contains(reload("0s").err, "is not the candidate"));
    write_file(opener.policy(), scene.allowing("other"));
    CHECK(reload("soon").status == 2);
    const Outcome early = reload("10m");
    CHECK(early.status == 1);
    CHECK(contains(early.err, "has decided beside the policy for"));
    scene.ask(opener);
    CHECK(contains(reload("1d").err, "has made no difference for"));
    CHECK(reload("0s").status == 0);
    TestPeer peer(opener.socket());
    CHECK(peer.open(scene.file).status == EACCES);
    CHECK(opener.stop() == 0);
}
