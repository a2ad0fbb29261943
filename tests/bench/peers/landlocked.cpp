// SPDX-License-Identifier: MIT
#include "tests/bench/peers/landlocked.hpp"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <stdexcept>

#include "tests/bench/peers/brokers.hpp"

namespace fdbroker::bench {

namespace {

void restrict_to(const std::string& directory) {
    landlock_ruleset_attr attributes{};
    attributes.handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE;
    const proto::UniqueFd ruleset(
        static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0)));
    const proto::UniqueFd parent(::open(directory.c_str(), O_PATH | O_CLOEXEC));
    if (!ruleset || !parent) fail("Landlock");
    landlock_path_beneath_attr beneath{};
    beneath.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE;
    beneath.parent_fd = parent.number();
    if (::syscall(SYS_landlock_add_rule, ruleset.number(), LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0 ||
        ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        ::syscall(SYS_landlock_restrict_self, ruleset.number(), 0) < 0) {
        fail("Landlock");
    }
}

void serve(int socket, const std::vector<std::string>& paths) {
    char byte = 0;
    while (::recv(socket, &byte, 1, 0) == 1) {
        for (unsigned i = 0; i < opens_in_child; ++i) open_and_close(paths[i % paths.size()].c_str());
        if (::send(socket, &byte, 1, MSG_NOSIGNAL) != 1) return;
    }
}

}  // namespace

OpeningChild::OpeningChild(const std::vector<std::string>& paths, const std::string& data,
                           Restriction restriction)
    : server_(SOCK_SEQPACKET, [&](int socket) {
          if (restriction == Restriction::landlock) restrict_to(data);
          serve(socket, paths);
      }) {}

void OpeningChild::run() {
    char byte = 0;
    if (::send(server_.socket(), &byte, 1, MSG_NOSIGNAL) != 1 || ::recv(server_.socket(), &byte, 1, 0) != 1) {
        throw std::runtime_error("Landlock: not to be had here");
    }
}

}  // namespace fdbroker::bench
