// SPDX-License-Identifier: MIT
// `openerctl metrics --listen`: the opener's metrics by HTTP, for Prometheus.
#pragma once

#include <string>

#include "opener/ctl/failure.hpp"

namespace fdbroker::ctl {

// Serves GET /metrics, and nothing else, until the process is ended; each time the opener at `control` is asked anew.
// `listen`: ADDRESS:PORT, [ADDRESS]:PORT, or fd:N for a listening socket that was inherited (systemd's is fd:3). Fails when
// it cannot listen: exit_usage, exit_failed.
Ending serve_metrics(const std::string& control, const std::string& listen);

}  // namespace fdbroker::ctl
