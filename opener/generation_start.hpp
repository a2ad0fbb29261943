// What a generation is started with: the orders that the supervisor gives, and what it shares with it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "opener/audit_ring.hpp"
#include "opener/journal.hpp"
#include "opener/kept_policy.hpp"
#include "opener/link.hpp"
#include "opener/listener.hpp"
#include "opener/options.hpp"
#include "opener/predecessors.hpp"
#include "opener/start_report.hpp"
#include "opener/supervisor_facts.hpp"

namespace fdbroker::opener {

// A listening socket of the supervisor's, as its generations know it.
struct ListenerFacts {
    std::string name;
    std::string address;
    Listener::Kind kind;
};

struct GenerationOrders {
    const Options& options;
    std::vector<ListenerFacts> listeners;  // in the order that `adopt` messages count
    std::uint32_t number;
    std::string cause;                  // why it is started, for the record
    bool recorded;                      // false: --audit none
    std::vector<Predecessor> previous;  // whose requests may be unanswered
    FactsPage& facts;
    std::shared_ptr<KeptPolicy> policy;  // to load; null: its files are read, and kept
};

struct GenerationStart : GenerationOrders {
    Link& link;
    Journal& journal;  // its own, empty
    AuditRing* ring;   // its own; null: nothing is recorded
    StartReport& report;
    KeptPolicy& kept;           // what is loaded, or where what is read from the files is kept
    proto::BorrowedFd changes;  // a byte written here: a directory that rules name has become another
};

}  // namespace fdbroker::opener
