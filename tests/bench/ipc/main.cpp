// SPDX-License-Identifier: MIT
// Compares the ways in which two processes can exchange a request and an answer: bench-ipc [--json FILE]
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/bench/broker/measure.hpp"
#include "tests/bench/broker/pinning.hpp"
#include "tests/bench/ipc/channels.hpp"
#include "tests/support/files.hpp"

namespace fdbroker::bench {

namespace {

struct IpcOptions {
    unsigned rounds = 100;
    unsigned chunk_microseconds = 1000;
    std::string json{};
};

constexpr std::size_t message_sizes[] = {26, 4096, 65536};  // bytes

nlohmann::json measure(const IpcOptions& options, Answerer answerer, std::size_t size) {
    const test::TempDir directory;
    pin_to(0);
    const auto place = [answerer] { pin_to(answerer == Answerer::same_cpu ? 0 : 1); };
    const std::vector<ChannelKind> kinds = channel_kinds(directory.path());
    std::vector<Variant> variants;
    for (const ChannelKind& kind : kinds) {
        variants.push_back({.call = [channel = std::shared_ptr<Channel>(kind.open(size, place))] {
            channel->round_trip();
        }});
    }
    const Measurement measured =
        interleave(variants, options.rounds, std::chrono::microseconds(options.chunk_microseconds));
    nlohmann::json rows = nlohmann::json::array();
    for (std::size_t i = 0; i < kinds.size(); ++i) {
        rows.push_back({{"mechanism", kinds[i].name},
                        {"cpus", answerer == Answerer::same_cpu ? 1 : 2},
                        {"bytes", size},
                        {"microseconds", measured.median(i) / 1000},
                        {"of_seqpacket", measured.ratio(i, 0)}});
    }
    return rows;
}

void run(const IpcOptions& options) {
    nlohmann::json all = nlohmann::json::array();
    std::vector<Answerer> answerers{Answerer::same_cpu};
    if (::sysconf(_SC_NPROCESSORS_ONLN) > 1) answerers.push_back(Answerer::other_cpu);
    std::printf("%-30s %5s %8s %14s %14s\n", "mechanism", "CPUs", "bytes", "microseconds", "of SEQPACKET's");
    for (const Answerer answerer : answerers) {
        for (const std::size_t size : message_sizes) {
            for (const nlohmann::json& row : measure(options, answerer, size)) {
                std::printf("%-30s %5d %8zu %14.2f %14.2f\n", row["mechanism"].get<std::string>().c_str(),
                            row["cpus"].get<int>(), size, row["microseconds"].get<double>(),
                            row["of_seqpacket"].get<double>());
                all.push_back(row);
            }
            std::fflush(stdout);
        }
    }
    if (!options.json.empty()) std::ofstream(options.json) << nlohmann::json{{"ipc", all}}.dump(1) << '\n';
}

}  // namespace

}  // namespace fdbroker::bench

int main(int argc, char** argv) try {
    fdbroker::bench::IpcOptions options;
    CLI::App app("Measures a round trip by each way in which two processes can exchange messages.");
    app.add_option("--rounds", options.rounds, "rounds in which every way takes its turn")
        ->capture_default_str();
    app.add_option("--chunk", options.chunk_microseconds, "microseconds of one turn")->capture_default_str();
    app.add_option("--json", options.json, "file for the results as JSON");
    CLI11_PARSE(app, argc, argv);
    fdbroker::bench::run(options);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench-ipc: %s\n", error.what());
    return 1;
}
