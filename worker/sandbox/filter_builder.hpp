// SPDX-License-Identifier: MIT
// A seccomp filter under construction: what the filters of confined workers and of programs under `worker run` share.
#pragma once

#include <linux/filter.h>
#include <seccomp.h>

#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"
#include "worker/sandbox/filter_code.hpp"

namespace fdbroker::worker {

// The kernel looks at the low 32 bits of an int alone, so the filter does.
scmp_arg_cmp is(unsigned argument, unsigned value);
// None of the bits is set.
scmp_arg_cmp has_none(unsigned argument, unsigned bits);

// Calls by name, because not every architecture, nor every libseccomp, knows each of them: a name that is not known adds
// nothing. A rule with comparisons comes before one without, whichever was named first (FilterRule).
class FilterBuilder {
  public:
    // The actions for calls that no rule names, and for those of a foreign architecture.
    FilterBuilder(std::uint32_t otherwise, std::uint32_t foreign);

    void allow(const char* name) { add(SCMP_ACT_ALLOW, name, {}); }
    void allow(const char* name, std::initializer_list<scmp_arg_cmp> comparisons) {
        add(SCMP_ACT_ALLOW, name, comparisons);
    }
    void allow_all(std::span<const char* const> names) {
        for (const char* name : names) allow(name);
    }
    // Allowed when the argument is one of the values.
    void allow_values(const char* name, unsigned argument, std::initializer_list<unsigned> values) {
        for (const unsigned value : values) allow(name, {is(argument, value)});
    }
    void trap(const char* name, std::initializer_list<scmp_arg_cmp> comparisons) {
        add(SCMP_ACT_TRAP, name, comparisons);
    }
    void refuse(const char* name, int error, std::initializer_list<scmp_arg_cmp> comparisons = {}) {
        add(SCMP_ACT_ERRNO(static_cast<unsigned>(error)), name, comparisons);
    }
    void notify(const char* name, std::initializer_list<scmp_arg_cmp> comparisons = {}) {
        add(SCMP_ACT_NOTIFY, name, comparisons);
    }

    // Refused calls go into the kernel's log, where that logs them.
    void note_in_kernel_log() { noted_ = true; }

    // Enters the filter, for this thread and what it starts.
    proto::Result<void> load();
    // The filter as the kernel would be given it.
    std::vector<sock_filter> program() { return filter_code(rules_); }
    // The same, and returns the descriptor on which the calls that notify() names are told (seccomp_unotify(2)). Where
    // the kernel can (Linux 5.19), a call that has been received ends by nothing but a fatal signal.
    proto::Result<proto::UniqueFd> load_with_listener();

  private:
    void add(std::uint32_t action, const char* name, std::span<const scmp_arg_cmp> comparisons);

    FilterRules rules_;
    bool noted_ = false;
};

// Calls that concern open descriptors, memory, threads, time and signals to oneself: allowed to every confined process,
// whatever the arguments.
std::span<const char* const> harmless_calls();
// Threads and forks into no new namespace and under no other parent.
void allow_clone(FilterBuilder& builder);

}  // namespace fdbroker::worker
