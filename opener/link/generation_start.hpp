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
    std::vector<EarlierGeneration> previous;  // generations that may have left requests unanswered
    FactsPage& facts;
    std::shared_ptr<PolicySnapshot> policy;    // the policy to load; null: read from its files, and kept
    policy::UnknownAccounts unknown_accounts;  // when files are read
    std::set<uid_t> avoided_uids;              // that others have been seen to run as
    std::string shadow{};                      // the candidate that decides beside the policy; empty: none
    bool needs_shadow = false;  // a candidate that does not load keeps the generation from starting
};

struct GenerationStart : GenerationOrders {
    GenerationLink& link;
    InflightLog& inflight;  // this generation's, empty
    AuditRing* ring;        // this generation's; null: nothing is recorded
    StartReport& report;
    PolicySnapshot& snapshot;   // read where `policy` is given, else written
    proto::BorrowedFd changes;  // a byte written here: a directory that rules name has become another
    proto::BorrowedFd
        output;  // standard error of the generation's processes; the supervisor copies it to its own
};

}  // namespace fdbroker::opener
