// SPDX-License-Identifier: MIT
// `worker run`: what a program sees, and what it does not.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "tests/integration/run_fixture.hpp"
#include "tests/support/wait.hpp"
#include "worker/sandbox/landlock.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

std::string probe_program() {
    return FDBROKER_RUN_PROBE;
}

// Lines that are not the same in both, "outside | inside".
std::string difference(const std::string& outside, const std::string& inside) {
    std::istringstream left(outside);
    std::istringstream right(inside);
    std::string all;
    for (;;) {
        std::string one;
        std::string other;
        const bool more = static_cast<bool>(std::getline(left, one));
        const bool more_right = static_cast<bool>(std::getline(right, other));
        if (!more && !more_right) return all;
        if (one != other) all += one + " | " + other + "\n";
    }
}

}  // namespace

TEST_CASE("run: file calls return what they return outside, errno for errno") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    const std::string directory = std::filesystem::path(probe_program()).parent_path();
    const Outcome outside = run(scene.outside({probe_program()}));
    CHECK(outside.status == 0);
    scene.clear();
    const Outcome inside = scene.run_inside({probe_program()}, {"--runtime", directory});
    INFO(inside.err);
    CHECK(inside.status == 0);
    // Inodes are others, since the files are.
    const auto without_inodes = [](std::string text) {
        return std::regex_replace(text, std::regex("(stat .*) [0-9]+ ([0-9]+)\n"), "$1 $2\n");
    };
    CHECK(difference(without_inodes(outside.out), without_inodes(inside.out)) == "");
}

TEST_CASE("run: an empty policy starts /bin/true, a missing program is 127, one that is none 126") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    CHECK(scene.run_inside({"/bin/true"}).status == 0);
    CHECK(scene.run_inside({"true"}).status == 0);
    CHECK(scene.run_inside({"no-such-program"}).status == 127);
    CHECK(scene.run_inside({"/etc/passwd"}).status == 126);
    CHECK(scene.shell("exit 42").status == 42);
    CHECK(scene.shell("kill -TERM $$").status == 128 + SIGTERM);
    CHECK(scene.shell("kill -KILL $$").status == 128 + SIGKILL);
}

TEST_CASE("run: files that only root may open are read as the policy grants, the rest is refused") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    CHECK(scene.run_inside({"cat", scene.secret() + "/file"}).out == "secret content\n");
    CHECK(scene.shell("cd " + scene.secret() + "/sub && cat file && cat ../file && pwd").out ==
          "content below\nsecret content\n" + scene.secret() + "/sub\n");
    const Outcome refused = scene.run_inside({"cat", scene.denied() + "/file"});
    CHECK(refused.status == 1);
    CHECK(contains(refused.err, "Permission denied"));
    CHECK(scene.shell("echo x > " + scene.secret() + "/file").status != 0);
    CHECK(scene.run_inside({"ls", scene.denied()}).status == 2);
    CHECK(scene.run_inside({"cat", "/etc/shadow"}).status == 1);
}

TEST_CASE("run: the runtime is read-only, and --runtime none leaves none") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    CHECK(scene.shell("touch /usr/x").status == 1);
    CHECK(scene.run_inside({"/bin/true"}, {"--runtime", "none"}).status != 0);
    CHECK(scene.run_inside({"cat", scene.denied() + "/file"}, {"--runtime", scene.denied()}).out ==
          "denied content\n");
    CHECK(run(scene.inside({"true"}, {"--runtime", "relative"})).status == 2);
}

TEST_CASE("run: owners in the runtime are the true ones") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    for (const char* path : {"/usr", "/usr/bin/env", "/bin/"}) {
        const std::vector<std::string> command{"stat", "-c", "%u %g %a %s %i %d", path};
        CHECK(scene.run_inside(command).out == run(scene.outside(command)).out);
    }
    CHECK(scene.shell("stat -c '%u %g' - < /usr/bin/env").out == "0 0\n");
    CHECK(scene.shell("stat -c '%u %g' /bin /").out == "0 0\n0 0\n");
}

TEST_CASE("run: the environment is a short list, and --env adds to it") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    Command command = scene.inside({"env"}, {"--env", "GIVEN=1", "--env", "PASSED"});
    command.environment["SECRET"] = "root's";
    command.environment["PASSED"] = "yes";
    const std::string text = run(command).out;
    CHECK(contains(text, "GIVEN=1\n"));
    CHECK(contains(text, "PASSED=yes\n"));
    CHECK(contains(text, "PATH=/usr/local/bin:/usr/bin:/bin\n"));
    CHECK(contains(text, "HOME=" + scene.work() + "\n"));
    CHECK_FALSE(contains(text, "SECRET"));
}

