// What all requests of a generation are carried out with, in its loop as in a helper of its.
#pragma once

#include "opener/metrics.hpp"
#include "opener/resolver.hpp"
#include "policy/policy.hpp"

namespace fdbroker::opener {

struct Tools {
    const policy::Policy& policy;
    const Resolver& resolver;
    const Inspector& inspector;
    Metrics& metrics;  // of the process that carries out
};

}  // namespace fdbroker::opener
