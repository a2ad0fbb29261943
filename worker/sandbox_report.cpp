// SPDX-License-Identifier: MIT
#include "worker/sandbox_report.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "worker/sandbox/child.hpp"
#include "worker/sandbox/escapes.hpp"
#include "worker/sandbox/filter.hpp"
#include "worker/sandbox/landlock.hpp"
#include "worker/sandbox/namespaces.hpp"
#include "worker/sandbox/pid_namespace.hpp"
#include "worker/sandbox/sandbox.hpp"

namespace fdbroker::worker {
namespace {

using nlohmann::ordered_json;
using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

// The surroundings of an attempt. False: they could not be entered.
struct Setup {
    const char* name;
    bool (*enter)();
};

bool no_new_privs() {
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

constexpr std::array<Setup, 6> setups{{
    {"unconfined", [] { return true; }},
    {"Landlock",
     [] {
         const auto abi = landlock_abi();
         return abi && no_new_privs() && restrict_by_landlock(*abi, {}, Network::none);
     }},
    {"seccomp", [] { return no_new_privs() && enter_filter(Signals::filter); }},
    {"namespaces", [] { return enter_namespaces().has_value(); }},
    {"processes", [] { return go_on_in_pid_namespace().has_value(); }},
    {"worker", [] { return enter_as_worker().has_value(); }},
}};
constexpr int not_entered = 200;  // above every errno

// "works", the name of an errno or a signal; "-": the setup is not to be had here.
std::string describe(const Ending& ending) {
    if (ending.worked()) return "works";
    if (ending.error == not_entered) return "-";
    const char* name = ending.signal != 0 ? ::sigabbrev_np(ending.signal) : ::strerrorname_np(ending.error);
    if (name == nullptr) return std::to_string(ending.error);
    return ending.signal != 0 ? "SIG" + std::string(name) : name;
}

struct Trial {
    EscapeGroup group;
    const char* what;
    std::array<std::string, setups.size()> endings{};
    bool possible() const { return endings.front() == "works"; }
    bool stopped() const { return endings.back() != "works" && endings.back() != "-"; }
};

Result<Trial> try_escape(EscapeGroup group, const Escape& escape) {
    Trial trial{.group = group, .what = escape.what};
    for (std::size_t index = 0; index < setups.size(); ++index) {
        const auto scene = EscapeScene::make();
        if (!scene) return std::unexpected(scene.error());
        const auto ending = try_in_child([&] {
            if (!setups[index].enter()) return not_entered;
            return errno_of(escape.attempt(*scene));
        });
        if (!ending) return std::unexpected(ending.error());
        trial.endings[index] = describe(*ending);
    }
    return trial;
}

Result<std::vector<Trial>> try_escapes() {
    std::vector<Trial> trials;
    for (std::size_t index = 0; index < escape_group_count; ++index) {
        const auto group = static_cast<EscapeGroup>(index);
        for (const Escape& escape : escapes(group)) {
            auto trial = try_escape(group, escape);
            if (!trial) return std::unexpected(trial.error());
            trials.push_back(std::move(*trial));
        }
    }
    return trials;
}

const char* to_string(LayerState state) {
    switch (state) {
        case LayerState::not_asked:
            return "not asked for";
        case LayerState::enforced:
            return "enforced";
        case LayerState::unavailable:
            return "unavailable";
    }
    return "unknown";
}

// A child confines itself and tells how that went.
Result<ordered_json> layers() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return proto::system_error("pipe");
    const UniqueFd from(ends[0]);
    UniqueFd to(ends[1]);
    const auto ending = try_in_child([&] {
        const auto entered = enter_as_worker({to.borrow()});
        if (!entered) return entered.error().errno_value;
        const bool alone = entered->no_pid_namespace.empty();
        ordered_json told = ordered_json::array();
        told.push_back(
            {{"layer", "processes"},
             {"state", to_string(alone ? LayerState::enforced : LayerState::unavailable)},
             {"detail", alone ? "a namespace in which it sees only itself" : entered->no_pid_namespace}});
        for (const LayerReport& layer : entered->layers)
            told.push_back({{"layer", to_string(layer.layer)},
                            {"state", to_string(layer.state)},
                            {"detail", layer.detail}});
        const std::string text = told.dump();  // shorter than a pipe holds
        return ::write(to.number(), text.data(), text.size()) < 0 ? errno : 0;
    });
    if (!ending) return std::unexpected(ending.error());
    if (!ending->worked()) return proto::system_error("sandbox", describe(*ending), ending->error);
    to.reset();
    std::array<char, 4096> text;
    const ssize_t size = ::read(from.number(), text.data(), text.size());
    if (size < 0) return proto::system_error("read");
    return ordered_json::parse(std::string_view(text.data(), static_cast<std::size_t>(size)));
}

struct Report {
    std::string kernel{};
    ordered_json layers{};
    std::vector<Trial> trials{};

