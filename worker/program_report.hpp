// SPDX-License-Identifier: MIT
// `worker sandbox-report --program`: the calls of a program that fdbroker_confine() would refuse, from a trace of it.
#pragma once

#include <string>
#include <vector>

#include "worker/ending.hpp"
#include "worker/sandbox_report.hpp"

namespace fdbroker::worker {

// Runs the program unconfined, with the standard descriptors of this process, and prints the calls that the filter of
// fdbroker_confine() would refuse. Calls that the loader makes before the program begins are left out. If the program
// confines itself, only later calls count for the status. failed: a call would be refused, or the program could not be
// traced.
ExitStatus program_report(const std::vector<std::string>& command, ReportFormat format);

}  // namespace fdbroker::worker
