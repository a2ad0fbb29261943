// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <string>

#include "opener/helpers/helper_task.hpp"
#include "opener/helpers/messages.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;
using policy::Operation;
using policy::OperationSet;
using proto::Step;

namespace {

const policy::Rule rules[1];

std::vector<std::byte> a_report() {
    Outcome outcomes[] = {{.operations = {Operation::read}, .rule = &rules[0], .copied = 4711},
                          refused(Step::resolve, ENOENT, "gone")};
    outcomes[1].operations = {Operation::list};
    return write_report(7, outcomes, rules);
}

std::optional<FromHelper> read_message(std::span<const std::byte> message) {
    return read_from_helper(message, rules);
}

}  // namespace

TEST_CASE("helper messages: a task's job holds the requests in separate memory") {
    std::unique_ptr<HelperTask> task;
    const HelperTask::Clock::time_point deadline(std::chrono::seconds(5));
    {
        const policy::PeerIdentity peer{.user = "alice", .group = "adm", .listener = "web"};
        const std::string path = "/srv/a", payload("/srv/b\0", 7);
        const proto::Request request{.id = 3, .call = proto::Call::rename, .path = path, .payload = payload};
        task = make_task(9, peer, deadline, std::span(&request, 1));
    }
    REQUIRE(task->parts.size() == 1);
    CHECK(task->parts[0].request.path == "/srv/a");
    const auto job = read_job(task->message);
    REQUIRE(job);
    CHECK(job->number == 9);
    CHECK(job->deadline == deadline);
    CHECK(job->listener == "web");
    CHECK(job->user == "alice");
    CHECK(job->group == "adm");
    CHECK_FALSE(job->allows_background);
    set_allows_background(task->message, true);
    CHECK(read_job(task->message)->allows_background);
    CHECK(read_job(task->message)->number == 9);
    set_allows_background(task->message, false);
    CHECK_FALSE(read_job(task->message)->allows_background);
    std::array<proto::Request, proto::max_requests> room;
    const auto requests = proto::read_requests(job->requests, room);
    REQUIRE(requests);
    REQUIRE(requests->size() == 1);
    CHECK(requests->front().id == 3);
    CHECK(requests->front().call == proto::Call::rename);
    CHECK(requests->front().payload == std::string("/srv/b\0", 7));
}

TEST_CASE("helper messages: a report tells what became of each request") {
    const auto message = a_report();
    const auto read = read_message(message);
    REQUIRE(read);
    CHECK(read->type == FromHelper::Type::report);
    CHECK(read->report.job == 7);
    REQUIRE(read->report.outcomes.size() == 2);
    CHECK(read->report.outcomes[0].is_done());
    CHECK(read->report.outcomes[0].rule == &rules[0]);
    CHECK(read->report.outcomes[0].copied == 4711);
    CHECK(read->report.outcomes[1].completion == Completion::refused);
    CHECK(read->report.outcomes[1].errno_value == ENOENT);
    CHECK(read->report.outcomes[1].step == Step::resolve);
    CHECK(read->report.outcomes[1].operations == OperationSet{Operation::list});
    CHECK(read->report.outcomes[1].rule == nullptr);
    CHECK(read->report.outcomes[1].reason.view() == "gone");
}

TEST_CASE("helper messages: verdicts and what follows them arrive as they were sent") {
    const auto verdict = read_verdict(
        write_verdict({.job = 7, .over_budget = true, .records = {{.sequence = 12}, {.may_leave = false}}}));
    REQUIRE(verdict);
    CHECK(verdict->job == 7);
    CHECK(verdict->over_budget);
    REQUIRE(verdict->records.size() == 2);
    CHECK(verdict->records[0].sequence == 12);
    CHECK(verdict->records[0].may_leave);
    CHECK_FALSE(verdict->records[1].may_leave);
    CHECK(read_verdict(write_verdict({.job = 7}))->records.empty());
    CHECK_FALSE(read_verdict(write_verdict({.job = 7}))->over_budget);

    const auto sent = read_message(write_sent({.job = 7, .descriptors = 2, .errno_value = EPIPE}));
    REQUIRE(sent);
    CHECK(sent->sent.descriptors == 2);
    CHECK(sent->sent.errno_value == EPIPE);
    CHECK_FALSE(sent->sent.in_background);
    CHECK(read_message(write_sent({.job = 7, .in_background = true}))->sent.in_background);
    const auto ended = read_message(write_ended(ENOSPC));
    REQUIRE(ended);
    CHECK(ended->type == FromHelper::Type::ended);
    CHECK(ended->errno_value == ENOSPC);
    CHECK(read_message(write_idle())->type == FromHelper::Type::idle);
}

TEST_CASE("helper messages: a message that is cut short, too long or impossible is refused") {
    const auto whole = a_report();
    for (std::size_t size = 0; size < whole.size(); ++size) {
        CAPTURE(size);
        CHECK_FALSE(read_message(std::span(whole).first(size)));
    }
    auto longer = whole;
    longer.push_back(std::byte{0});
    CHECK_FALSE(read_message(longer));
    const auto with = [](int errno_value, Step step) {
        const Outcome outcome{.errno_value = errno_value, .recorded_step = step};
        return read_message(write_report(7, std::span(&outcome, 1), rules)).has_value();
    };
    CHECK(with(EIO, Step::deliver));
    CHECK_FALSE(with(-1, Step::deliver));
    CHECK_FALSE(with(proto::max_errno + 1, Step::deliver));
    CHECK_FALSE(with(EIO, Step::none));
    CHECK_FALSE(with(0, Step::deliver));
    CHECK_FALSE(with(EIO, static_cast<Step>(99)));
    CHECK_FALSE(read_message(write_sent({.descriptors = proto::max_requests + 1})));
    CHECK_FALSE(read_message(write_ended(-1)));
    CHECK_FALSE(read_message(write_ended(proto::max_errno + 1)));
    auto unknown = write_idle();
    unknown[0] = std::byte{9};
    CHECK_FALSE(read_message(unknown));
}

TEST_CASE("helper messages: only the last of many long final paths are cut short") {
    const std::string path(proto::max_path_length, 'x');
    const std::string reason(proto::max_reason_length, 'r');
    std::vector<Outcome> outcomes;
    while (outcomes.size() < proto::max_requests)
        outcomes.emplace_back(refused(Step::resolve, ENOENT, reason)).final_path = path;
    const auto message = write_report(7, outcomes, rules);
    CHECK(message.size() <= max_helper_message);
    const auto read = read_message(message);
    REQUIRE(read);
    REQUIRE(read->report.outcomes.size() == proto::max_requests);
    std::size_t total = 0;
    for (const Outcome& outcome : read->report.outcomes) {
        total += outcome.final_path.size();
        CHECK(outcome.reason.view() == reason);
        CHECK(path.starts_with(outcome.final_path.view()));
    }
    CHECK(total == max_final_paths);
    CHECK(read->report.outcomes.front().final_path.view() == path);
    CHECK(read->report.outcomes.back().final_path.empty());
}
