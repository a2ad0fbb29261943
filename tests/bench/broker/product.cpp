// SPDX-License-Identifier: MIT
#include "tests/bench/broker/product.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <span>
#include <sstream>
#include <stdexcept>

#include "tests/support/files.hpp"
#include "tests/support/wait.hpp"

namespace fdbroker::bench {

namespace {

test::Command command_of(const std::string& program, const std::string& base, const std::string& policy,
                         Audit audit, Shadow shadow) {
    test::Command command{.arguments = {program, "--control", "none", "--policy", policy, "--listen",
                                        base + ".sock", "--listen-mode", "0666", "--audit",
                                        audit == Audit::file ? base + ".jsonl" : "none"}};
    if (shadow == Shadow::same)
        command.arguments.insert(command.arguments.end(), {std::string("--shadow"), policy});
    return command;
}

[[noreturn]] void give_up(const char* path, int error, const char* reason) {
    (void)std::fprintf(stderr, "bench-broker: %s: %s: %s\n", path, std::strerror(-error), reason);
    std::abort();
}

}  // namespace

RunningOpener::RunningOpener(const std::string& program, const std::string& directory,
                             const std::string& name, const std::string& policy, Audit audit, Shadow shadow)
    : address_(directory + "/" + name + ".sock"),
      process_(test::Process::start(command_of(program, directory + "/" + name, policy, audit, shadow))) {
    test::wait_for_listener(address_);
}

RunningOpener::~RunningOpener() {
    try {
        process_.signal(SIGTERM);
        (void)process_.wait();
    } catch (const std::exception& error) {
        (void)std::fprintf(stderr, "bench-broker: %s\n", error.what());
    }
}

pid_t RunningOpener::broker_pid() const {
    // A broker that has answered is started altogether.
    const Connection answered(address_);
    const std::string pid = std::to_string(process_.pid());
    std::istringstream children(test::read_file("/proc/" + pid + "/task/" + pid + "/children"));
    // The other child looks names up, and says nothing to anybody.
    for (std::string child; children >> child;) {
        const std::string error = std::filesystem::read_symlink("/proc/" + child + "/fd/2").string();
        if (error.starts_with("pipe:")) return std::stoi(child);
    }
    throw std::runtime_error("the opener has no broker");
}

Connection::Connection(const std::string& address) {
    const int error = fdbroker_connect(&broker_, address.c_str());
    if (error < 0) throw std::runtime_error(address + ": " + std::strerror(-error));
}

void Connection::open_and_close(const char* path) const {
    const int descriptor = fdbroker_open(broker_, path, O_RDONLY, 0);
    if (descriptor < 0) give_up(path, descriptor, fdbroker_reason(broker_));
    ::close(descriptor);
}

void Connection::be_refused(const char* path) const {
    const int error = fdbroker_open(broker_, path, O_RDONLY, 0);
    if (error != -EACCES) give_up(path, error, "should have been refused");
}

void Connection::open_and_close_all(const std::vector<fdbroker_request>& requests) const {
    std::array<int, 1024> descriptors;
    const int error = fdbroker_open_many(broker_, requests.data(), requests.size(), descriptors.data());
    if (error < 0) give_up("open_many", error, fdbroker_reason(broker_));
    for (std::size_t i = 0; i < requests.size(); ++i) {
        if (descriptors[i] < 0) give_up(requests[i].path, descriptors[i], fdbroker_reason(broker_));
        ::close(descriptors[i]);
    }
}

void Connection::open_and_close_outstanding(const std::vector<fdbroker_request>& requests) const {
    for (const fdbroker_request& request : requests)
        if (const int taken = fdbroker_submit(broker_, &request, 1); taken != 1)
            give_up("submit", taken, fdbroker_reason(broker_));
    std::array<fdbroker_completion, 64> completions;
    completions.front().size = sizeof(fdbroker_completion);
    for (std::size_t done = 0; done < requests.size();) {
        const int count = fdbroker_complete(broker_, completions.data(), completions.size(), -1);
        if (count < 0) give_up("complete", count, fdbroker_reason(broker_));
        for (const fdbroker_completion& one : std::span(completions).first(static_cast<std::size_t>(count))) {
            if (one.result < 0) give_up("complete", one.result, one.reason);
            ::close(one.result);
        }
        done += static_cast<std::size_t>(count);
    }
}

}  // namespace fdbroker::bench
