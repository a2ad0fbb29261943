// SPDX-License-Identifier: MIT
// Rules of a filter as the program that is made of them, which is carried out here.
#include <doctest/doctest.h>
#include <linux/seccomp.h>
#include <seccomp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "worker/sandbox/filter_code.hpp"
#include "worker/sandbox/filter_run.hpp"

using namespace fdbroker::worker;

namespace {

constexpr std::uint32_t otherwise = SECCOMP_RET_ERRNO | 1;
constexpr std::uint32_t foreign = SECCOMP_RET_KILL_PROCESS;
constexpr unsigned some_call = 16;

seccomp_data call(std::uint32_t number, std::uint64_t first = 0, std::uint64_t second = 0) {
    seccomp_data data{};
    data.nr = static_cast<int>(number);
    data.arch = ::seccomp_arch_native();
    data.args[0] = first;
    data.args[1] = second;
    return data;
}

std::uint32_t verdict(const std::vector<FilterRule>& rules, const seccomp_data& data) {
    return run_filter(filter_code({.otherwise = otherwise, .foreign = foreign, .rules = rules}), data);
}

scmp_arg_cmp compare(unsigned argument, scmp_compare how, std::uint64_t with, std::uint64_t masked = 0) {
    return {.arg = argument, .op = how, .datum_a = with, .datum_b = masked};
}

bool holds(const scmp_arg_cmp& comparison, const seccomp_data& data) {
    const std::uint64_t value = data.args[comparison.arg];
    if (comparison.op == SCMP_CMP_EQ) return value == comparison.datum_a;
    if (comparison.op == SCMP_CMP_NE) return value != comparison.datum_a;
    return (value & comparison.datum_a) == comparison.datum_b;
}

// As filter_code.hpp tells it.
std::uint32_t wanted(const std::vector<FilterRule>& rules, const seccomp_data& data) {
    std::uint32_t action = otherwise;
    for (const FilterRule& rule : rules) {
        if (rule.number != static_cast<unsigned>(data.nr)) continue;
        if (rule.comparisons.empty())
            action = rule.action;
        else if (std::ranges::all_of(rule.comparisons, [&](const auto& one) { return holds(one, data); }))
            return rule.action;
    }
    return action;
}

constexpr std::array<std::uint64_t, 8> values{
    0, 1, 5, 0xffffffff, std::uint64_t{1} << 32, (std::uint64_t{1} << 32) | 1, ~std::uint64_t{0}, 2};

class Rules {
  public:
    std::vector<FilterRule> make() {
        std::vector<FilterRule> rules;
        for (std::uint64_t count = 1 + random_() % 300; count > 0; --count) {
            FilterRule rule{.number = static_cast<unsigned>(random_() % 400),
                            .action = random_() % 2 == 0 ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | 38};
            if (random_() % 3 == 0)
                for (std::uint64_t some = 1 + random_() % 3; some > 0; --some)
                    rule.comparisons.push_back(comparison());
            rules.push_back(std::move(rule));
        }
        return rules;
    }
    std::uint64_t value() { return values[random_() % values.size()]; }

  private:
    scmp_arg_cmp comparison() {
        const auto argument = static_cast<unsigned>(random_() % 2);
        switch (random_() % 3) {
            case 0:
                return compare(argument, SCMP_CMP_EQ, value());
            case 1:
                return compare(argument, SCMP_CMP_NE, value());
            default:
                const std::uint64_t mask = value();
                return compare(argument, SCMP_CMP_MASKED_EQ, mask, value() & mask);
        }
    }
    std::mt19937_64 random_{20240229};
};

}  // namespace

TEST_CASE("filter code: a call gets the action of the rule that holds for it, of however many rules") {
    Rules random;
    for (unsigned round = 0; round < 40; ++round) {
        const std::vector<FilterRule> rules = random.make();
        const auto code = filter_code({.otherwise = otherwise, .foreign = foreign, .rules = rules});
        unsigned wrong = 0;
        for (std::uint32_t number = 0; number < 410; ++number)
            for (unsigned turn = 0; turn < 10; ++turn) {
                const seccomp_data data = call(number, random.value(), random.value());
                if (run_filter(code, data) != wanted(rules, data)) ++wrong;
            }
        CHECK(wrong == 0);
    }
}

TEST_CASE(
    "filter code: rules with comparisons come first, in their order; of those without the last counts") {
    const FilterRule all{.number = some_call, .action = SECCOMP_RET_ALLOW};
    const FilterRule none{.number = some_call, .action = SECCOMP_RET_ERRNO | 5};
    const FilterRule one{
        .number = some_call, .action = SECCOMP_RET_TRAP, .comparisons = {compare(0, SCMP_CMP_EQ, 1)}};
    const FilterRule small{.number = some_call,
                           .action = SECCOMP_RET_USER_NOTIF,
                           .comparisons = {compare(0, SCMP_CMP_MASKED_EQ, ~std::uint64_t{3}, 0)}};
    for (const auto& rules : {std::vector{all, one}, std::vector{one, all}, std::vector{none, one, all}}) {
        CHECK(verdict(rules, call(some_call, 1)) == SECCOMP_RET_TRAP);
        CHECK(verdict(rules, call(some_call, 2)) == SECCOMP_RET_ALLOW);
    }
    CHECK(verdict({one, small}, call(some_call, 1)) == SECCOMP_RET_TRAP);
    CHECK(verdict({small, one}, call(some_call, 1)) == SECCOMP_RET_USER_NOTIF);
    CHECK(verdict({one, small}, call(some_call, 4)) == otherwise);
    CHECK(verdict({}, call(0)) == otherwise);
}

TEST_CASE("filter code: a foreign architecture has its own action, and so have the numbers of x32") {
    const std::vector<FilterRule> rules{{.number = some_call, .action = SECCOMP_RET_ALLOW}};
    seccomp_data data = call(some_call);
    data.arch ^= 1;
    CHECK(verdict(rules, data) == foreign);
    CHECK(verdict(rules, call(~std::uint32_t{0})) == otherwise);
#if defined(__x86_64__)
    for (const std::uint32_t number : {0x40000000U, 0x40000000U + some_call, 0x80000000U, 0xfffffffeU})
        CHECK(verdict(rules, call(number)) == foreign);
    CHECK(verdict(rules, call(0x3fffffff)) == otherwise);
#endif
}
