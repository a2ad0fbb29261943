// SPDX-License-Identifier: MIT
// Servers, terminals and newer runtimes under `worker run`: the same output and status as outside.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/integration/run_fixture.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

bool is_there(const std::string& program) {
    for (const char* at : {"/usr/local/bin/", "/usr/bin/", "/usr/sbin/", "/bin/", "/usr/lib/openssh/"})
        if (std::filesystem::exists(at + program)) return true;
    return false;
}

// A port of 127.0.0.1 on which nobody listens.
std::string free_port() {
    const proto::UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(socket.number(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
    REQUIRE(::getsockname(socket.number(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    return std::to_string(::ntohs(address.sin_port));
}

void prepare(const RunScene& scene) {
    scene.clear();
    make_directory(scene.work() + "/a", {.mode = 0755, .uid = nobody, .gid = nobody});
    scene.write("a/one", "one\n");
    scene.write("a/two", "two\n");
    scene.write("nginx.conf",
                "daemon off; master_process off; pid nginx.pid; error_log stderr crit;\n"
                "events {}\n"
                "http {\n"
                "  access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;\n"
                "  uwsgi_temp_path u; scgi_temp_path s;\n"
                "  server { listen 127.0.0.1:LISTEN; root a; }\n"
                "}\n");
    // Fetches as soon as the server is there, what exists and what does not.
    scene.write("fetch.py",
                "import sys, time, urllib.error, urllib.request\n"
                "server = 'http://127.0.0.1:' + sys.argv[1]\n"
                "while True:\n"
                "    try:\n"
                "        print(urllib.request.urlopen(server + '/one').read())\n"
                "        break\n"
                "    except urllib.error.URLError:\n"
                "        time.sleep(0.01)\n"
                "try:\n"
                "    urllib.request.urlopen(server + '/three')\n"
                "except urllib.error.HTTPError as error:\n"
                "    print(error.code)\n");
}

void compare(const RunScene& scene, const std::string& script, const std::vector<std::string>& options = {}) {
    CAPTURE(script);
    const std::string with_port = replace_all(script, "PORT", free_port());
    prepare(scene);
    const Outcome outside = run(scene.outside({"sh", "-c", with_port}));
    prepare(scene);
    const Outcome inside = scene.run_inside({"sh", "-c", with_port}, options);
    CHECK(inside.status == outside.status);
    CHECK(inside.out == outside.out);
    CHECK(inside.err == outside.err);
    CHECK(!outside.out.empty());
}

// On a terminal of script(1), which types `keys`.
Outcome on_terminal(Command command, const std::string& keys) {
    std::string line;
    for (const std::string& word : command.arguments) line += "'" + word + "' ";
    command.arguments = {"script", "-qec", line, "/dev/null"};
    command.environment["TERM"] = "xterm";
    command.input = keys;
    return run(command);
}

}  // namespace

TEST_CASE("run: servers serve a directory as they do outside") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    // A shell may or may not tell that the server was terminated.
    const std::string fetch =
        " & server=$!; python3 fetch.py PORT; { kill $server; wait $server; } 2>/dev/null; echo over";
    unsigned tried = 0;
    const auto serve = [&](const char* program, const std::string& command) {
        if (!is_there(program)) return;
        ++tried;
        compare(scene, command + fetch, {"--network"});
    };
    serve("nginx", "sed -i s/LISTEN/PORT/ nginx.conf; /usr/sbin/nginx -p $PWD -e stderr -c nginx.conf");
    serve("busybox", "busybox httpd -f -p 127.0.0.1:PORT -h a");
    serve("python3", "python3 -m http.server --bind 127.0.0.1 PORT -d a 2>/dev/null");
    CHECK(tried > 0);
}

TEST_CASE("run: sftp-server serves files over a pipe") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    FDBROKER_SKIP_UNLESS(is_there("sftp-server") && is_there("sftp"), "needs sftp and sftp-server");
    const RunScene scene;
    compare(scene,
            "printf 'cd a\\nls\\nget one got\\nput two three\\nrename three four\\nrm one\\nls\\n' | "
            "sftp -q -b - -D /usr/lib/openssh/sftp-server 2>&1; cat got a/four");
}

TEST_CASE("run: tail -F goes on over a rotation") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    compare(scene,
            "echo first > log; tail -s 0.01 -n +1 -F log > out 2>/dev/null & tail=$!\n"
            "until grep -qs first out; do sleep 0.01; done\n"
            "mv log log.1; echo second > log\n"
            "until grep -q second out; do sleep 0.01; done\n"
            "kill $tail; cat out");
}

TEST_CASE("run: ffprobe tells of a sound file") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    FDBROKER_SKIP_UNLESS(is_there("ffprobe"), "needs ffprobe");
    const RunScene scene;
    compare(
        scene,
        "python3 -c 'import wave; w = wave.open(\"t.wav\", \"wb\"); w.setnchannels(1); w.setsampwidth(2); "
        "w.setframerate(8000); w.writeframes(bytes(16000))'; "
        "ffprobe -v error -show_entries stream=codec_name,sample_rate,duration -of csv t.wav");
}

