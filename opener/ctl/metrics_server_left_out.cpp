// SPDX-License-Identifier: MIT
// Where cpp-httplib was not there when openerctl was built.
#include "opener/ctl/metrics_server.hpp"

namespace fdbroker::ctl {

Ending serve_metrics(const std::string& /*control*/, const std::string& /*listen*/) {
    return failed(opener::exit_failed, "--listen: this openerctl was built without cpp-httplib");
}

}  // namespace fdbroker::ctl
