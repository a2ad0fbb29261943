// SPDX-License-Identifier: MIT
// fstat(3) behind a filter that refuses every call with a path.
//
// The C libraries from glibc 2.33 to 2.38 make it newfstatat(fd, "", AT_EMPTY_PATH): a path, which a filter cannot read.
// The filter lets that call raise SIGSYS instead (SECCOMP_RET_TRAP). With an empty path this handler makes it the fstat
// call that it stands for. What it does is nothing that the process could not do itself.
#pragma once

namespace fdbroker::worker {

enum class Fstat { served, refused };

// Installs the handler of SIGSYS. `refused`, and nothing has changed, where that would break something: the program handles
// or ignores the signal already, or blocks it in this thread. The kernel ends a process that it cannot tell. Also refused:
// an architecture that is neither x86-64 nor AArch64.
Fstat install_fstat_handler();

// The same handler, which also tells on standard error of calls that a filter refuses by SIGSYS: their names, and the
// addresses that led there. False: it could not be installed, as above. For a program that is being made: it calls
// backtrace(3), which no signal handler should.
bool install_telling_handler();

}  // namespace fdbroker::worker
