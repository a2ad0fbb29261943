// SPDX-License-Identifier: MIT
#include "worker/sandbox/filter_code.hpp"

#include <linux/seccomp.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <span>

namespace fdbroker::worker {
namespace {

using Code = std::vector<sock_filter>;

// Calls by number, up to the next one's first.
struct Range {
    std::uint32_t first = 0;
    std::uint32_t action = 0;                   // where no rule with comparisons holds
    std::span<const FilterRule> conditional{};  // and rules without, which are passed over
};

constexpr std::size_t longest_jump = 255;  // the offsets of a conditional jump are bytes

void load(Code& code, std::size_t offset) {
    code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset)));
}
void finish(Code& code, std::uint32_t action) {
    code.push_back(BPF_STMT(BPF_RET | BPF_K, action));
}

enum class Half : std::uint8_t { low, high };

std::uint32_t half_of(std::uint64_t value, Half half) {
    return static_cast<std::uint32_t>(half == Half::low ? value : value >> 32);
}
std::size_t offset_of(unsigned argument, Half half) {
    const bool second = (half == Half::high) == (std::endian::native == std::endian::little);
    return offsetof(seccomp_data, args) + argument * sizeof(std::uint64_t) +
           (second ? sizeof(std::uint32_t) : 0);
}

// The code of one rule: it ends with the rule's action, or behind it where a comparison does not hold.
class RuleCode {
  public:
    explicit RuleCode(const FilterRule& rule) {
        for (const scmp_arg_cmp& comparison : rule.comparisons) add(comparison);
        finish(code_, rule.action);
        for (const std::size_t at : fails_if_not_) code_[at].jf = distance_from(at);
        for (const std::size_t at : fails_if_) code_[at].jt = distance_from(at);
    }
    const Code& code() const { return code_; }

  private:
    std::uint8_t distance_from(std::size_t at) const {
        return static_cast<std::uint8_t>(code_.size() - at - 1);
    }

    void add(const scmp_arg_cmp& comparison) {
        constexpr std::uint64_t all = ~std::uint64_t{0};
        if (comparison.op == SCMP_CMP_NE) return require_other(comparison.arg, comparison.datum_a);
        const bool masked = comparison.op == SCMP_CMP_MASKED_EQ;
        const std::uint64_t mask = masked ? comparison.datum_a : all;
        const std::uint64_t value = masked ? comparison.datum_b : comparison.datum_a;
        for (const Half half : {Half::high, Half::low})
            require(comparison.arg, half, half_of(mask, half), half_of(value, half));
    }

    void require(unsigned argument, Half half, std::uint32_t mask, std::uint32_t value) {
        if (mask == 0 && value == 0) return;
        load(code_, offset_of(argument, half));
        if (value == 0) {
            fails_if_.push_back(code_.size());
            code_.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, mask, 0, 0));
            return;
        }
        if (mask != ~std::uint32_t{0}) code_.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask));
        fails_if_not_.push_back(code_.size());
        code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 0));
    }

    void require_other(unsigned argument, std::uint64_t value) {
        load(code_, offset_of(argument, Half::high));
        // Another high half settles it.
        code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, half_of(value, Half::high), 0, 2));
        load(code_, offset_of(argument, Half::low));
        fails_if_.push_back(code_.size());
        code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, half_of(value, Half::low), 0, 0));
    }

    Code code_{};
    std::vector<std::size_t> fails_if_{};
    std::vector<std::size_t> fails_if_not_{};
};

void append(Code& code, const Code& more) {
    code.insert(code.end(), more.begin(), more.end());
}

Code code_of(const Range& range) {
    Code code;
    for (const FilterRule& rule : range.conditional)
        if (!rule.comparisons.empty()) append(code, RuleCode(rule).code());
    finish(code, range.action);
    return code;
}

// Searches by the number, which is loaded.
Code search(std::span<const Range> ranges) {
    if (ranges.size() == 1) return code_of(ranges.front());
    const std::size_t middle = ranges.size() / 2;
    const Code below = search(ranges.first(middle));
    const Code from = search(ranges.subspan(middle));
    Code code;
    const std::uint32_t first = ranges[middle].first;
    if (below.size() <= longest_jump) {
        code.push_back(
            BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, static_cast<std::uint8_t>(below.size()), 0));
    } else {
        code.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 0, 1));
        code.push_back(BPF_STMT(BPF_JMP | BPF_JA, static_cast<std::uint32_t>(below.size())));
    }
    append(code, below);
    append(code, from);
    return code;
}

class Ranges {
  public:
    // `sorted` by number.
    Ranges(std::span<const FilterRule> sorted, std::uint32_t otherwise, std::uint32_t foreign) {
        std::uint32_t next = 0;
        while (!sorted.empty()) {
            const unsigned number = sorted.front().number;
            const auto end = std::ranges::find_if(
                sorted, [number](const FilterRule& rule) { return rule.number != number; });
            const auto own = sorted.first(static_cast<std::size_t>(end - sorted.begin()));
            sorted = sorted.subspan(own.size());
            if (number != next) add({.first = next, .action = otherwise});
            add(range_of(own, otherwise));
            next = number + 1;
        }
        add({.first = next, .action = otherwise});
#if defined(__x86_64__)
        constexpr std::uint32_t x32 = 0x40000000;  // __X32_SYSCALL_BIT
        add({.first = x32, .action = foreign});
        // A number that a tracer has put there to have the call skipped.
        add({.first = ~std::uint32_t{0}, .action = otherwise});
#else
        static_cast<void>(foreign);
#endif
    }
    std::span<const Range> all() const { return ranges_; }

  private:
    static Range range_of(std::span<const FilterRule> own, std::uint32_t otherwise) {
        Range range{.first = own.front().number, .action = otherwise};
        for (const FilterRule& rule : own) {
            if (rule.comparisons.empty())
                range.action = rule.action;
            else
                range.conditional = own;
        }
        return range;
    }
    void add(const Range& range) {
        const bool goes_on = !ranges_.empty() && range.conditional.empty() &&
                             ranges_.back().conditional.empty() && ranges_.back().action == range.action;
        if (!goes_on) ranges_.push_back(range);
    }

    std::vector<Range> ranges_{};
};

}  // namespace

std::vector<sock_filter> filter_code(FilterRules rules) {
    std::ranges::stable_sort(rules.rules, {}, &FilterRule::number);
    const Ranges ranges(rules.rules, rules.otherwise, rules.foreign);
    Code code;
    load(code, offsetof(seccomp_data, arch));
    code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ::seccomp_arch_native(), 1, 0));
    finish(code, rules.foreign);
    load(code, offsetof(seccomp_data, nr));
    append(code, search(ranges.all()));
    return code;
}

}  // namespace fdbroker::worker
