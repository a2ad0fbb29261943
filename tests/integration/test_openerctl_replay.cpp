// SPDX-License-Identifier: MIT
// `openerctl policy replay` on what a real opener has recorded.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/integration/opener_support.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using nlohmann::json;

namespace {

Outcome openerctl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), openerctl_program());
    return run({.arguments = std::move(arguments)});
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

// The log of an opener that delivered a file twice, found another missing, and refused a third.
struct Recorded {
    TempDir directory{TempDir::Place::var_tmp};
    std::string file = directory / "audit.jsonl";

    Recorded() {
        make_directory(directory / "data");
        write_file(directory / "data/a", "a");
        RunningOpener opener(directory, policy("[read]", "data"));
        TestPeer peer(opener.socket());
        CHECK(peer.open(directory / "data/a").status == 0);
        CHECK(peer.open(directory / "data/a").status == 0);
        CHECK(peer.open(directory / "data/absent").status == ENOENT);
        CHECK(peer.open(directory / "other/b").status == EACCES);
        CHECK(opener.stop() == 0);
    }
    std::string policy(const std::string& operations, const std::string& below) const {
        return "version: 1\nrules: [{name: " + below + ", allow: " + operations + ", paths: [\"" +
               (directory / below).string() + "/**\"]}]\n";
    }
    std::string written(const std::string& name, const std::string& text) const {
        write_file(directory / name, text);
        return directory / name;
    }
    json replay(std::vector<std::string> arguments, int status) const {
        arguments.insert(arguments.begin(), {"policy", "replay", "--json"});
        const Outcome outcome = openerctl(arguments);
        CAPTURE(outcome.err);
        CHECK(outcome.status == status);
        return json::parse(outcome.out);
    }
};

}  // namespace

TEST_CASE("policy replay: the policy that decided flips nothing, another one what it decides otherwise") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Recorded log;
    const json same = log.replay({log.file, log.written("same.yaml", log.policy("[read, stat]", "data"))}, 0);
    CHECK(same["decisions"] == 4);
    CHECK(same["flips"] == 0);
    CHECK(same["groups"].empty());

    const std::string other = log.written("other.yaml", log.policy("[read]", "other"));
    const json flipped = log.replay({log.file, other}, 1);
    CHECK(flipped["flips"] == 4);
    REQUIRE(flipped["groups"].size() == 2);
    const json& refused = flipped["groups"][0];
    CHECK(refused["flip"] == "refused");
    CHECK(refused["rule_before"] == "data");
    CHECK(refused["rule_after"].is_null());
    CHECK(refused["requests"] == 3);
    CHECK(refused["paths"][0]["path"] == (log.directory / "data/a").string());
    CHECK(refused["paths"][0]["requests"] == 2);
    CHECK(refused["paths"][0]["operations"] == "open read");
    CHECK(contains(refused["paths"][0]["first"].get<std::string>(), log.file + ":"));
    CHECK(flipped["groups"][1]["flip"] == "allowed");
    CHECK(flipped["groups"][1]["rule_after"] == "other");

    const Outcome text = openerctl({"policy", "replay", log.file, other});
    CHECK(text.status == 1);
    CHECK(contains(text.out, "would be refused: 3 requests\n"));
    CHECK(contains(text.out, "would be allowed: 1 request\n"));
    CHECK(contains(text.out, "4 of 4 decisions would flip"));
}

TEST_CASE(
    "policy replay: compressed and rotated files and standard input are read, a policy that is none is "
    "told") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Recorded log;
    const std::string other = log.written("other.yaml", log.policy("[read]", "other"));
    write_file(log.file + ".2", read_file(log.file));
    if (run({.arguments = {"gzip", log.file + ".2"}}).status != 0)
        write_file(log.file + ".2.gz", read_file(log.file));
    std::filesystem::remove(log.file + ".2");
    CHECK(log.replay({log.file + ".2.gz", log.file, other}, 1)["flips"] == 8);
    CHECK(log.replay({"--rotated", log.file, other}, 1)["flips"] == 8);
    const Outcome piped = run({.arguments = {openerctl_program(), "policy", "replay", "--json", "-", other},
                               .input = read_file(log.file)});
    CHECK(json::parse(piped.out)["flips"] == 4);

    CHECK(openerctl({"policy", "replay", log.file}).status == 2);
    CHECK(openerctl({"policy", "replay", "-", "-"}).status == 2);
    CHECK(openerctl({"policy", "replay", log.file, log.written("bad.yaml", "version: 1\nrules: [{}]\n")})
              .status == 3);
    CHECK(openerctl({"policy", "replay", log.file, log.directory / "absent.yaml"}).status == 1);
    CHECK(openerctl({"policy", "replay", log.directory / "absent", other}).status == 1);
    write_file(log.file, "no record\n");
    const json none = log.replay({log.file, other}, 0);
    CHECK(none["malformed"] == 1);
    CHECK(none["first_malformed"] == log.file + ":1");
}
