// SPDX-License-Identifier: MIT
#include "policy/advice/generalise.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "policy/advice/edit.hpp"

namespace fdbroker::policy {
namespace {

constexpr std::size_t least_users = 2;
constexpr std::size_t least_files = 3;
constexpr std::size_t least_below = 4;
// `/srv/app/**`, but not `/srv/**`.
constexpr std::size_t least_depth = 2;

using Rules = std::vector<SuggestedRule>;
using Accept = std::function<bool(GeneralisedRules&)>;

std::string directory_of(const std::string& path) {
    return path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
}

std::size_t depth_of(const std::string& path) {
    return path == "/" ? 0 : static_cast<std::size_t>(std::ranges::count(path, '/'));
}

void join(SuggestedPath& into, const SuggestedPath& path) {
    into.requests += path.requests;
    into.paths.insert(into.paths.end(), path.paths.begin(), path.paths.end());
}

// ---- ${user} ----------------------------------------------------------------------------------------------

// The pattern with the user's own name, where that is a whole component, as the variable; empty: it is in none.
std::string with_variable(const std::string& pattern, const SuggestedPeer& peer) {
    if (peer.user.empty()) return {};
    const std::string own = pattern_of("/" + peer.user);
    std::string result = pattern;
    bool found = false;
    for (std::size_t at = 0; (at = result.find(own, at)) != std::string::npos;) {
        const std::size_t end = at + own.size();
        if (end == result.size() || result[end] == '/') {
            result.replace(at, own.size(), "/${user}");
            found = true;
        }
        at += own.size();
    }
    return found ? result : std::string();
}

struct UserForm {
    std::uint16_t operations = 0;
    std::string socket{};
    std::string pattern{};
    auto operator<=>(const UserForm&) const = default;
};
struct UserPath {
    std::size_t rule = 0;
    std::size_t path = 0;
};

// The paths that become one pattern with ${user}: of rules for one peer each.
std::map<UserForm, std::vector<UserPath>> forms_of(const Rules& rules) {
    std::map<UserForm, std::vector<UserPath>> forms;
    for (std::size_t rule = 0; rule < rules.size(); ++rule) {
        if (rules[rule].peers.size() != 1 || rules[rule].denies) continue;
        const SuggestedPeer& peer = rules[rule].peers.front();
        for (std::size_t path = 0; path < rules[rule].paths.size(); ++path) {
            std::string form = with_variable(rules[rule].paths[path].pattern, peer);
            if (!form.empty())
                forms[{rules[rule].operations.bits(), peer.socket, std::move(form)}].push_back({rule, path});
        }
    }
    return forms;
}

GeneralisedRules join_users(const Rules& rules, const UserForm& form, const std::vector<UserPath>& paths) {
    GeneralisedRules step{.rules = rules, .to = form.pattern};
    SuggestedRule joined{.operations = OperationSet::from_bits(form.operations),
                         .paths = {{.pattern = form.pattern}}};
    for (const UserPath& one : paths) {
        const SuggestedRule& rule = rules[one.rule];
        joined.peers.push_back(rule.peers.front());
        join(joined.paths.front(), rule.paths[one.path]);
        step.from.push_back(rule.paths[one.path].pattern);
        std::erase_if(step.rules[one.rule].paths, [&](const SuggestedPath& path) {
            return path.pattern == rule.paths[one.path].pattern;
        });
    }
    std::ranges::sort(joined.peers);
    std::erase_if(step.rules, [](const SuggestedRule& rule) { return rule.paths.empty(); });
    const auto same = std::ranges::find_if(step.rules, [&](const SuggestedRule& rule) {
        return !rule.denies && rule.peers == joined.peers && rule.operations == joined.operations;
    });
    if (same == step.rules.end()) {
        step.rules.push_back(std::move(joined));
    } else {
        same->paths.push_back(std::move(joined.paths.front()));
    }
    return step;
}

// ---- *.ext and ** -----------------------------------------------------------------------------------------------

// Joins the paths whose patterns are in `covered` into one.
GeneralisedRules join_paths(const Rules& rules, std::size_t rule, const std::set<std::string>& covered,
                            std::string to) {
    GeneralisedRules step{.rules = rules, .to = std::move(to)};
    std::vector<SuggestedPath>& paths = step.rules[rule].paths;
    SuggestedPath joined{.pattern = step.to};
    for (const SuggestedPath& path : rules[rule].paths)
        if (covered.contains(path.pattern)) join(joined, path);
    std::erase_if(paths, [&](const SuggestedPath& path) { return covered.contains(path.pattern); });
    paths.push_back(std::move(joined));
    step.from.assign(covered.begin(), covered.end());
    return step;
}

// `/dir/*.ext` of a path without wildcards; empty: it has no extension.
std::string by_extension(const std::string& pattern) {
    const std::size_t slash = pattern.rfind('/');
    const std::size_t dot = pattern.rfind('.');
    if (dot == std::string::npos || dot <= slash + 1 || dot + 1 == pattern.size()) return {};
    return pattern.substr(0, slash + 1) + '*' + pattern.substr(dot);
}

bool has_wildcard(const SuggestedPath& path) {
    return path.paths.size() != 1 || path.pattern != pattern_of(path.paths.front());
}

GeneralisedRules extensions(const Rules& rules, const Accept& accept) {
    for (std::size_t rule = 0; rule < rules.size(); ++rule) {
        if (rules[rule].denies) continue;
        std::map<std::string, std::set<std::string>> files;
        for (const SuggestedPath& path : rules[rule].paths) {
            if (has_wildcard(path)) continue;
            if (const std::string form = by_extension(path.pattern); !form.empty())
                files[form].insert(path.pattern);
        }
        for (const auto& [form, covered] : files) {
            if (covered.size() < least_files) continue;
            GeneralisedRules step = join_paths(rules, rule, covered, form);
            if (accept(step)) return step;
        }
    }
    return {};
}

// Directories with enough paths below are tried, the deepest first.
GeneralisedRules directories(const Rules& rules, const Accept& accept) {
    for (std::size_t rule = 0; rule < rules.size(); ++rule) {
        if (rules[rule].denies) continue;
        std::map<std::string, std::set<std::string>> below;
        for (const SuggestedPath& path : rules[rule].paths) {
            const bool deep_already = path.pattern.ends_with("/**");
            for (std::string directory = directory_of(path.pattern); depth_of(directory) >= least_depth;
                 directory = directory_of(directory))
                if (!deep_already || directory + "/**" != path.pattern) below[directory].insert(path.pattern);
        }
        std::vector<std::string> names;
        for (const auto& [directory, covered] : below)
            if (covered.size() >= least_below) names.push_back(directory);
        std::ranges::stable_sort(names, {}, [](const std::string& one) { return ~depth_of(one); });
        for (const std::string& directory : names) {
            GeneralisedRules step = join_paths(rules, rule, below[directory], directory + "/**");
            if (accept(step)) return step;
        }
    }
    return {};
}

}  // namespace

GeneralisedRules generalise_once(const Rules& rules, const Accept& accept) {
    for (const auto& [form, paths] : forms_of(rules)) {
        if (paths.size() < least_users) continue;
        GeneralisedRules step = join_users(rules, form, paths);
        if (accept(step)) return step;
    }
    if (GeneralisedRules step = extensions(rules, accept); !step.rules.empty()) return step;
    return directories(rules, accept);
}

}  // namespace fdbroker::policy