TEST_CASE("run: less and vim work on a terminal") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    FDBROKER_SKIP_UNLESS(is_there("script"), "needs script(1)");
    const RunScene scene;
    const auto both = [&](const std::vector<std::string>& command, const std::string& keys) {
        prepare(scene);
        const Outcome outside = on_terminal(scene.outside(command), keys);
        const std::string written = scene.content("a/one");
        prepare(scene);
        const Outcome inside = on_terminal(scene.inside(command), keys);
        CHECK(inside.status == outside.status);
        CHECK(outside.status == 0);
        CHECK(scene.content("a/one") == written);
        return inside.out;
    };
    if (is_there("less")) CHECK(both({"less", "a/one"}, "q").find("one") != std::string::npos);
    if (is_there("vim")) {
        both({"vim", "-u", "NONE", "a/one"}, "ityped \033:wq\r");
        CHECK(scene.content("a/one") == "typed one\n");
    }
}

TEST_CASE("run: 16 threads open files at once; openat2 and io_uring are done without") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    const std::string program = FDBROKER_RUN_MODERN;
    const std::vector<std::string> options{"--runtime", std::filesystem::path(program).parent_path()};
    prepare(scene);
    CHECK(scene.run_inside({program, "threads"}, options).out == "1600 of 1600\n");
    CHECK(run(scene.outside({program, "threads"})).out == "1600 of 1600\n");
    CHECK(scene.run_inside({program, "fallback"}, options).out == "one\nio_uring used or done without\n");
}

TEST_CASE("run: programs that are granted too little fail, and do not hang") {
    FDBROKER_SKIP_UNLESS(why_no_run().empty(), why_no_run());
    const RunScene scene;
    prepare(scene);
    const std::string file = scene.denied() + "/file";
    const std::vector<std::pair<const char*, std::string>> rows{
        {"ffprobe", "ffprobe -v error FILE"},
        {"node", "node FILE"},
        {"sftp", "printf 'get FILE got\\n' | sftp -q -b - -D /usr/lib/openssh/sftp-server"},
        {"vim", "vim -u NONE -es -c 'if !filereadable(\"FILE\") | cq | endif' -c q"},
        {"nginx", "/usr/sbin/nginx -p $PWD -e stderr -c FILE"},
        {"busybox", "busybox httpd -f -p 127.0.0.1:1 -c FILE"},
        {"python3", "python3 FILE"},
        {"tail", "tail FILE"},
        {"java", "java FILE"},
        {"gcc", "gcc -x c FILE"},
        {"make", "make -f FILE"},
        {"rsync", "rsync FILE here"},
        {"git", "git clone -q FILE here"},
        {"sqlite3", "sqlite3 FILE 'create table t(a)'"},
        {"convert", "convert FILE here.png"},
        {"pdftotext", "pdftotext FILE"},
    };
    for (const auto& [program, line] : rows) {
        if (!is_there(program)) continue;
        CAPTURE(line);
        const Outcome refused = scene.shell(replace_all(line, "FILE", file), {"--network"});
        CHECK(refused.status != 0);
        CHECK(refused.out.find("denied content") == std::string::npos);
    }
}
