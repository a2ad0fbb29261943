// SPDX-License-Identifier: MIT
// opener(8): wires the command line, the sockets and the supervisor together.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>

#include "opener/base/build_config.hpp"
#include "opener/base/log_stderr.hpp"
#include "opener/config/invocation.hpp"
#include "opener/config/options.hpp"
#include "opener/confinement/privileges.hpp"
#include "opener/identity/accounts.hpp"
#include "opener/supervisor/check.hpp"
#include "opener/supervisor/legacy.hpp"
#include "opener/supervisor/listener.hpp"
#include "opener/supervisor/supervisor.hpp"
#include "opener/supervisor/take_over_command.hpp"
#include "proto/unique_fd.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;

namespace {

// So that no socket or file gets the number of a standard stream, which a broker replaces. Whoever uses one that was
// closed gets EBADF, as before.
void fill_standard_descriptors() {
    for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (::fcntl(number, F_GETFD) != -1) continue;
        proto::UniqueFd filler(::open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY));
        static_cast<void>(filler.release());
    }
}

// The directories of the default sockets and records: tmpfiles.d, which makes them, may not be there. Who names a place of
// his own has made it.
void make_socket_directory() {
    ::mkdir("/run/fdbroker", 0755);
}

void make_log_directory(const Options& options) {
    if (options.audit == AuditDestination::file && options.audit_file == default_audit_file)
        ::mkdir("/var/log/fdbroker", 0750);
}

template <typename Setting>
const Setting* setting_for(const std::vector<Setting>& settings, const std::string& name) {
    const Setting* general = nullptr;
    for (const Setting& setting : settings) {
        if (setting.name == name) return &setting;
        if (setting.name.empty()) general = &setting;
    }
    return general;
}

bool serves_workers(const Listener& listener) {
    return listener.kind() == Listener::Kind::workers;
}

// The listener that an opener before this one has left for the same, or a new one.
proto::Result<Listener> listen(const ListenOption& option, mode_t mode,
                               const std::optional<std::string>& group, Listener::Kind kind,
                               Inheritance& inheritance) {
    if (inheritance.legacy) {
        for (const LeftListener& left : inheritance.legacy->listeners) {
            if (left.name != option.name || left.address != option.address.text() || left.kind != kind)
                continue;
            if (auto socket = inheritance.take(left.socket))
                return Listener::inherit(left, std::move(*socket));
        }
    }
    return Listener::open(option, mode, group, kind);
}

// Those that the command line no longer names: a path that nobody listens on is removed.
void close_other_listeners(Inheritance& inheritance) {
    if (!inheritance.legacy) return;
    for (const LeftListener& left : inheritance.legacy->listeners)
        if (auto socket = inheritance.take(left.socket))
            static_cast<void>(Listener::inherit(left, std::move(*socket)));
}

// The command line takes precedence over systemd's sockets.
proto::Result<std::vector<Listener>> open_listeners(const Options& options, Inheritance& inheritance) {
    std::vector<ListenOption> wanted = options.listen;
    std::vector<Listener> listeners;
    auto passed = Listener::from_systemd(std::move(inheritance.sockets));
    if (!passed) return std::unexpected(passed.error());
    for (Listener& listener : *passed) {
        const bool is_wanted =
            listener.kind() == Listener::Kind::control ? options.control.by_default : wanted.empty();
        if (is_wanted) listeners.push_back(std::move(listener));
    }
    if (wanted.empty() && std::ranges::none_of(listeners, serves_workers)) {
        make_socket_directory();
        wanted.push_back({default_listener, *proto::Address::parse(proto::default_socket)});
    }
    for (const ListenOption& option : wanted) {
        const ListenMode* mode = setting_for(options.listen_modes, option.name);
        const ListenGroup* group = setting_for(options.listen_groups, option.name);
        auto listener = listen(option, mode != nullptr ? mode->mode : ListenMode{}.mode,
                               group != nullptr ? std::optional(group->group) : std::nullopt,
                               Listener::Kind::workers, inheritance);
        if (!listener) return std::unexpected(listener.error());
        listeners.push_back(std::move(*listener));
    }
    return listeners;
}

// False: there is none, and the opener was told to have one.
bool open_control(const ControlOptions& control, std::vector<Listener>& listeners, Inheritance& inheritance) {
    if (!control.address || !std::ranges::all_of(listeners, serves_workers)) return true;
    if (control.by_default) make_socket_directory();
    std::optional<std::string> group = control.group;
    if (!group && SystemAccounts().gid_of(metrics_group)) group = metrics_group;
    auto listener = listen({std::string(Listener::control_name), *control.address}, 0660, group,
                           Listener::Kind::control, inheritance);
    if (listener) {
        listeners.push_back(std::move(*listener));
        return true;
    }
    log_error(listener.error().message());
    if (control.by_default)
        log_stderr(FDBROKER_OPENERCTL " will not reach this opener; --control names another socket");
    return control.by_default;
}

// Whether there is a policy to load. Who starts the opener for the first time is told how to begin.
bool has_policy(const std::string& path) {
    if (::access(path.c_str(), F_OK) == 0 || errno != ENOENT) return true;
    log_stderr("policy: " + path + ": " + std::strerror(ENOENT));
    log_stderr("a policy says who may open what: begin with one of " FDBROKER_EXAMPLES
               ", or write one as fdbroker-policy(5) says; --policy names another place");
    return false;
}

}  // namespace

// Catches nothing: what is thrown ends the process where it was thrown, and std::terminate says what it was. Whoever
// unwound to here could be a child of the supervisor's, and would take its sockets away.
int main(int argc, char** argv) {
    fill_standard_descriptors();
    const auto invocation = Invocation::of_this_process(argc, argv);
    const auto parsed = parse_options(argc, argv);
    if (const auto* status = std::get_if<ExitStatus>(&parsed)) return *status;
    const auto& options = std::get<Options>(parsed);
    if (invocation.has_other_take_over()) return have_taken_over(options.control);
    auto inheritance = take_inheritance();
    if (!inheritance) {
        log_stderr(inheritance.error().message());
        return exit_failed;
    }
    // Another opener may have left its own.
    if (!inheritance->policy && !has_policy(options.policy)) return exit_policy;
    if (const auto able = require_root_capabilities(); !able) {
        log_error(able.error().message());
        return exit_failed;
    }
    if (options.check) return check(options);
    auto listeners = open_listeners(options, *inheritance);
    if (!listeners) {
        log_error(listeners.error().message());
        return exit_failed;
    }
    if (!open_control(options.control, *listeners, *inheritance)) return exit_failed;
    close_other_listeners(*inheritance);
    make_log_directory(options);
    return supervise(options, invocation, std::move(*listeners), std::move(*inheritance));
}
