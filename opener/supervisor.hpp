// The process that root starts: it binds the sockets, starts generations and looks after them, keeps a duplicate of every
// connection, and writes the audit log. It acts on signals and on the link's fixed messages, and parses nothing that
// comes from a peer or from the policy.
#pragma once

#include <vector>

#include "opener/listener.hpp"
#include "opener/options.hpp"

namespace fdbroker::opener {

// Serves until SIGTERM or SIGINT. The result is the process's exit status: exit_policy when the first generation
// could not load its policy. Blocks the signals that it handles and leaves them blocked.
ExitStatus supervise(const Options& options, std::vector<Listener> listeners);

}  // namespace fdbroker::opener
