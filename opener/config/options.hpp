// SPDX-License-Identifier: MIT
// The opener's command line.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "proto/address.hpp"

namespace fdbroker::opener {

inline constexpr std::size_t max_workers = 256;  // --workers

// The protocol of a listening socket.
enum class ListenerKind {
    workers,  // SOCK_SEQPACKET
    control,  // SOCK_STREAM
};

// The name of the listener that was given none.
inline constexpr const char* default_listener = "default";

struct ListenOption {
    std::string name;  // as `sockets:` in roles refers to it
    proto::Address address;
};

// Mode and group of a listening socket that is a path. `name` empty: for every socket that is not named.
struct ListenMode {
    std::string name;
    mode_t mode = 0660;
};
struct ListenGroup {
    std::string name;
    std::string group;
};

struct ControlOptions {
    // none: nobody controls the opener.
    std::optional<proto::Address> address{};
    // Nobody asked for the control socket: where it cannot be had, the opener serves without.
    bool by_default = true;
    std::optional<std::string> group{};  // the group that may control; none: root alone
};

// Workers that the opener starts and looks after.
struct WorkerOptions {
    std::string name = "workers";  // as `sockets:` in roles refers to them
    unsigned count = 0;
    std::string user{};  // empty: the opener's own, who is not root
    std::vector<std::string> command{};
    std::vector<std::string> environment{};  // NAME or NAME=VALUE, besides what the user has
    std::chrono::seconds watchdog{0};        // within which a worker answers when asked; 0: it is not asked
};

enum class AuditDestination { file, standard_output, journal, none };

// The group whose members may ask the control socket for metrics, and for nothing else; where there is one.
inline constexpr const char* metrics_group = "fdbroker-metrics";

inline constexpr const char* default_audit_file = "/var/log/fdbroker/audit.jsonl";

struct Options {
    std::string policy = "/etc/fdbroker/policy.yaml";
    std::vector<ListenOption> listen{};  // empty: what systemd passed, else the default socket
    std::vector<ListenMode> listen_modes{};
    std::vector<ListenGroup> listen_groups{};
    ControlOptions control{};
    std::optional<WorkerOptions> workers{};
    AuditDestination audit = AuditDestination::file;
    std::string audit_file = default_audit_file;
    std::optional<std::string> user{};
    std::chrono::seconds start_timeout{60};  // for a generation to load its policy and be confined
    // As the policy's `limits: busy_poll`, and not more; none: what the policy says.
    std::optional<std::chrono::microseconds> busy_poll{};
    std::string shadow{};  // a candidate that decides beside the policy; empty: none
    bool check = false;
    bool require_confinement = false;
};

// Exit statuses of every command (opener(8)).
enum ExitStatus { exit_done = 0, exit_failed = 1, exit_usage = 2, exit_policy = 3, exit_unreachable = 4 };

// The options, or the status to exit with: --help and --version have been printed then, or what is wrong was said on
// standard error.
std::variant<Options, ExitStatus> parse_options(int argc, char** argv);

}  // namespace fdbroker::opener
