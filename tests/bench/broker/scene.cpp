// SPDX-License-Identifier: MIT
#include "tests/bench/broker/scene.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <iterator>

namespace fdbroker::bench {

namespace {

constexpr unsigned directories = 10;

// Ten rules in turn: six name a file, three a subtree behind a wildcard, one a name with a wildcard.
enum class Kind { exact, subtree, name };

Kind kind_of(unsigned rule) {
    const unsigned digit = rule % 10;
    if (digit < 6) return Kind::exact;
    return digit < 9 ? Kind::subtree : Kind::name;
}

unsigned directory_of(unsigned rule) {
    return rule / 10 % directories;
}

void create(const std::string& path) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    test::write_file(path, "content\n");
}

}  // namespace

// On a disk's filesystem: that is where the files of a broker's clients lie.
Scene::Scene() : directory_(test::TempDir::Place::var_tmp) {
    for (unsigned i = 0; i < directories; ++i) {
        std::filesystem::create_directories(directory_ / fmt::format("tree/part{}", i));
    }
}

std::string Scene::pattern(unsigned rule) const {
    const std::string part = fmt::format("{}/tree/part{}", directory_.path().string(), directory_of(rule));
    switch (kind_of(rule)) {
        case Kind::exact:
            return fmt::format("{}/item{}.dat", part, rule);
        case Kind::subtree:
            return fmt::format("{}/*/item{}/**", part, rule);
        case Kind::name:
            break;
    }
    return fmt::format("{}/item{}-*.dat", part, rule);
}

std::string Scene::path(unsigned rule) const {
    const std::string part = fmt::format("{}/tree/part{}", directory_.path().string(), directory_of(rule));
    switch (kind_of(rule)) {
        case Kind::exact:
            return fmt::format("{}/item{}.dat", part, rule);
        case Kind::subtree:
            return fmt::format("{}/a/item{}/b.dat", part, rule);
        case Kind::name:
            break;
    }
    return fmt::format("{}/item{}-a.dat", part, rule);
}

std::vector<std::string> Scene::paths(unsigned rules) const {
    std::vector<std::string> result;
    for (unsigned i = 0; i < files_in_turn; ++i) {
        result.push_back(path(static_cast<unsigned>(std::uint64_t{i} * rules / files_in_turn)));
    }
    return result;
}

std::vector<std::string> Scene::refused_paths() const {
    std::vector<std::string> result;
    for (unsigned i = 0; i < files_in_turn; ++i) {
        result.push_back(
            fmt::format("{}/tree/part{}/other{}.dat", directory_.path().string(), i % directories, i));
    }
    return result;
}

std::string Scene::write_policy(unsigned rules) const {
    for (const std::string& file : paths(rules)) create(file);
    fmt::memory_buffer text;
    const auto out = std::back_inserter(text);
    fmt::format_to(out, "version: 1\nroles:\n  peer: {{users: [nobody]}}\nrules:\n");
    for (unsigned rule = 0; rule < rules; ++rule) {
        fmt::format_to(out, "  - {{name: rule{}, {}allow: [read], paths: [\"{}\"]}}\n", rule,
                       rule % 2 == 0 ? "roles: [peer], " : "", pattern(rule));
    }
    const std::string tree = directory_ / "tree";
    fmt::format_to(out, "  - {{name: keys, deny: all, paths: [\"{0}/**/*.key\", \"{0}/**/.git\"]}}\n", tree);
    const std::string path = directory_ / fmt::format("policy-{}.yaml", rules);
    test::write_file(path, fmt::to_string(text), {.mode = 0600});
    return path;
}

}  // namespace fdbroker::bench
