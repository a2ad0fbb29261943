// SPDX-License-Identifier: MIT
#include <cap-ng.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "opener/confinement/capability_names.hpp"
#include "opener/confinement/confinement.hpp"
#include "opener/confinement/widen.hpp"

namespace fdbroker::opener {

namespace {

std::string describe_account(const BrokerAccount& account) {
    if (!account.changes) return fmt::format("uid {}, gid {} (whoever starts it)", account.uid, account.gid);
    const std::string name = account.name.empty() ? "no account" : account.name;
    return fmt::format("uid {}, gid {} ({})", account.uid, account.gid, name);
}

std::string describe_directory(const PlannedDirectory& directory) {
    const auto width = width_of(directory.path, directory.stands_for);
    return fmt::format("{}: {}, nosuid{}{}{}", directory.path, directory.writable ? "writable" : "read-only",
                       directory.devices ? "" : ", nodev", directory.executable ? "" : ", noexec",
                       width ? "; wider than the rules: " + width->text() : "");
}

std::string describe_calls(const ModifyingCalls& calls) {
    const struct {
        bool allowed;
        const char* name;
    } table[] = {{calls.truncate, "truncate"},
                 {calls.create, "create"},
                 {calls.give_away, "change owners"},
                 {calls.set_attributes, "change modes and times"},
                 {calls.make_directories, "mkdir"},
                 {calls.remove, "remove"},
                 {calls.rename, "rename"},
                 {calls.symlink, "symlink"},
                 {calls.extended_attributes, "xattr"},
                 {calls.put, "put"}};
    std::string names;
    for (const auto& entry : table) {
        if (entry.allowed) names += (names.empty() ? "" : ", ") + std::string(entry.name);
    }
    return names.empty() ? "those of a reader" : "those of a reader, and its helpers' to " + names;
}

std::string describe_layer(const LayerReport& layer) {
    static constexpr const char* states[] = {"MISSING", "enforced"};
    const std::string state = states[static_cast<std::size_t>(layer.state)];
    return layer.detail.empty() ? state : state + ": " + layer.detail;
}

}  // namespace

std::string_view to_string(Layer layer) noexcept {
    switch (layer) {
        case Layer::own_account:
            return "own account";
        case Layer::capabilities:
            return "capabilities";
        case Layer::private_root:
            return "private root";
        case Layer::landlock:
            return "Landlock";
        case Layer::seccomp:
            return "seccomp";
        case Layer::no_new_privs:
            return "no new privileges";
        case Layer::limits:
            return "limits";
    }
    return "";
}

std::string capability_names(std::uint64_t capabilities) {
    std::string names;
    for (unsigned capability = 0; capability < 64; ++capability) {
        if ((capabilities >> capability & 1) == 0) continue;
        const char* const name = capng_capability_to_name(capability);
        names +=
            (names.empty() ? "" : ", ") + (name == nullptr ? std::to_string(capability) : std::string(name));
    }
    return names;
}

DormantDirectory dormant_directory(const BoundDirectory& directory) {
    std::string why = directory.why;
    if (why.empty())
        why = directory.errno_value == ETIMEDOUT ? "its filesystem does not answer"
                                                 : std::strerror(directory.errno_value);
    return {directory.path, directory.errno_value, std::move(why)};
}

bool ConfinementReport::complete() const noexcept {
    return std::ranges::none_of(layers,
                                [](const LayerReport& layer) { return layer.state == LayerState::missing; });
}

std::string ConfinementReport::missing() const {
    std::string text;
    for (std::size_t layer = 0; layer < layer_count; ++layer) {
        if (layers[layer].state != LayerState::missing) continue;
        text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", to_string(static_cast<Layer>(layer)),
                            layers[layer].detail);
    }
    return text;
}

std::string describe(const ConfinementPlan& plan, const ConfinementReport* report) {
    const std::string capabilities = capability_names(plan.capabilities);
    std::string text = fmt::format("runs as: {}\n", describe_account(plan.account));
    text += fmt::format("capabilities: {}\n", capabilities.empty() ? "none" : capabilities);
    text += fmt::format("system calls: {}\n", describe_calls(plan.calls));
    text += "helpers: confined in the same way; what makes them may also fork and make socket pairs\n";
    if (plan.directories.empty()) text += "directories: none\n";
    for (const PlannedDirectory& directory : plan.directories) {
        text += fmt::format("directory {}\n", describe_directory(directory));
    }
    if (report == nullptr) return text;
    for (std::size_t layer = 0; layer < layer_count; ++layer) {
        text += fmt::format("layer {}: {}\n", to_string(static_cast<Layer>(layer)),
                            describe_layer(report->layers[layer]));
    }
    return text;
}

}  // namespace fdbroker::opener