TEST_CASE("run: --scratch is a directory of the program's own, and goes with it") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    const Outcome made = scene.shell(
        "cd && pwd && echo x > a && ln a b && mv b c && mkdir d && ln -s c l && chmod 600 a && cat l && ls "
        "&& rm -r d && "
        "mktemp && mkfifo f",
        {"--scratch"});
    INFO(made.err);
    CHECK(made.status == 0);
    CHECK(made.out.starts_with("/scratch\nx\na\nc\nd\nl\n/scratch/tmp."));
    CHECK(scene.shell("ls /scratch", {"--scratch"}).out == "");
    CHECK(scene.shell("ls /scratch").status == 2);
    CHECK(contains(scene.shell("mv file /scratch/x", {"--scratch"}).err, "file"));
}

TEST_CASE("run: a file moves between scratch and brokered directories by copying") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    scene.write("file", "moved\n");
    CHECK(scene.shell("mv file /scratch/x && cat /scratch/x && mv /scratch/x back", {"--scratch"}).out ==
          "moved\n");
    CHECK(scene.content("back") == "moved\n");
}

TEST_CASE("run: a listing has the inodes of `.` and of a directory above that was looked at") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    const std::string line =
        "mkdir -p below && touch below/file && stat . > /dev/null && find . > /dev/null && ls -ai below";
    const Outcome inside = scene.shell("find . > /dev/null; " + line);
    CHECK(inside.out == run(scene.outside({"sh", "-c", line})).out);
    CHECK(contains(scene.shell("stat -f -c %T " + scene.secret() + "/file").out,
                   run(scene.outside({"stat", "-f", "-c", "%T", scene.work()})).out));
}

TEST_CASE("run: there is no network unless it is given") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    const std::vector<std::string> command{"python3", "-c",
                                           "import socket; socket.socket(); print('a socket')"};
    CHECK(contains(scene.run_inside(command).err, "Address family not supported"));
    CHECK(scene.run_inside(command, {"--network"}).out == "a socket\n");
}

TEST_CASE("run: without a network a program has sockets, and reaches none outside") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    FDBROKER_SKIP_UNLESS(worker::landlock_abi().value_or(0) >= 6,
                         "needs the scopes of Landlock (Linux 6.12)");
    const RunScene scene;
    const proto::UniqueFd outside(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    // The kernel gives it an abstract name that nobody has.
    REQUIRE(::bind(outside.number(), reinterpret_cast<const sockaddr*>(&address), sizeof(sa_family_t)) == 0);
    REQUIRE(::listen(outside.number(), 1) == 0);
    socklen_t size = sizeof address;
    REQUIRE(::getsockname(outside.number(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    const std::string name(address.sun_path + 1, size - offsetof(sockaddr_un, sun_path) - 1);
    const Outcome outcome =
        scene.run_inside({"python3", "-c",
                          "import socket, sys\n"
                          "made = socket.socket(socket.AF_UNIX)\n"
                          "made.bind('\\0' + sys.argv[1] + 'own')\n"
                          "made.listen()\n"
                          "socket.socket(socket.AF_UNIX).connect('\\0' + sys.argv[1] + 'own')\n"
                          "print('its own')\n"
                          "socket.socket(socket.AF_UNIX).connect('\\0' + sys.argv[1])\n",
                          name});
    CHECK(outcome.out == "its own\n");
    CHECK(contains(outcome.err, "PermissionError"));
}

TEST_CASE("run: a program of a rule that grants execute runs, a set-user-ID one does not") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    scene.write("script", "#!/bin/sh\necho \"script $1 $0\"\n", 0755);
    scene.write("plain", "#!/bin/sh\necho no\n", 0644);
    const Outcome ran = scene.shell("./script a");
    INFO(ran.err);
    CHECK(ran.out == "script a ./script\n");
    CHECK(scene.run_inside({scene.work() + "/script", "b"}).out == "script b " + scene.work() + "/script\n");
    CHECK(scene.run_inside({"./plain"}).status == 126);
    const Outcome refused = scene.run_inside({"su", "-c", "id"});
    CHECK(refused.status == 126);
    CHECK(contains(refused.err, "a set-user-ID program gains nothing here, and is not run"));
}

TEST_CASE("run: the program sees no process but its own") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    CHECK(scene.shell("cat /proc/1/comm").status == 1);
    CHECK(scene.shell("cat /proc/1/environ").status == 1);
    CHECK(scene.shell("cat /proc/self/comm").out == "cat\n");
    CHECK(scene.shell("kill -0 1 && kill -KILL 1; echo on").out == "on\n");
    CHECK(scene.shell("grep -c processor /proc/cpuinfo").status == 0);
    CHECK(scene.shell("cat /proc/kallsyms").status == 1);
}

TEST_CASE("run: signals to the launcher reach the program, and a stopped program stops it") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    Process process = Process::start(scene.inside(
        {"sh", "-c", "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"}));
    process.wait_for_output("ready");
    process.signal(SIGTERM);
    const Outcome outcome = process.wait();
    CHECK(contains(outcome.out, "caught"));
    CHECK(outcome.status == 5);

    Process stopped = Process::start(scene.inside({"sh", "-c", "kill -STOP $$; echo resumed"}));
    wait_until_stopped(stopped.pid());
    stopped.signal(SIGCONT);
    CHECK(stopped.wait().out == "resumed\n");
}

