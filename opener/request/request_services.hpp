// SPDX-License-Identifier: MIT
// What all requests of a generation are carried out with, in its loop as in a helper of its.
#pragma once

#include "opener/metrics/metrics.hpp"
#include "opener/resolve/resolver.hpp"
#include "policy/matching/policy.hpp"

namespace fdbroker::opener {

struct RequestServices {
    const policy::Policy& policy;
    const Resolver& resolver;
    const Inspector& inspector;
    Metrics& metrics;  // metrics of the process that carries out
};

}  // namespace fdbroker::opener
