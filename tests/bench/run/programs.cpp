// SPDX-License-Identifier: MIT
#include "tests/bench/run/programs.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>

#include "tests/bench/broker/measure.hpp"
#include "tests/bench/broker/table.hpp"
#include "tests/bench/run/remote.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"

namespace fdbroker::bench {
namespace {

constexpr unsigned tracked_files = 2000;
constexpr unsigned files_per_directory = 50;

using Command = std::vector<std::string>;

// Runs a program to its end; its output goes nowhere.
void run(const Command& command) {
    const proto::UniqueFd nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const pid_t pid = spawn(command, nothing.borrow(), nothing.borrow());
    int status = -1;
    if (::waitpid(pid, &status, 0) != pid || status != 0)
        throw std::runtime_error(fmt::format("{} ended with {}", fmt::join(command, " "), status));
}

Measurement compare(const std::vector<Command>& commands, unsigned rounds) {
    std::vector<Variant> variants;
    for (const Command& command : commands) variants.push_back({.call = [command] { run(command); }});
    return interleave(variants, rounds, std::chrono::nanoseconds(1));
}

// As much as `worker run` isolates: users, mounts, processes and IPC, with the system's programs and nothing else.
const Command bubblewrap{
    "bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--ro-bind", "/usr",
    "/usr",  "--symlink",      "usr/bin",       "/bin",          "--symlink", "usr/lib",
    "/lib",  "--symlink",      "usr/lib64",     "/lib64",        "--ro-bind", "/etc",
    "/etc",  "--dev",          "/dev",          "--proc",        "/proc",     "--die-with-parent",
    "--"};

bool has_program(const std::string& name) {
    return std::ranges::any_of(std::vector<std::string>{"/usr/bin/", "/bin/", "/usr/local/bin/"},
                               [&](const std::string& at) { return std::filesystem::exists(at + name); });
}

Command in_bubblewrap(const Command& command) {
    Command all = bubblewrap;
    all.insert(all.end(), command.begin(), command.end());
    return all;
}

Command in_shell(const std::string& line) {
    return {"sh", "-c", line};
}

constexpr double nanoseconds_per_millisecond = 1e6;

}  // namespace

void measure_start(const Options& options, const std::string& address) {
    const Command program{"/bin/true"};
    enum : std::size_t { plain, inside, bwrap };
    std::vector<Command> commands{program, under_run(options, address, program)};
    const bool has_bubblewrap = has_program("bwrap");
    if (has_bubblewrap) commands.push_back(in_bubblewrap(program));
    const Measurement measured = compare(commands, options.starts);
    const auto milliseconds = [&](std::size_t variant) {
        return measured.median(variant) / nanoseconds_per_millisecond;
    };
    print_heading("Start of /bin/true");
    print_value("plainly", milliseconds(plain), "ms");
    print_value("under `worker run`", milliseconds(inside), "ms");
    print_line({.what = "more than plainly",
                .measured = milliseconds(inside) - milliseconds(plain),
                .target = 2.0,
                .unit = "ms"});
    if (!has_bubblewrap) {
        fmt::print("bubblewrap is not installed: not compared\n");
        return;
    }
    print_value("under bubblewrap", milliseconds(bwrap), "ms");
    print_line({.what = "bubblewrap in terms of `worker run`",
                .measured = measured.ratio(bwrap, inside),
                .bound = Bound::at_least,
                .target = 2.0,
                .unit = "times"});
}

void prepare_programs(const std::string& directory) {
    const test::FileAttributes of_nobody{.mode = 0755, .uid = test::nobody, .gid = test::nobody};
    test::make_directory(directory + "/git", of_nobody);
    for (unsigned file = 0; file < tracked_files; ++file) {
        const std::string part = fmt::format("{}/git/part{}", directory, file / files_per_directory);
        if (file % files_per_directory == 0) test::make_directory(part, of_nobody);
        test::write_file(fmt::format("{}/file{}.txt", part, file), fmt::format("content {}\n", file),
                         {.mode = 0644, .uid = test::nobody, .gid = test::nobody});
    }
    test::make_directory(directory + "/gcc", of_nobody);
    test::write_file(directory + "/gcc/small.c",
                     "#include <stdio.h>\nint main(void) { puts(\"built\"); return 0; }\n");
}

std::string rules_for_programs(const std::string& directory) {
    return fmt::format(
        "  - name: programs\n"
        "    allow: [read, list, stat, readlink, modify, manage, setattr]\n"
        "    paths: [\"{}/git/**\", \"{}/gcc/**\"]\n"
        "    create: {{owner: nobody}}\n"
        "  - {{name: way, allow: [stat], paths: [\"{}\", /, /var, /var/tmp]}}\n"
        "  - {{name: hidden, deny: all, paths: [/etc/gitconfig, /etc/gitattributes], reveal: ENOENT}}\n"
        "  - {{name: accounts, allow: [read, stat], paths: [/etc/passwd, /etc/group, /etc/nsswitch.conf]}}\n",
        directory, directory, directory);
}

void measure_programs(const Options& options, const std::string& directory, const std::string& address) {
    const std::string git = "cd " + directory + "/git && ";
    run(in_shell(git + "git init -q . && git add . && git -c user.name=a -c user.email=a@b commit -qm all"));
    struct Row {
        const char* what;
        const char* program;
        Command command;
        double target;
    };
    const std::vector<Row> rows{
        {"git status of 2,000 files", "git", in_shell(git + "git status --short"), 2.0},
        {"gcc of a small program", "gcc",
         in_shell("cd " + directory + "/gcc && TMPDIR=$PWD gcc -o small small.c"), 1.3}};
    print_heading("Whole programs, on all cores, in terms of outside");
    for (const Row& row : rows) {
        if (!has_program(row.program)) {
            fmt::print("{} is not installed: not measured\n", row.program);
            continue;
        }
        const Measurement measured =
            compare({row.command, under_run(options, address, row.command)}, options.programs);
        print_value(row.what + std::string(", outside"), measured.median(0) / nanoseconds_per_millisecond,
                    "ms");
        print_line(
            {.what = row.what, .measured = measured.ratio(1, 0), .target = row.target, .unit = "times"});
    }
}

}  // namespace fdbroker::bench
