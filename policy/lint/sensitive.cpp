// SPDX-License-Identifier: MIT
#include "policy/lint/sensitive.hpp"

#include <algorithm>

#include "policy/matching/cover.hpp"

namespace fdbroker::policy {
namespace {

using Within = Sensitive::Within;

struct Written {
    std::string_view what;
    Within within;
    std::string_view pattern;
};

// Paths with varying numbers or names stand here with likely ones: a rule that names others is not found.
constexpr Written written[] = {
    {"password hashes", Within::all, "/etc/{shadow,shadow-,gshadow,gshadow-}"},
    {"sudo's rules", Within::all, "/etc/sudoers"},
    {"sudo's rules", Within::all, "/etc/sudoers.d/**"},
    {"private keys", Within::all, "/etc/ssh/ssh_host_{rsa,dsa,ecdsa,ed25519}_key"},
    {"private keys", Within::all, "/etc/ssl/private/**"},
    {"private keys", Within::all, "/root/.ssh/id_{rsa,dsa,ecdsa,ed25519}"},
    {"private keys", Within::all, "/home/*/.ssh/id_{rsa,dsa,ecdsa,ed25519}"},
    {"home directories", Within::wildcards, "/root/**"},
    {"home directories", Within::wildcards, "/home/**"},
    {"procfs", Within::all, "/proc/{1,self}/{environ,maps,mem,status,cmdline}"},
    {"procfs", Within::wildcards, "/proc/**"},
    {"memory or disks", Within::all, "/dev/{mem,kmem,port,kmsg,sda,vda,nvme0n1,dm-0}"},
    {"devices", Within::wildcards, "/dev/**"},
};

bool has_variable(const Pattern& pattern) {
    return std::ranges::any_of(pattern.components,
                               [](const Component& component) { return component.glob.has_variable(); });
}

}  // namespace

std::vector<Sensitive> sensitive_paths() {
    std::vector<Sensitive> all;
    for (const Written& one : written) {
        auto patterns = parse_pattern(one.pattern).value();
        for (Pattern& pattern : patterns) all.push_back({one.what, one.within, std::move(pattern)});
    }
    return all;
}

const Pattern* reached(const Pattern& rule, const Sensitive& sensitive) {
    if (covers(rule, Reach::itself, sensitive.pattern)) return &sensitive.pattern;
    // `/home/${user}/**` is everyone's own.
    const bool suspicious = sensitive.within == Within::all || (!rule.is_literal() && !has_variable(rule));
    return suspicious && covers(sensitive.pattern, Reach::itself, rule) ? &rule : nullptr;
}

}  // namespace fdbroker::policy
