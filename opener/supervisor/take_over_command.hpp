// SPDX-License-Identifier: MIT
// `opener --take-over`: has the opener that runs execute its program anew.
#pragma once

#include "opener/config/options.hpp"

namespace fdbroker::opener {

// Asks at the control socket, and waits until the answer is there. exit_failed, exit_policy: the opener goes on as it is;
// exit_unreachable: nobody answers; exit_usage: there is no control socket to ask at.
ExitStatus have_taken_over(const ControlOptions& control);

}  // namespace fdbroker::opener
