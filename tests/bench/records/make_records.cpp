// SPDX-License-Identifier: MIT
// make-records COUNT > audit.jsonl: a day of so many records. make-records --policy | --stricter-policy: the policies.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tests/bench/records/day.hpp"

int main(int argc, char** argv) {
    using namespace fdbroker::bench;
    const auto write = [](std::string_view text) {
        if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size()) return;
        std::perror("make-records: standard output");
        std::exit(1);
    };
    const std::string_view what = argc == 2 ? argv[1] : "";
    if (what == "--policy") {
        write(policy_of_day());
    } else if (what == "--stricter-policy") {
        write(stricter_policy_of_day());
    } else if (const std::uint64_t count = std::strtoull(std::string(what).c_str(), nullptr, 10);
               count != 0) {
        make_day(count, write);
    } else {
        std::fputs("usage: make-records COUNT | --policy | --stricter-policy\n", stderr);
        return 2;
    }
    return std::fflush(stdout) == 0 ? 0 : 1;
}