    bool holds() const {
        return std::ranges::all_of(layers, [](const auto& layer) { return layer["state"] == "enforced"; }) &&
               std::ranges::all_of(trials, [](const Trial& trial) { return trial.stopped(); });
    }
};

void print_json(const Report& report) {
    ordered_json attempts = ordered_json::array();
    for (const Trial& trial : report.trials) {
        ordered_json attempt{{"group", to_string(trial.group)}, {"what", trial.what}};
        for (std::size_t index = 0; index < setups.size(); ++index)
            attempt[setups[index].name] = trial.endings[index];
        attempt["stopped"] = trial.stopped();
        attempts.push_back(std::move(attempt));
    }
    const ordered_json all{{"kernel", report.kernel},
                           {"layers", report.layers},
                           {"attempts", std::move(attempts)},
                           {"holds", report.holds()}};
    fmt::print("{}\n", all.dump(2));
}

void print_table(const Report& report) {
    constexpr auto row = "  {:<54}{:<12}{:<10}{:<9}{:<12}{:<11}{}\n";
    fmt::print(row, "", setups[0].name, setups[1].name, setups[2].name, setups[3].name, setups[4].name,
               setups[5].name);
    const EscapeGroup* group = nullptr;
    for (const Trial& trial : report.trials) {
        if (group == nullptr || *group != trial.group) fmt::print("{}\n", to_string(trial.group));
        group = &trial.group;
        const auto& endings = trial.endings;
        fmt::print(row, trial.what, endings[0], endings[1], endings[2], endings[3], endings[4], endings[5]);
    }
}

void print_text(const Report& report) {
    fmt::print("Linux {}\n\nThe sandbox of worker, layer by layer:\n", report.kernel);
    for (const auto& layer : report.layers)
        fmt::print("  {:<14}{:<13}{}\n", layer["layer"].get<std::string>(), layer["state"].get<std::string>(),
                   layer["detail"].get<std::string>());
    fmt::print(
        "\nWhat a process tries that was taken over, how it ends unconfined, behind each of four layers\n"
        "alone, and in the sandbox of worker:\n\n");
    print_table(report);
    const auto stopped = std::ranges::count_if(report.trials, &Trial::stopped);
    const auto possible = std::ranges::count_if(report.trials, &Trial::possible);
    fmt::print("\n{} of {} attempts work unconfined; {} of {} are stopped in the sandbox.\n", possible,
               report.trials.size(), stopped, report.trials.size());
    for (const Trial& trial : report.trials)
        if (!trial.stopped()) fmt::print("NOT STOPPED: {} {}\n", trial.what, to_string(trial.group));
}

Result<Report> make_report() {
    Report report;
    utsname name{};
    ::uname(&name);
    report.kernel = std::string(name.release) + " " + name.machine;
    auto told = layers();
    if (!told) return std::unexpected(told.error());
    report.layers = std::move(*told);
    auto trials = try_escapes();
    if (!trials) return std::unexpected(trials.error());
    report.trials = std::move(*trials);
    return report;
}

}  // namespace

ExitStatus sandbox_report(ReportFormat format) {
    const auto report = make_report();
    if (!report) {
        complain(report.error().message());
        return ExitStatus::failed;
    }
    format == ReportFormat::json ? print_json(*report) : print_text(*report);
    return report->holds() ? ExitStatus::done : ExitStatus::failed;
}

}  // namespace fdbroker::worker
