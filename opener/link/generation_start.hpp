// SPDX-License-Identifier: MIT
// What a generation is started with: the orders that the supervisor gives, and what it shares with it.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "opener/audit/audit_ring.hpp"
#include "opener/config/options.hpp"
#include "opener/link/inflight_log.hpp"
#include "opener/link/link.hpp"
#include "opener/link/orphaned_requests.hpp"
#include "opener/link/start_report.hpp"
#include "opener/link/supervisor_facts.hpp"
#include "opener/policy_source/policy_snapshot.hpp"

namespace fdbroker::opener {

// A listening socket of the supervisor's, as its generations know it.
struct ListenerFacts {
    std::string name;
    std::string address;
    ListenerKind kind;
};

struct GenerationOrders {
    const Options& options;
    std::vector<ListenerFacts> listeners;  // in the order that `adopt` messages count
    std::uint32_t number;
    std::string cause;                        // why it is started, for the record
    bool recorded;                            // false: --audit none
    std::vector<EarlierGeneration> previous;  // whose requests may be unanswered
    FactsPage& facts;
    std::shared_ptr<PolicySnapshot> policy;    // to load; null: its files are read, and kept
    policy::UnknownAccounts unknown_accounts;  // of files that are read
    std::set<uid_t> avoided_uids;              // that others have been seen to run as
};

struct GenerationStart : GenerationOrders {
    Link& link;
    InflightLog& inflight;  // its own, empty
    AuditRing* ring;        // its own; null: nothing is recorded
    StartReport& report;
    PolicySnapshot& kept;       // what is loaded, or where what is read from the files is kept
    proto::BorrowedFd changes;  // a byte written here: a directory that rules name has become another
    proto::BorrowedFd output;   // standard error of its processes, which the supervisor copies to its own
};

}  // namespace fdbroker::opener
