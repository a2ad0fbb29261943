// SPDX-License-Identifier: MIT
#include "policy/diff/name_menu.hpp"

#include <algorithm>
#include <climits>
#include <map>
#include <optional>

#include "policy/diff/name_classes.hpp"

namespace fdbroker::policy {
namespace {

using Index = PatternTrie::Index;
using Indices = std::vector<Index>;

// Beyond that a search with variables that match freely is no use: each doubles the choices.
constexpr std::size_t max_free_globs = 4;
// Examples of values for each glob with a variable.
constexpr std::size_t max_value_examples = 12;

void add(Indices& nodes, const Indices& more) {
    nodes.insert(nodes.end(), more.begin(), more.end());
}

Indices in_order(Indices nodes) {
    std::ranges::sort(nodes);
    const auto repeated = std::ranges::unique(nodes);
    nodes.erase(repeated.begin(), repeated.end());
    return nodes;
}

bool is_any_name(std::string_view program) {
    const auto steps = glob_steps(program);
    return steps.size() == 1 && steps.front().kind == GlobStep::Kind::any_bytes;
}

struct GlobChildren {
    std::string_view program{};
    Indices nodes{};
};

using Literals = std::map<std::string, Indices, std::less<>>;

// The children of several nodes.
struct Children {
    Literals literals{};
    std::vector<GlobChildren> globs{};
    std::vector<GlobChildren> free{};  // with variables that match freely
    Indices of_any_name{};
};

// The one text that a glob of variables and text matches; empty where it matches none.
std::optional<std::string> text_of(std::string_view program, const PeerValues& values) {
    std::string text;
    for (const GlobStep& step : glob_steps(program)) {
        if (step.kind == GlobStep::Kind::variable) {
            const std::string& value = values[static_cast<std::size_t>(step.variable)];
            if (value.empty()) return std::string();
            text += value;
        } else if (step.kind == GlobStep::Kind::byte && step.bytes.count() == 1) {
            text += static_cast<char>(step.bytes._Find_first());
        } else {
            return std::nullopt;
        }
    }
    return text;
}

bool is_file_name(std::string_view text) {
    return !text.empty() && text != "." && text != ".." && text.size() <= NAME_MAX;
}

// `values`: what variables stand for. Null: they match freely.
Children children_of(const PatternTrie& trie, const Indices& nodes, const PeerValues* values) {
    Children found;
    std::map<std::string_view, Indices> globs;
    for (const Index node : nodes) {
        for (const auto& [name, child] : trie[node].literals) found.literals[name].push_back(child);
        for (const auto& [program, child] : trie[node].globs) globs[program].push_back(child);
    }
    for (auto& [program, children] : globs) {
        const bool variable = glob_has_variable(program);
        const auto text = variable && values != nullptr ? text_of(program, *values) : std::nullopt;
        if (is_any_name(program)) {
            found.of_any_name = std::move(children);
        } else if (text) {
            if (is_file_name(*text)) add(found.literals[*text], children);
        } else {
            auto& list = variable && values == nullptr ? found.free : found.globs;
            list.push_back({program, std::move(children)});
        }
    }
    return found;
}

// A short name that is none of these.
std::string fresh_name(const Literals& taken) {
    std::string name = "a";
    while (taken.contains(name)) {
        if (name.back() == 'z') {
            name += 'a';
        } else {
            ++name.back();
        }
    }
    return name;
}

// The classes of names that are no literal. The literals count only where one is the example of a class: the fewer the
// automaton is made of, the more directories share it.
const NameClasses& other_names(const Literals& literals, const std::vector<std::string_view>& programs,
                               const PeerValues& values, KnownNameClasses& known) {
    const auto is_literal = [&](const NameClass& one) { return literals.contains(one.example); };
    const NameClasses& names = known.find(programs, {}, values);
    if (std::ranges::none_of(names.classes, is_literal)) return names;
    std::vector<std::string> texts;
    for (const auto& [name, nodes] : literals) texts.push_back(name);
    return known.find(programs, texts, values);
}

class Menu {
  public:
    explicit Menu(const Children& children) : children_(children) {}

