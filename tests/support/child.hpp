// SPDX-License-Identifier: MIT
// Code of a test that must run as somebody else, or with something of the system changed, runs in a forked
// child; what it throws and the doctest assertions that fail in it come back as an exception of the parent
// (std::runtime_error).
//
// The child is a copy of the test with one thread, holding copies of all its descriptors.
#pragma once

#include <sys/types.h>

#include <functional>

#include "tests/support/deadline.hpp"
#include "tests/support/process.hpp"

namespace fdbroker::test {

void run_in_child(const std::function<void()>& body, Deadline deadline = in_good_time());

// As a user without capabilities, whose group has the same number, and without supplementary groups. Needs root.
void run_as(uid_t uid, const std::function<void()>& body, Deadline deadline = in_good_time());
void run_as(const Identity& identity, const std::function<void()>& body, Deadline deadline = in_good_time());

// Runs `body` in a child with a private mount namespace, from which no mount reaches another. Needs root.
void run_in_mount_namespace(const std::function<void()>& body, Deadline deadline = in_good_time());

}  // namespace fdbroker::test
