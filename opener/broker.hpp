// A generation: one process, one policy, from loading it to the last reply.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "opener/audit_ring.hpp"
#include "opener/journal.hpp"
#include "opener/link.hpp"
#include "opener/options.hpp"

namespace fdbroker::opener {

struct GenerationOrders {
    const Options& options;
    std::vector<std::string> listeners;  // their names, in the order that `adopt` messages count
    std::uint32_t number;
    std::string cause;               // why it is started, for the record
    AuditRing* ring;                 // null: nothing is recorded
    std::vector<Journal*> previous;  // whose requests may be unanswered. Read when this one is activated.
};

struct GenerationStart : GenerationOrders {
    Link& link;
    Journal& journal;  // its own, empty
};

// Runs a generation in the calling process, which the supervisor has just forked: loads the policy, confines the
// process from it, tells the supervisor that it is ready and serves until it is told to retire. What is wrong with the
// policy or the confinement is said on standard error.
[[noreturn]] void run_generation(const GenerationStart& start);

// How a generation ended, from waitpid(2): "exited with status 3".
std::string describe_end(int status);

}  // namespace fdbroker::opener
