// SPDX-License-Identifier: MIT
// The instructions that a request takes in user space, of the broker and of libfdbroker: each message of a fixed stream is
// followed one instruction at a time through the opener's own program. Needs root.
#include <fcntl.h>
#include <fmt/core.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "proto/address.hpp"
#include "proto/channel.hpp"
#include "proto/message.hpp"
#include "tests/bench/broker/measure.hpp"
#include "tests/bench/broker/pinning.hpp"
#include "tests/bench/broker/product.hpp"
#include "tests/bench/broker/scene.hpp"
#include "tests/bench/path/stepper.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"
#include "tests/support/wait.hpp"
#include "worker/client/c_api.hpp"

namespace fdbroker::bench {

namespace {

// Requests. The median counts: now and then the supervisor asks the broker whether it lives, and each 16th turn of a
// session gathers replies.
constexpr unsigned warming_up = 16;
constexpr unsigned counted = 32;

struct Options {
    std::string opener = test::opener_program();
    std::string bounds{};    // a file
    std::string compiler{};  // the entry there
    std::string profile{};   // a file: "ADDRESS COUNT" a line, and the process's mappings
};

// A connection of the user that the scene's policies name.
proto::UniqueFd connect_as_nobody(const std::string& address) {
    if (::setegid(test::nobody) != 0 || ::seteuid(test::nobody) != 0) throw std::runtime_error("seteuid");
    auto socket = proto::connect(proto::Address::parse(address).value());
    if (::seteuid(0) != 0 || ::setegid(0) != 0) throw std::runtime_error("seteuid");
    if (!socket) throw std::runtime_error(address + ": " + socket.error().message());
    return std::move(*socket);
}

void write_profile(const Stepper& stepper, pid_t pid, const std::string& file) {
    std::ofstream out(file);
    for (const auto& [address, count] : stepper.profile()) out << address << ' ' << count << '\n';
    out << test::read_file("/proc/" + std::to_string(pid) + "/maps");
}

// The broker's instructions for a message of one request.
double of_broker(const Options& options, const RunningOpener& opener, const std::vector<std::string>& paths) {
    const proto::UniqueFd socket = connect_as_nobody(opener.address());
    std::array<std::byte, proto::max_message_size> buffer;
    // The broker has come to rest once it has answered somebody.
    const std::span hello(buffer.data(), proto::write_hello(buffer));
    if (!proto::send(socket.borrow(), hello, {}, proto::Wait::block) ||
        !proto::receive(socket.borrow(), buffer, proto::Wait::block))
        throw std::runtime_error("the broker does not answer");
    Stepper stepper(opener.broker_pid());
    stepper.count_until(SYS_epoll_wait, [] { return true; });
    std::vector<double> counts;
    std::uint32_t id = 1;
    for (unsigned round = 0; round < warming_up + counted; ++round) {
        if (round == warming_up) stepper.forget_profile();
        proto::RequestWriter writer(buffer, 0);
        if (!writer.add({.id = id, .path = paths[id % paths.size()]})) throw std::logic_error("too long");
        ++id;
        if (auto sent = proto::send(socket.borrow(), writer.message(), {}, proto::Wait::block); !sent)
            throw std::runtime_error(sent.error().message());
        const std::uint64_t count =
            stepper.count_until(SYS_epoll_wait, [&] { return test::is_readable_now(socket.borrow()); });
        proto::ReceivedDescriptors descriptors;
        if (!proto::receive(socket.borrow(), buffer, descriptors, proto::Wait::never))
            throw std::runtime_error("the broker ended the connection");
        if (round >= warming_up) counts.push_back(static_cast<double>(count));
    }
    if (!options.profile.empty()) write_profile(stepper, opener.broker_pid(), options.profile);
    return quantile(std::move(counts), 0.5);
}

// Tells the tracer where the process is: a system call that costs the process next to nothing.
void mark() {
    ::syscall(SYS_getppid);
}

[[noreturn]] void be_client(const std::string& address, const std::vector<std::string>& paths) {
    if (::setgroups(0, nullptr) != 0 || ::setresgid(test::nobody, test::nobody, test::nobody) != 0 ||
        ::setresuid(test::nobody, test::nobody, test::nobody) != 0)
        ::_exit(1);
    fdbroker_handle* broker = nullptr;
    if (fdbroker_connect(&broker, address.c_str()) < 0 || fdbroker_set_busy_poll(broker, 0) < 0) ::_exit(1);
    ::raise(SIGSTOP);
    for (std::size_t i = 0;; ++i) {
        mark();
        const int descriptor = fdbroker_open(broker, paths[i % paths.size()].c_str(), O_RDONLY, 0);
        mark();
        ::close(descriptor);
    }
}

// The client's instructions for a call of fdbroker_open() that is granted.
double of_client(const RunningOpener& opener, const std::vector<std::string>& paths) {
    const pid_t pid = ::fork();
    if (pid < 0) throw std::runtime_error("fork");
    if (pid == 0) be_client(opener.address(), paths);
    int status = 0;
    if (::waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
        throw std::runtime_error("the client has ended");
    Stepper stepper(pid);
    ::kill(pid, SIGCONT);
    const auto always = [] { return true; };
    std::vector<double> counts;
    for (unsigned round = 0; round < warming_up + counted; ++round) {
        stepper.count_until(SYS_getppid, always);
        const std::uint64_t count = stepper.count_until(SYS_getppid, always);
        if (round >= warming_up) counts.push_back(static_cast<double>(count));
    }
    ::kill(pid, SIGKILL);
    return quantile(std::move(counts), 0.5);
}

// False: a bound is missed, either way: one that has become too wide holds nothing.
bool is_within(const nlohmann::json& bounds, const std::string& what, double measured) {
    fmt::print("{:<44} {:>10.1f}", what, measured);
    (void)std::fflush(stdout);
    if (!bounds.contains(what)) {
        fmt::print("\n");
        return true;
    }
    constexpr double tolerance = 0.03;
    const double bound = bounds[what];
    const bool good = measured <= bound * (1 + tolerance) && measured >= bound * (1 - tolerance);
    fmt::print(" {:>10.0f} +- 3 %  {}\n", bound, good ? "holds" : "DOES NOT HOLD");
    return good;
}

bool run(const Options& options) {
    nlohmann::json bounds = nlohmann::json::object();
    if (!options.bounds.empty()) {
        const auto all = nlohmann::json::parse(std::ifstream(options.bounds));
        if (all.contains(options.compiler)) bounds = all[options.compiler];
    }
    // The processes that take turns share a CPU: waking a process on another one takes longer than a step.
    pin_to(static_cast<unsigned>(::sched_getcpu()));
    const Scene scene;
    const std::string directory = scene.directory().path();
    const std::string policy = scene.write_policy(1000);
    // How often a broker looks for the next request depends on the time.
    std::ofstream(policy, std::ios::app) << "limits: {busy_poll: 0}\n";
    const auto paths = scene.paths(1000);
    const RunningOpener silent(options.opener, directory, "silent", policy, Audit::none);
    fmt::print("{:<44} {:>10} {:>10}\n", "instructions in user space, each request", "counted", "bound");
    bool good = is_within(bounds, "client, granted", of_client(silent, paths));
    good &= is_within(bounds, "broker, granted", of_broker(options, silent, paths));
    good &= is_within(bounds, "broker, refused", of_broker({}, silent, scene.refused_paths()));
    return good;
}

}  // namespace

}  // namespace fdbroker::bench

int main(int argc, char** argv) try {
    fdbroker::bench::Options options;
    CLI::App app("Counts the instructions that a request takes in user space.");
    app.add_option("--opener", options.opener, "the opener")->capture_default_str();
    app.add_option("--bounds", options.bounds, "a JSON file of what may be counted, by compiler");
    app.add_option("--compiler", options.compiler, "the compiler's entry there");
    app.add_option("--profile", options.profile,
                   "write how often each address was executed for a granted request");
    CLI11_PARSE(app, argc, argv);
    constexpr int skipped = 77;
    if (::geteuid() != 0) {
        std::puts("needs root");
        return skipped;
    }
    return fdbroker::bench::run(options) ? 0 : 1;
} catch (const std::exception& error) {
    std::fputs((std::string("bench-path: ") + error.what() + '\n').c_str(), stderr);
    return 1;
}
