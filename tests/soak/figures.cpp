// SPDX-License-Identifier: MIT
#include "tests/soak/figures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "tests/integration/opener_support.hpp"
#include "tests/support/descriptors.hpp"

namespace fdbroker::soak {

using namespace fdbroker::test;

namespace {

// 0: it has ended meanwhile, as a helper may that is not needed any more.
double memory_of(pid_t pid) {
    std::ifstream rollup("/proc/" + std::to_string(pid) + "/smaps_rollup");
    for (std::string line; std::getline(rollup, line);) {
        if (line.starts_with("Pss:")) return std::stod(line.substr(4));
    }
    return 0;
}

double memory_of_all(pid_t pid) {
    double sum = memory_of(pid);
    for (const pid_t child : children_of(pid)) sum += memory_of_all(child);
    return sum;
}

double median_of(std::vector<Figures>::const_iterator begin, std::vector<Figures>::const_iterator end,
                 double Figures::* figure) {
    std::vector<double> values;
    for (; begin != end; ++begin) values.push_back((*begin).*figure);
    std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
    return values.at(values.size() / 2);
}

}  // namespace

Figures figures_of(pid_t supervisor, pid_t broker) {
    return {.supervisor_kib = memory_of(supervisor),
            .broker_kib = memory_of(broker),
            .all_kib = memory_of_all(supervisor),
            .supervisor_descriptors = static_cast<double>(DescriptorTable::of(supervisor).count()),
            .broker_descriptors = static_cast<double>(DescriptorTable::of(broker).count())};
}

std::array<Course, 5> courses_of(const std::vector<Figures>& figures) {
    const auto quarter = static_cast<std::ptrdiff_t>(std::max<std::size_t>(1, figures.size() / 4));
    const auto course = [&](std::string_view what, double Figures::* figure, Tolerance tolerance) {
        return Course{what, median_of(figures.begin(), figures.begin() + quarter, figure),
                      median_of(figures.end() - quarter, figures.end(), figure), tolerance};
    };
    return {course("supervisor, KiB", &Figures::supervisor_kib, memory_tolerance),
            course("broker, KiB", &Figures::broker_kib, memory_tolerance),
            course("all processes, KiB", &Figures::all_kib, memory_tolerance),
            course("supervisor, descriptors", &Figures::supervisor_descriptors, descriptor_tolerance),
            course("broker, descriptors", &Figures::broker_descriptors, descriptor_tolerance)};
}

std::string to_text(const Course& course) {
    return fmt::format("{:<24} {:>8.0f} {:>8.0f}  {}", course.what, course.first, course.last,
                       course.is_flat() ? "flat" : "GROWS");
}

}  // namespace fdbroker::soak
