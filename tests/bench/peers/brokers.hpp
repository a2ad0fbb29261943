// SPDX-License-Identifier: MIT
// Other ways to get a descriptor from another process, or to be held to some files: each opens one path a call.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace fdbroker::bench {

struct Peer {
    std::string name;
    // Opens a file and closes it again. Throws when that fails.
    std::function<void(const char* path)> open;
};

// A way that cannot be had here, and the reason.
struct Missing {
    std::string name;
    std::string why;
};

struct Peers {
    std::vector<Peer> there{};
    std::vector<Missing> missing{};
};

// Starts every peer that is to be had, on the CPUs that the caller may use. `paths` are the files that will be asked for;
// their directory is `data`. Mounts are made at `directory`: the caller has a mount namespace for them.
Peers start_peers(const std::vector<std::string>& paths, const std::string& data,
                  const std::string& directory);

// In this process; throws std::system_error.
void open_and_close(const char* path);

// A broker in the manner of Chromium's: a socket pair for each call, a list of allowed paths compared one after the other.
// `rules` paths are in the list; those of `paths` are spread over it.
Peer listed_broker(const std::vector<std::string>& paths, unsigned rules);
// send_fds.py with this many patterns.
Peer python_broker(unsigned rules);
// sd-bus between two processes, or through a dbus-daemon of the benchmark; nullopt: built without libsystemd, or there is no
// dbus-daemon.
std::optional<Peer> bus_to_peer();
std::optional<Peer> bus_through_daemon(const std::string& directory);

}  // namespace fdbroker::bench