TEST_CASE("run: the program ends with its launcher, and with what it started") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    SUBCASE("the launcher is killed") {
        Command command = scene.inside({"sh", "-c", "sleep 1000 & sleep 1000 & echo ready >&2; wait"});
        Process process = Process::start(command);
        process.wait_for_error("ready");
        const auto children = children_of(process.pid());
        REQUIRE(children.size() == 1);
        const auto answerer_end = end_of(children.front());
        process.signal(SIGKILL);
        wait_readable(answerer_end.borrow());
    }
    SUBCASE("the program ends before its children") {
        CHECK(scene.shell("sleep 1000 & exit 3").status == 3);
    }
}

TEST_CASE("run: a killed answerer takes the program along, and that is told") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    Process process = Process::start(scene.inside({"sh", "-c", "echo ready; sleep 1000"}));
    process.wait_for_output("ready");
    ::kill(children_of(process.pid()).front(), SIGKILL);
    const Outcome outcome = process.wait();
    CHECK(outcome.status == 128 + SIGKILL);
    CHECK(contains(outcome.err, "and the program with it"));
}

TEST_CASE("run: an opener that is gone is an error of each call, not a hang") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    RunScene scene;
    Process process = Process::start(
        scene.inside({"sh", "-c", "kill -STOP $$; cat " + scene.secret() + "/file; echo \"status $?\""}));
    wait_until_stopped(process.pid());
    CHECK(scene.opener().stop() == 0);
    process.signal(SIGCONT);
    const Outcome outcome = process.wait();
    CHECK(contains(outcome.out, "status 1"));
}

TEST_CASE("run: --trace, --explain and --learn tell what was asked and refused") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    const std::string learned = scene.work() + "/learned";
    const std::string refused = scene.denied() + "/file";
    const Outcome outcome = scene.run_inside({"cat", scene.secret() + "/file", refused},
                                             {"--trace", "--explain", "--learn", learned});
    CHECK(contains(outcome.err, "trace: open read " + scene.secret() + "/file = ok\n"));
    CHECK(contains(outcome.err, "trace: open read " + refused + " = EACCES (decide: no rule allows read"));
    CHECK(contains(outcome.err, "allow: [read]\n    paths: [\"" + refused + "\"]"));
    bool found = false;
    std::istringstream lines(read_file(learned));
    for (std::string line; std::getline(lines, line);) {
        const auto record = nlohmann::json::parse(line);
        found = found || (record["path"] == refused && record["operation"] == nlohmann::json{"read"});
        CHECK(record["decision"] == "refused");
    }
    CHECK(found);
}

TEST_CASE("run: a service's notifications reach the service manager from the launcher, MAINPID left out") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    const proto::UniqueFd manager(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const std::string path = scene.top() + "/notify";
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(manager.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    std::filesystem::permissions(path, std::filesystem::perms::all);
    constexpr int on = 1;
    REQUIRE(::setsockopt(manager.number(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    Command command = scene.inside(
        {"python3", "-c",
         "import os, socket\n"
         "manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
         "manager.connect(os.environ['NOTIFY_SOCKET'])\n"
         "manager.send(b'READY=1\\nMAINPID=7\\nSTATUS=serving ' + os.environ['WATCHDOG_USEC'].encode())\n"});
    command.environment["NOTIFY_SOCKET"] = path;
    command.environment["WATCHDOG_USEC"] = "300";
    Process process = Process::start(command);
    wait_readable(manager.borrow());
    std::array<char, 100> text{};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> control{};
    iovec part{text.data(), text.size() - 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    REQUIRE(::recvmsg(manager.number(), &message, 0) > 0);
    CHECK(std::string(text.data()) == "READY=1\nSTATUS=serving 300");
    ucred sender{};
    std::memcpy(&sender, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof sender);
    CHECK(sender.pid == process.pid());
}

TEST_CASE("run: many threads and children open files at once") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    const Outcome threads = scene.run_inside(
        {"python3", "-c",
         "import threading\n"
         "def work(number):\n"
         "    for turn in range(50):\n"
         "        with open(f't{number}', 'w') as file: file.write(str(turn))\n"
         "        assert open(f't{number}').read() == str(turn)\n"
         "threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]\n"
         "[thread.start() for thread in threads]\n"
         "[thread.join() for thread in threads]\n"
         "print('done')"});
    INFO(threads.err);
    CHECK(threads.out == "done\n");
    const Outcome children =
        scene.shell("for i in 1 2 3 4 5 6 7 8; do (echo $i > c$i; cat c$i) & done; wait");
    INFO(children.err);
    CHECK(children.out.size() == 16);
}
