// SPDX-License-Identifier: MIT
#include "tests/bench/run/remote.hpp"

#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace fdbroker::bench {

using proto::BorrowedFd;
using proto::UniqueFd;

pid_t spawn(const std::vector<std::string>& command, BorrowedFd input, BorrowedFd output) {
    std::vector<char*> arguments;
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, input.number(), STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, output.number(), STDOUT_FILENO);
    pid_t pid = -1;
    const int error = ::posix_spawnp(&pid, arguments.front(), &actions, nullptr, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) throw std::system_error(error, std::generic_category(), command.front());
    return pid;
}

Remote::Remote(const std::vector<std::string>& command) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        throw std::system_error(errno, std::generic_category(), "socketpair");
    socket_ = UniqueFd(ends[0]);
    const UniqueFd theirs(ends[1]);
    pid_ = spawn(command, theirs.borrow(), theirs.borrow());
}

Remote::~Remote() {
    socket_.reset();
    ::waitpid(pid_, nullptr, 0);
}

void Remote::work(Work::Call call, unsigned times) const {
    const Work work{.call = call, .times = times};
    char answer = 0;
    if (::send(socket_.number(), &work, sizeof work, MSG_NOSIGNAL) != sizeof work ||
        ::recv(socket_.number(), &answer, 1, 0) != 1)
        throw std::runtime_error("the probe has ended");
}

}  // namespace fdbroker::bench
