// SPDX-License-Identifier: MIT
#include "worker/sandbox/filter_run.hpp"

#include <cstring>

namespace fdbroker::worker {
namespace {

bool holds(std::uint16_t comparison, std::uint32_t value, std::uint32_t with) {
    switch (comparison) {
        case BPF_JEQ:
            return value == with;
        case BPF_JGT:
            return value > with;
        case BPF_JGE:
            return value >= with;
        default:
            return (value & with) != 0;  // BPF_JSET
    }
}

}  // namespace

std::uint32_t run_filter(std::span<const sock_filter> program, const seccomp_data& call) noexcept {
    std::uint32_t value = 0;
    for (std::size_t at = 0; at < program.size(); ++at) {
        const sock_filter& one = program[at];
        switch (BPF_CLASS(one.code)) {
            case BPF_LD:
                if (one.k + sizeof value > sizeof call) return SECCOMP_RET_KILL_PROCESS;
                std::memcpy(&value, reinterpret_cast<const char*>(&call) + one.k, sizeof value);
                break;
            case BPF_ALU:
                if (BPF_OP(one.code) != BPF_AND) return SECCOMP_RET_KILL_PROCESS;
                value &= one.k;
                break;
            case BPF_JMP:
                at += BPF_OP(one.code) == BPF_JA              ? one.k
                      : holds(BPF_OP(one.code), value, one.k) ? one.jt
                                                              : one.jf;
                break;
            case BPF_RET:
                return one.k;
            default:
                return SECCOMP_RET_KILL_PROCESS;
        }
    }
    return SECCOMP_RET_KILL_PROCESS;
}

}  // namespace fdbroker::worker
