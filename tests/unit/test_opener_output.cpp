// SPDX-License-Identifier: MIT
// What generations write to their standard error.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <string_view>

#include "opener/base/log_stderr.hpp"
#include "opener/supervisor/child_output.hpp"
#include "tests/support/child.hpp"
#include "tests/support/files.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;

namespace {

// The standard error of the process that runs `body`.
std::string copied_by(const std::function<void(ChildOutput::Pair&)>& body) {
    const test::TempDir directory;
    const std::string file = directory / "log";
    test::write_file(file, "");
    test::run_in_child([&] {
        const proto::UniqueFd log(::open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
        REQUIRE(::dup2(log.number(), STDERR_FILENO) == STDERR_FILENO);
        auto pair = ChildOutput::make();
        REQUIRE(pair);
        body(*pair);
    });
    return test::read_file(file);
}

void write_text(const ChildOutput::Pair& pair, std::string_view text) {
    REQUIRE(::write(pair.writing.number(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

constexpr std::size_t all = std::size_t{1} << 20;

}  // namespace

TEST_CASE("generation output: whole lines are copied as a terminal may have them, the rest at the end") {
    CHECK(copied_by([](auto& pair) {
              CHECK(pair.output.copy(all));
              write_text(pair, "opener: one\ntwo\x1b[31m\nthr");
              CHECK(pair.output.copy(all));
              write_text(pair, "ee\nlast wor");
              CHECK(pair.output.copy(all));
              write_text(pair, "ds");
              pair.output.finish();
              CHECK(!pair.output.descriptor());
          }) == "opener: one\ntwo\\x1b[31m\nthree\nlast words\n");
}

TEST_CASE("generation output: when everyone who could write has ended, no more can come") {
    CHECK(copied_by([](auto& pair) {
              write_text(pair, "last\n");
              pair.writing.reset();
              CHECK_FALSE(pair.output.copy(all));
          }) == "last\n");
}

TEST_CASE("generation output: a line without end becomes several") {
    const std::string text = copied_by([](auto& pair) {
        for (int i = 0; i < 3; ++i) write_text(pair, std::string(ChildOutput::max_line / 2, 'x'));
        pair.output.finish();
    });
    CHECK(text == std::string(ChildOutput::max_line, 'x') + "\n" +
                      std::string(ChildOutput::max_line / 2, 'x') + "\n");
}

TEST_CASE("generation output: a broker that serves can fill no disk, and that lines are missing is told") {
    const std::string line = std::string(1023, 'x') + "\n";
    const auto flood = [&](ChildOutput::Pair& pair, std::size_t bytes) {
        for (std::size_t written = 0; written < bytes; written += line.size()) {
            write_text(pair, line);
            pair.output.copy(all);
        }
    };
    constexpr std::size_t much = 4 * ChildOutput::burst;
    CHECK(copied_by([&](auto& pair) { flood(pair, much); }).size() == much);
    const std::string bounded = copied_by([&](auto& pair) {
        pair.output.bound();
        flood(pair, much);
        // Until there is room for a line again.
        while (pair.output.dropped() != 0) pair.output.copy(all);
    });
    CHECK(bounded.size() < 2 * ChildOutput::burst);
    CHECK(bounded.find("lines of a broker's standard error were dropped") != std::string::npos);
}

TEST_CASE("generation output: while a generation starts, more than a pipe holds is lost to nobody") {
    const std::string line(100, 'y');
    const std::string text = copied_by([&](auto& pair) {
        const pid_t writer = ::fork();
        REQUIRE(writer >= 0);
        if (writer == 0) {
            ::dup2(pair.writing.number(), STDERR_FILENO);
            wait_for_room_on_stderr(std::chrono::seconds(60));
            for (int i = 0; i < 10'000; ++i) log_stderr_plainly(line);
            ::_exit(0);
        }
        pair.writing.reset();
        do test::wait_readable(pair.output.descriptor());
        while (pair.output.copy(all));
    });
    CHECK(text.size() == 10'000 * (line.size() + 1));
}
