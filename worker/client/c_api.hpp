// SPDX-License-Identifier: MIT
// The C header for C++ code of this house. C++ allows no `struct fdbroker` beside `namespace fdbroker`, so the handle
// has another name here; the functions are the same, since their linkage is C's.
#pragma once

#define fdbroker fdbroker_handle
#include "worker/client/fdbroker.h"
#undef fdbroker
