// SPDX-License-Identifier: MIT
#include "opener/config/command_line.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "opener/base/build_config.hpp"
#include "policy/language/spelling.hpp"

namespace fdbroker::opener {

namespace {

class HelpFormatter final : public CLI::Formatter {
  public:
    std::string make_option_opts(const CLI::Option* option) const override {
        // The line "Usage:" tells how many there are of a positional argument.
        if (option->get_positional() || option->get_items_expected_max() == 0) return {};
        const std::string type = option->get_type_name();
        return " " + type.substr(0, type.find(':'));
    }
};

using Commands = std::vector<const CLI::App*>;

// The options of the command and of those that it stands below.
std::vector<std::string> option_names(const Commands& commands) {
    std::vector<std::string> names;
    for (const CLI::App* command : commands) {
        for (const CLI::Option* option : command->get_options()) {
            for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
            for (const std::string& name : option->get_snames()) names.push_back("-" + name);
        }
    }
    return names;
}

const CLI::Option* find_option(const Commands& commands, const std::string& name) {
    for (const CLI::App* command : commands)
        if (const CLI::Option* const option = command->get_option_no_throw(name)) return option;
    return nullptr;
}

Commands commands_below(const CLI::App& command) {
    return command.get_subcommands(std::function<bool(const CLI::App*)>{});
}

std::string no_such(std::string_view word, std::string_view kind, const std::vector<std::string>& words) {
    const std::vector<std::string_view> views(words.begin(), words.end());
    return fmt::format("{}: there is no such {}{}", word, kind, policy::did_you_mean(word, views));
}

std::string no_such_command(const CLI::App& command, const std::string& word) {
    std::vector<std::string> names;
    for (const CLI::App* below : commands_below(command)) {
        names.push_back(below->get_name());
        for (const CLI::App* deeper : commands_below(*below))
            if (deeper->get_name() == word)
                return fmt::format("{}: there is no such command (did you mean \"{} {}\"?)", word,
                                   below->get_name(), word);
    }
    return no_such(word, "command", names);
}

}  // namespace

void prepare_command_line(CLI::App& app) {
    app.formatter(std::make_shared<HelpFormatter>());
    app.set_version_flag("--version", app.get_name() + " " + FDBROKER_VERSION);
}

std::string misspelt_word(const CLI::App& app, int argc, const char* const* argv) {
    Commands commands{&app};
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word == "--") break;
        if (word.size() > 1 && word.starts_with('-')) {
            const std::string name = word.substr(0, word.find('='));
            const CLI::Option* const option = find_option(commands, name);
            if (option == nullptr) return no_such(name, "option", option_names(commands));
            if (option->get_items_expected_max() != 0 && name == word) ++i;  // the option's value
            continue;
        }
        const Commands below = commands_below(*commands.back());
        if (below.empty()) continue;
        const auto found = std::ranges::find(below, word, &CLI::App::get_name);
        if (found == below.end()) return no_such_command(*commands.back(), word);
        commands.push_back(*found);
    }
    return {};
}

}  // namespace fdbroker::opener
