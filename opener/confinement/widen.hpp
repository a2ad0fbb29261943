// SPDX-License-Identifier: MIT
// More directories than can be bound one by one: what they have in common above is bound instead.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "opener/confinement/confinement.hpp"

namespace fdbroker::opener {

// Each bound directory is a mount and a descriptor held, and is looked at a few times a second.
inline constexpr std::size_t max_planned_directories = 4096;

// Brings the plan down to at most `most` directories, deepest first: of directories with the same attributes the one that is
// nearest above them all takes their place and stands for them. Pure; takes time that grows with the bytes of all paths.
void widen(ConfinementPlan& plan, std::size_t most = max_planned_directories);

// By how much a bound directory is wider than the rules: "bound for 10000 directories that rules name, up to 2 levels below
// it"; nullopt: rules name the directory itself.
struct Width {
    std::size_t directories = 0;
    std::size_t levels = 0;
    std::string text() const;
};
std::optional<Width> width_of(const std::string& path, const StandsFor& stands_for);

}  // namespace fdbroker::opener
