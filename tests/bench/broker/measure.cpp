// SPDX-License-Identifier: MIT
#include "tests/bench/broker/measure.hpp"

#include <algorithm>

namespace fdbroker::bench {

namespace {

using Clock = std::chrono::steady_clock;

double nanoseconds_of(const Variant& variant, unsigned calls) {
    const Clock::time_point start = Clock::now();
    for (unsigned i = 0; i < calls; ++i) variant.call();
    return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

// How many calls take about a chunk, once everything is warm.
unsigned calls_per_chunk(const Variant& variant, std::chrono::nanoseconds chunk) {
    const auto wanted = static_cast<double>(chunk.count());
    unsigned calls = 1;
    double took = nanoseconds_of(variant, calls);
    while (took < wanted) {
        calls *= 2;
        took = nanoseconds_of(variant, calls);
    }
    return std::max(1U, static_cast<unsigned>(wanted / took * calls));
}

std::vector<unsigned> calibrate(std::span<const Variant> variants, std::chrono::nanoseconds chunk) {
    std::vector<unsigned> calls;
    calls.reserve(variants.size());
    for (const Variant& variant : variants) calls.push_back(calls_per_chunk(variant, chunk));
    return calls;
}

// Every variant once a round, beginning with another one each time. The first call of a chunk is not part of it: it
// wakes the process at the other end.
template <typename Chunk>
void take_turns(std::span<const Variant> variants, unsigned rounds, const Chunk& chunk) {
    for (unsigned round = 0; round < rounds; ++round) {
        for (std::size_t i = 0; i < variants.size(); ++i) {
            const std::size_t turn = (i + round) % variants.size();
            variants[turn].call();
            chunk(turn);
        }
    }
}

}  // namespace

double quantile(std::vector<double> values, double fraction) {
    const auto index = static_cast<std::ptrdiff_t>(fraction * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), values.begin() + index, values.end());
    return values[static_cast<std::size_t>(index)];
}

double Measurement::median(std::size_t variant) const {
    return quantile(rounds_[variant], 0.5);
}

double Measurement::ratio(std::size_t variant, std::size_t reference) const {
    std::vector<double> ratios;
    ratios.reserve(rounds_[variant].size());
    for (std::size_t round = 0; round < rounds_[variant].size(); ++round) {
        ratios.push_back(rounds_[variant][round] / rounds_[reference][round]);
    }
    return quantile(std::move(ratios), 0.5);
}

Measurement interleave(std::span<const Variant> variants, unsigned rounds, std::chrono::nanoseconds chunk) {
    const std::vector<unsigned> calls = calibrate(variants, chunk);
    std::vector<std::vector<double>> result(variants.size());
    take_turns(variants, rounds, [&](std::size_t turn) {
        const double opens = static_cast<double>(calls[turn]) * variants[turn].opens_per_call;
        result[turn].push_back(nanoseconds_of(variants[turn], calls[turn]) / opens);
    });
    return Measurement(std::move(result));
}

std::vector<std::vector<double>> time_every_call(std::span<const Variant> variants, unsigned rounds,
                                                 std::chrono::nanoseconds chunk) {
    const std::vector<unsigned> calls = calibrate(variants, chunk);
    std::vector<std::vector<double>> result(variants.size());
    take_turns(variants, rounds, [&](std::size_t turn) {
        for (unsigned i = 0; i < calls[turn]; ++i) result[turn].push_back(nanoseconds_of(variants[turn], 1));
    });
    return result;
}

}  // namespace fdbroker::bench
