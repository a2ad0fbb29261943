// SPDX-License-Identifier: MIT
// An opener that runs for long under load of every sort holds no more in the end than it did at first.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "tests/soak/figures.hpp"
#include "tests/soak/scene.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::soak;
using namespace fdbroker::test;

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds round_length{500};  // for each scene
// Caches fill, and allocators take what they will keep: that is no growth.
constexpr std::chrono::seconds warm_up{20};

std::chrono::seconds soak_length() {
    const char* const wished = std::getenv("FDBROKER_SOAK_SECONDS");
    return std::chrono::seconds(wished == nullptr ? 60 : std::strtol(wished, nullptr, 10));
}

void log_stderr(const char* name, const Tally& tally, const std::vector<Figures>& figures) {
    std::cout << fmt::format(
        "{}: {} rounds; requests: {} done ({} by helpers), {} refused, {} failed, {} timed out; {} visitors, "
        "{} "
        "turned away; {} commands, {} reloads, {} crashes\n{:<24} {:>8} {:>8}\n",
        name, tally.rounds, tally.done, tally.by_helpers, tally.refused, tally.failed, tally.timed_out,
        tally.visitors, tally.turned_away, tally.commands, tally.reloads, tally.crashes,
        "  medians of quarters:", "first", "last");
    for (const Course& course : courses_of(figures)) std::cout << "  " << to_text(course) << '\n';
    std::cout << std::flush;
}

void check(const Tally& tally, const std::vector<Figures>& figures) {
    CHECK(tally.done > 0);
    CHECK(tally.by_helpers > 0);
    CHECK(tally.refused > 0);
    CHECK(tally.visitors > 0);
    CHECK(tally.turned_away > 0);
    REQUIRE(figures.size() >= 4);
    for (const Course& course : courses_of(figures)) {
        const std::string text = to_text(course);
        CAPTURE(text);
        CHECK(course.is_flat());
    }
}

}  // namespace

TEST_CASE("soak: memory and descriptors stay what they were, with one generation and with many") {
    FDBROKER_SKIP_UNLESS(is_root() && can_make_mount_namespace() && ::access("/dev/fuse", R_OK | W_OK) == 0,
                         "needs root, a mount namespace and /dev/fuse");
    const auto length = soak_length();
    run_in_mount_namespace(
        [length] {
            Scene one(Scene::Generations::one), many(Scene::Generations::many);
            std::vector<Figures> of_one, of_many;
            const auto begun = Clock::now();
            while (Clock::now() < begun + warm_up + length) {
                one.round(Clock::now() + round_length);
                many.round(Clock::now() + round_length);
                if (Clock::now() < begun + warm_up) continue;
                of_one.push_back(one.figures());
                of_many.push_back(many.figures());
            }
            log_stderr("one generation", one.tally(), of_one);
            log_stderr("many generations", many.tally(), of_many);
            check(one.tally(), of_one);
            check(many.tally(), of_many);
            CHECK(many.tally().reloads > 0);
            CHECK(one.stop() == 0);
            CHECK(many.stop() == 0);
        },
        in_good_time() + warm_up + length);
}
