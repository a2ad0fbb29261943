// SPDX-License-Identifier: MIT
// Compares fdbroker with other ways to open files for a program: bench-peers [--json FILE]. Needs root.
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/bench/broker/barest.hpp"
#include "tests/bench/broker/measure.hpp"
#include "tests/bench/broker/pinning.hpp"
#include "tests/bench/broker/product.hpp"
#include "tests/bench/peers/brokers.hpp"
#include "tests/bench/peers/forked_server.hpp"
#include "tests/bench/peers/landlocked.hpp"
#include "tests/support/files.hpp"

namespace fdbroker::bench {

namespace {

struct PeerOptions {
    unsigned rounds = 100;
    unsigned chunk_microseconds = 2000;
    std::string opener = test::opener_program();
    std::string json{};
};

constexpr unsigned files = 64;
constexpr unsigned rules = 1000;

// Files to open, and a policy of as many rules as there are file names, for any peer.
struct Data {
    test::TempDir directory{test::TempDir::Place::var_tmp};
    std::string tree = (directory / "data").string();
    std::vector<std::string> paths{};

    Data() {
        std::filesystem::create_directory(tree);
        std::string policy = "version: 1\nrules:\n";
        for (unsigned i = 0; i < rules; ++i) {
            const std::string path = tree + "/file-" + std::to_string(i);
            policy +=
                "  - {name: rule-" + std::to_string(i) + ", allow: [read], paths: [\"" + path + "\"]}\n";
            if (i % (rules / files) == 0 && paths.size() < files) {
                test::write_file(path, std::string(4096, 'x'));
                paths.push_back(path);
            }
        }
        test::write_file(directory / "policy.yaml", policy, {.mode = 0600});
    }
};

struct Row {
    std::string name;
    double microseconds;
    double of_barest;
};

// Opens by every peer, each path in turn; the process's own opens first, the barest broker second.
std::vector<Row> measure_opens(const PeerOptions& options, const Data& data, const Peers& peers) {
    const BarestBroker barest;
    const RunningOpener opener(options.opener, data.directory.path(), "plain", data.directory / "policy.yaml",
                               Audit::none);
    const Connection connection(opener.address());
    OpeningChild plain(data.paths, data.tree, Restriction::none);
    OpeningChild landlocked(data.paths, data.tree, Restriction::landlock);

    std::vector<std::string> names;
    std::vector<Variant> variants;
    const auto add = [&](std::string name, std::function<void(const char*)> open) {
        names.push_back(std::move(name));
        variants.push_back({.call = [&data, open = std::move(open), turn = std::size_t{0}]() mutable {
            open(data.paths[turn++ % data.paths.size()].c_str());
        }});
    };
    const auto add_child = [&](std::string name, OpeningChild& child) {
        names.push_back(std::move(name));
        variants.push_back({.opens_per_call = opens_in_child, .call = [&child] { child.run(); }});
    };
    add_child("A: in the process, not confined", plain);
    add("B: the barest broker", [&](const char* path) { (void)barest.open(path); });
    add_child("Landlock in the process", landlocked);
    add("fdbroker, 1,000 rules", [&](const char* path) { connection.open_and_close(path); });
    for (const Peer& peer : peers.there) add(peer.name, peer.open);

    const Measurement measured =
        interleave(variants, options.rounds, std::chrono::microseconds(options.chunk_microseconds));
    std::vector<Row> rows;
    for (std::size_t i = 0; i < names.size(); ++i) {
        rows.push_back({names[i], measured.median(i) / 1000, measured.ratio(i, 1)});
    }
    return rows;
}

void spawn(std::vector<std::string> arguments) {
    if (test::run({.arguments = std::move(arguments)}).status != 0)
        throw std::runtime_error("a program failed");
}

// Starts of a program by itself and in bubblewrap.
std::vector<Row> measure_starts(const PeerOptions& options) {
    const std::vector<std::string> bubblewrap{"bwrap", "--ro-bind", "/", "/", "/bin/true"};
    spawn(bubblewrap);
    const std::vector<Variant> variants{{.call = [] { spawn({"/bin/true"}); }},
                                        {.call = [&] { spawn(bubblewrap); }}};
    const Measurement measured =
        interleave(variants, std::max(10U, options.rounds / 5), std::chrono::milliseconds(5));
    return {{"start of /bin/true", measured.median(0) / 1000, 0},
            {"start of /bin/true in bubblewrap", measured.median(1) / 1000, 0}};
}

void enter_mount_namespace() {
    if (::unshare(CLONE_NEWNS) < 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) {
        fail("a mount namespace");
    }
}

nlohmann::json print(const std::vector<Row>& rows) {
    nlohmann::json all = nlohmann::json::array();
    for (const Row& row : rows) {
        std::printf("%-46s %12.2f us", row.name.c_str(), row.microseconds);
        if (row.of_barest > 0) std::printf(" %10.2f B", row.of_barest);
        std::puts("");
        all.push_back({{"peer", row.name}, {"microseconds", row.microseconds}, {"of_barest", row.of_barest}});
    }
    return all;
}

void run(const PeerOptions& options) {
    enter_mount_namespace();
    const Data data;
    pin_to(0);
    const test::TempDir directory(test::TempDir::Place::var_tmp);
    const Peers peers = start_peers(data.paths, data.tree, directory.path());
    nlohmann::json result{{"peers", print(measure_opens(options, data, peers))}};
    for (const Missing& missing : peers.missing)
        std::printf("%-46s left out: %s\n", missing.name.c_str(), missing.why.c_str());
    try {
        result["starts"] = print(measure_starts(options));
    } catch (const std::exception& error) {
        std::printf("%-46s left out: %s\n", "bubblewrap", error.what());
    }
    if (!options.json.empty()) std::ofstream(options.json) << result.dump(1) << '\n';
}

}  // namespace

}  // namespace fdbroker::bench

int main(int argc, char** argv) try {
    fdbroker::bench::PeerOptions options;
    CLI::App app("Measures fdbroker beside other ways to open files for a program.");
    app.add_option("--rounds", options.rounds, "rounds in which every way takes its turn")
        ->capture_default_str();
    app.add_option("--chunk", options.chunk_microseconds, "microseconds of one turn")->capture_default_str();
    app.add_option("--opener", options.opener, "the opener to measure")->capture_default_str();
    app.add_option("--json", options.json, "file for the results as JSON");
    CLI11_PARSE(app, argc, argv);
    fdbroker::bench::run(options);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench-peers: %s\n", error.what());
    return 1;
}
