// SPDX-License-Identifier: MIT
// Programs under `worker run`, and the same programs outside.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/integration/opener_support.hpp"
#include "tests/support/verdict.hpp"
#include "worker/sandbox/namespaces.hpp"

namespace fdbroker::test {

// Why no program can be run here; empty: it can.
inline std::string why_no_run() {
    if (!is_root()) return "needs root, to run the opener as";
    const auto available = worker::namespaces_available();
    return available ? "" : "needs user namespaces: " + available.error().message();
}

// The directories
//
//     work/      which the program's user owns and the policy grants wholly
//     secret/    which only root may enter, and of which the policy grants `list`, `read` and `stat`
//     letter/    the user's own; the policy grants `read` and `write`, and no change of modes, times or attributes
//     denied/    which everybody may read, and the policy nobody
class RunDirectories {
  public:
    RunDirectories() {
        make_directory(work(), {.mode = 0755, .uid = nobody, .gid = nobody});
        make_directory(secret(), {.mode = 0700});
        make_directory(letter(), {.mode = 0755, .uid = nobody, .gid = nobody});
        make_directory(denied());
        write_file(secret() + "/file", "secret content\n", {.mode = 0600});
        make_directory(secret() + "/sub", {.mode = 0700});
        write_file(secret() + "/sub/file", "content below\n", {.mode = 0600});
        write_file(denied() + "/file", "denied content\n");
    }

    std::string top() const { return directory_.path().string(); }
    std::string work() const { return top() + "/work"; }
    std::string secret() const { return top() + "/secret"; }
    std::string letter() const { return top() + "/letter"; }
    std::string denied() const { return top() + "/denied"; }

  protected:
    TempDir directory_{TempDir::Place::var_tmp};
};

// An opener over these, and programs.
class RunScene : public RunDirectories {
  public:
    RunningOpener& opener() { return opener_; }

    void write(const std::string& name, std::string_view content, mode_t mode = 0644) const {
        write_file(work() + "/" + name, content, {.mode = mode, .uid = nobody, .gid = nobody});
    }
    std::string content(const std::string& name) const { return read_file(work() + "/" + name); }

    // Empties work/. The directory itself is the one that the opener knows.
    void clear() const {
        for (const auto& entry : std::filesystem::directory_iterator(work()))
            std::filesystem::remove_all(entry.path());
    }

    // In work/, as the user whom the policy knows.
    Command outside(std::vector<std::string> program) const {
        return {.arguments = std::move(program),
                .identity = Identity{.uid = nobody, .gid = nobody},
                .environment = {{"HOME", work()}, {"TERM", "dumb"}},
                .directory = work()};
    }
    Command inside(const std::vector<std::string>& program,
                   const std::vector<std::string>& options = {}) const {
        std::vector<std::string> arguments{worker_program(), "--socket",
                                           (directory_ / "opener.sock").string(), "run"};
        arguments.insert(arguments.end(), options.begin(), options.end());
        arguments.emplace_back("--");
        arguments.insert(arguments.end(), program.begin(), program.end());
        return outside(std::move(arguments));
    }
    Outcome run_inside(const std::vector<std::string>& program,
                       const std::vector<std::string>& options = {}) const {
        return run(inside(program, options));
    }
    // A line for sh(1).
    Outcome shell(const std::string& line, const std::vector<std::string>& options = {}) const {
        return run_inside({"sh", "-c", line}, options);
    }

  private:
    std::string policy() const {
        return replace_all(
            "version: 1\n"
            "defaults: {symlinks: follow, files: {types: [regular, directory, symlink], max_links: any}}\n"
            "rules:\n"
            "  - name: work\n"
            "    allow: [read, list, stat, readlink, modify, manage, symlink, setattr, append, xattr, "
            "execute]\n"
            "    paths: [\"TOP/work/**\"]\n"
            "    create: {owner: nobody}\n"
            "    rename: {directories: true}\n"
            "  - {name: secret, allow: [read, list, stat, readlink], paths: [\"TOP/secret/**\"]}\n"
            "  - {name: letter, allow: [read, write, stat], paths: [\"TOP/letter/**\"]}\n"
            "  - {name: way, allow: [stat], paths: [\"TOP\", /var, /var/tmp, /]}\n"
            "  - {name: hidden, deny: all, paths: [/etc/gitconfig, /etc/gitattributes], reveal: ENOENT}\n"
            "  - {name: system, allow: [read, stat], paths: [/etc/passwd, /etc/group, /etc/nsswitch.conf,\n"
            "     /etc/magic, /etc/localtime, /etc/timezone, \"/etc/python3*/**\", \"/etc/perl/**\", "
            "\"/etc/vim/**\",\n"
            "     \"/etc/java*/**\", \"/etc/ImageMagick-6/**\", \"/etc/fonts/**\", /etc/ssl/openssl.cnf,\n"
            "     \"/etc/nginx/**\", /etc/services, /etc/locale.alias]}\n",
            "TOP", top());
    }

    RunningOpener opener_{directory_, policy()};
};

}  // namespace fdbroker::test
