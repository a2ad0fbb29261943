// SPDX-License-Identifier: MIT
// fstat(3) behind a filter that refuses every call with a path.
//
// The C libraries from glibc 2.33 to 2.38 make it newfstatat(fd, "", AT_EMPTY_PATH): a path, which a filter cannot read.
// The filter lets that call raise SIGSYS instead (SECCOMP_RET_TRAP), and this handler makes it the fstat call that it
// stands for when its path is empty. What it does is nothing that the process could not do itself.
#pragma once

namespace fdbroker::worker {

enum class Fstat { served, refused };

// Installs the handler of SIGSYS. `refused`, and nothing has changed, where that would break something: the program has
// a handler of its own or ignores the signal, or blocks it in this thread (the kernel ends a process that it cannot tell),
// or the architecture is neither x86-64 nor AArch64.
Fstat install_fstat_handler();

}  // namespace fdbroker::worker
