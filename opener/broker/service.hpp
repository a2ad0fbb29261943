// SPDX-License-Identifier: MIT
// All that the sessions of a generation share. Used by one thread.
#pragma once

#include <array>

#include "opener/audit/audit_trail.hpp"
#include "opener/broker/busy_wait.hpp"
#include "opener/control/server.hpp"
#include "opener/helpers/helper_pool.hpp"
#include "opener/link/inflight_log.hpp"
#include "opener/link/orphaned_requests.hpp"
#include "opener/quota/user_quota.hpp"
#include "opener/request/delivery.hpp"
#include "opener/request/request_services.hpp"
#include "opener/request/shadow.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

struct Service {
    RequestServices request_services;
    AuditTrail& audit;
    InflightLog& inflight;
    ControlServer& control;
    HelperPool& helpers;
    OrphanedRequests& orphaned_requests;
    UserQuotas& quotas;

    BusyWait busy_wait;
    Delivery delivery{};
    std::array<proto::Request, proto::max_requests> requests{};
    Shadow* shadow = nullptr;  // null: no candidate decides beside the policy
};

}  // namespace fdbroker::opener
