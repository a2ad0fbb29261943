// SPDX-License-Identifier: MIT
// Comparing the cost of several ways to do one thing, in one run: they take turns in short chunks, so that
// whatever the machine does meanwhile happens to all of them alike.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace fdbroker::bench {

struct Variant {
    unsigned opens_per_call = 1;
    std::function<void()> call;
};

// Nanoseconds per open of each variant in each round.
class Measurement {
  public:
    explicit Measurement(std::vector<std::vector<double>> rounds) : rounds_(std::move(rounds)) {}

    double median(std::size_t variant) const;
    // The median, over the rounds, of what one variant took by what the other took in the same round.
    double ratio(std::size_t variant, std::size_t reference) const;

  private:
    std::vector<std::vector<double>> rounds_;  // by variant, then by round
};

// `rounds` rounds in which every variant runs for about `chunk`, in an order that rotates.
Measurement interleave(std::span<const Variant> variants, unsigned rounds, std::chrono::nanoseconds chunk);

// The time of every single call, in nanoseconds, of each variant; the variants take turns as above. The clock's own
// cost (some 20 ns a call) is part of it.
std::vector<std::vector<double>> time_every_call(std::span<const Variant> variants, unsigned rounds,
                                                 std::chrono::nanoseconds chunk);

// The value below which `fraction` of all lie. `values` must not be empty.
double quantile(std::vector<double> values, double fraction);

}  // namespace fdbroker::bench