    void offer(std::string name, Indices nodes) {
        add(nodes, children_.of_any_name);
        if (children_.free.size() > max_free_globs) {
            menu_.complete = false;
            menu_.choices.push_back({std::move(name), in_order(std::move(nodes))});
            return;
        }
        for (unsigned bits = 0; bits < 1U << children_.free.size(); ++bits) {
            Indices all = nodes;
            for (std::size_t index = 0; index < children_.free.size(); ++index)
                if ((bits >> index & 1U) != 0) add(all, children_.free[index].nodes);
            menu_.choices.push_back({name, in_order(std::move(all))});
        }
    }
    void incomplete() { menu_.complete = false; }
    NameMenu take() && { return std::move(menu_); }

  private:
    const Children& children_;
    NameMenu menu_{};
};

// A glob that is text, one variable, text.
struct Framed {
    std::string before{};
    std::string after{};
    Variable variable{};
};
std::optional<Framed> framed(std::string_view program) {
    Framed found;
    bool seen = false;
    for (const GlobStep& step : glob_steps(program)) {
        if (step.kind == GlobStep::Kind::variable) {
            if (std::exchange(seen, true)) return std::nullopt;
            found.variable = step.variable;
        } else if (step.kind == GlobStep::Kind::byte && step.bytes.count() == 1) {
            (seen ? found.after : found.before) += static_cast<char>(step.bytes._Find_first());
        } else {
            return std::nullopt;
        }
    }
    return seen ? std::optional(found) : std::nullopt;
}

}  // namespace

bool meets_variable(const PatternTrie& trie, const Indices& nodes, bool& groups) {
    bool met = false;
    for (const Index node : nodes) {
        met = met || trie[node].variables;
        groups = groups || trie[node].group_variables;
    }
    return met;
}

NameMenu name_menu(const PatternTrie& trie, const Indices& nodes, const PeerValues* values,
                   KnownNameClasses& known) {
    const Children children = children_of(trie, nodes, values);
    const PeerValues no_values{};
    const PeerValues& bound = values != nullptr ? *values : no_values;
    Menu menu(children);
    for (const auto& [name, literal] : children.literals) {
        Indices reached = literal;
        for (const GlobChildren& glob : children.globs)
            if (glob_matches(glob.program, name, bound)) add(reached, glob.nodes);
        menu.offer(name, std::move(reached));
    }
    if (children.globs.empty()) {
        menu.offer(fresh_name(children.literals), {});
        return std::move(menu).take();
    }
    std::vector<std::string_view> programs;
    for (const GlobChildren& glob : children.globs) programs.push_back(glob.program);
    const NameClasses& names = other_names(children.literals, programs, bound, known);
    if (!names.complete) menu.incomplete();
    for (const NameClass& one : names.classes) {
        Indices reached;
        for (const std::uint32_t glob : one.globs) add(reached, children.globs[glob].nodes);
        menu.offer(one.example, std::move(reached));
    }
    return std::move(menu).take();
}

void add_values(const PatternTrie& trie, const Indices& nodes, ValueSets& values) {
    const Children children = children_of(trie, nodes, nullptr);
    std::vector<std::string_view> programs;
    for (const GlobChildren& glob : children.globs) programs.push_back(glob.program);
    for (const GlobChildren& glob : children.free) {
        const auto frame = framed(glob.program);
        if (!frame) continue;
        auto& set = values[static_cast<std::size_t>(frame->variable)];
        for (const auto& [name, child] : children.literals)
            if (name.size() > frame->before.size() + frame->after.size() && name.starts_with(frame->before) &&
                name.ends_with(frame->after))
                set.emplace(name.substr(frame->before.size(),
                                        name.size() - frame->before.size() - frame->after.size()));
        // Globs such as `a${user}` and `${user}a` meet where the value is of the same text.
        for (const std::string& text : {frame->before, frame->after})
            if (!text.empty()) set.insert({text, text + text});
        const std::string_view before[] = {frame->before};
        if (!programs.empty())
            for (std::string& value : value_examples(programs, before, max_value_examples))
                set.insert(std::move(value));
    }
}

}  // namespace fdbroker::policy
