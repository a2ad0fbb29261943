// SPDX-License-Identifier: MIT
// Answers of the control socket as people read them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "opener/control/line.hpp"

namespace fdbroker::opener {

// Marks what a reader looks for; the plain one marks nothing.
struct TextStyle {
    std::string strong{}, good{}, bad{}, end{};
};

// "file:line:column: what is wrong" of one of an answer's diagnostics; not all have a place.
std::string diagnostic_text(const nlohmann::json& diagnostic, const TextStyle& style = {});

// The subject of a request: its call and, where they say more, the operations that it needs.
std::string asked_text(std::string_view call, std::string_view operations);

// Lines, each ended by a newline. An answer that has `error` is "error: …", with the places below it.
std::string to_text(ControlCommand command, const nlohmann::json& answer, const TextStyle& style = {});

}  // namespace fdbroker::opener
