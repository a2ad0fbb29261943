// SPDX-License-Identifier: MIT
// How this process was started, for one that executes its program anew, or has another do so.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace fdbroker::opener {

inline constexpr std::string_view take_over_option = "--take-over";

struct Invocation {
    std::string program{};                 // by its path, so that it is the new one after an upgrade
    std::vector<std::string> arguments{};  // all of them, the program's name first

    static Invocation of_this_process(int argc, char** argv) {
        std::error_code error;
        return {.program = std::filesystem::read_symlink("/proc/self/exe", error).string(),
                .arguments = {argv, argv + argc}};
    }
    // Another opener is to execute its program, and this process ends then.
    bool has_other_take_over() const {
        const auto own_end = std::ranges::find(arguments, "--");  // a worker's command follows
        return std::find(arguments.begin(), own_end, take_over_option) != own_end;
    }
};

}  // namespace fdbroker::opener
