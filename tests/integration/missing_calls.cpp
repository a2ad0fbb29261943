// SPDX-License-Identifier: MIT
#include "tests/integration/missing_calls.hpp"

#include <memory>
#include <system_error>

namespace fdbroker::test {

void take_away(const std::vector<MissingCall>& calls) {
    const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(SCMP_ACT_ALLOW),
                                                                   seccomp_release);
    int result = 0;
    for (const MissingCall& call : calls) {
        const auto action = SCMP_ACT_ERRNO(static_cast<std::uint32_t>(call.errno_value));
        const MissingCall::Argument argument = call.argument.value_or(MissingCall::Argument{});
        const scmp_arg_cmp condition{.arg = argument.index,
                                     .op = SCMP_CMP_EQ,
                                     .datum_a = static_cast<std::uint64_t>(argument.value),
                                     .datum_b = 0};
        if (result != 0) break;
        result = seccomp_rule_add_array(filter.get(), action, call.number, call.argument ? 1 : 0, &condition);
    }
    if (result == 0) result = seccomp_load(filter.get());
    if (result != 0) throw std::system_error(-result, std::generic_category(), "libseccomp");
}

}  // namespace fdbroker::test
