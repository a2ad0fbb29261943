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

std::vector<std::byte> a_report() {
    Report report{.job = 7};
    report.outcomes.push_back({.operations = {Operation::read}, .rule = 0, .copied = 4711});
    report.outcomes.push_back(
        {.errno_value = ENOENT, .step = Step::resolve, .operations = {Operation::list}, .reason = "gone"});
    return write_report(report);
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
    const auto read = read_from_helper(message);
    REQUIRE(read);
    CHECK(read->type == FromHelper::Type::report);
    CHECK(read->report.job == 7);
    REQUIRE(read->report.outcomes.size() == 2);
    CHECK(read->report.outcomes[0].errno_value == 0);
    CHECK(read->report.outcomes[0].rule == 0);
    CHECK(read->report.outcomes[0].copied == 4711);
    CHECK(read->report.outcomes[1].errno_value == ENOENT);
    CHECK(read->report.outcomes[1].step == Step::resolve);
    CHECK(read->report.outcomes[1].operations == OperationSet{Operation::list});
    CHECK_FALSE(read->report.outcomes[1].rule);
    CHECK(read->report.outcomes[1].reason == "gone");
}

TEST_CASE("helper messages: verdicts and what follows them arrive as they were sent") {
    const Ruling rulings[] = {{.record = 12, .may_leave = true}, {.may_leave = false, .over_budget = true}};
    const auto verdict = read_verdict(write_verdict(7, rulings));
    REQUIRE(verdict);
    CHECK(verdict->job == 7);
    REQUIRE(verdict->rulings.size() == 2);
    CHECK(verdict->rulings[0].record == 12);
    CHECK(verdict->rulings[0].may_leave);
    CHECK_FALSE(verdict->rulings[0].over_budget);
    CHECK_FALSE(verdict->rulings[1].may_leave);
    CHECK(verdict->rulings[1].over_budget);
    CHECK(read_verdict(write_verdict(7, {}))->rulings.empty());

    const auto sent = read_from_helper(write_sent({.job = 7, .descriptors = 2, .errno_value = EPIPE}));
    REQUIRE(sent);
    CHECK(sent->sent.descriptors == 2);
    CHECK(sent->sent.errno_value == EPIPE);
    CHECK_FALSE(sent->sent.in_background);
    CHECK(read_from_helper(write_sent({.job = 7, .in_background = true}))->sent.in_background);
    const auto ended = read_from_helper(write_ended(ENOSPC));
    REQUIRE(ended);
    CHECK(ended->type == FromHelper::Type::ended);
    CHECK(ended->errno_value == ENOSPC);
    CHECK(read_from_helper(write_idle())->type == FromHelper::Type::idle);
}

TEST_CASE("helper messages: a message that is cut short, too long or impossible is refused") {
    const auto whole = a_report();
    for (std::size_t size = 0; size < whole.size(); ++size) {
        CAPTURE(size);
        CHECK_FALSE(read_from_helper(std::span(whole).first(size)));
    }
    auto longer = whole;
    longer.push_back(std::byte{0});
    CHECK_FALSE(read_from_helper(longer));
    const auto with = [](const ReportedOutcome& outcome) {
        Report report;
        report.outcomes.push_back(outcome);
        return read_from_helper(write_report(report)).has_value();
    };
    CHECK(with({.errno_value = EIO, .step = Step::deliver}));
    CHECK_FALSE(with({.errno_value = -1, .step = Step::deliver}));
    CHECK_FALSE(with({.errno_value = proto::max_errno + 1, .step = Step::deliver}));
    CHECK_FALSE(with({.errno_value = EIO}));
    CHECK_FALSE(with({.step = Step::deliver}));
    CHECK_FALSE(with({.errno_value = EIO, .step = static_cast<Step>(99)}));
    CHECK_FALSE(read_from_helper(write_sent({.descriptors = proto::max_requests + 1})));
    CHECK_FALSE(read_from_helper(write_ended(-1)));
    CHECK_FALSE(read_from_helper(write_ended(proto::max_errno + 1)));
    auto unknown = write_idle();
    unknown[0] = std::byte{9};
    CHECK_FALSE(read_from_helper(unknown));
}

TEST_CASE("helper messages: only the last of many long final paths are cut short") {
    const std::string path(proto::max_path_length, 'x');
    const std::string reason(proto::max_reason_length, 'r');
    Report report{.job = 7};
    while (report.outcomes.size() < proto::max_requests) {
        report.outcomes.push_back({.errno_value = ENOENT,
                                   .step = Step::resolve,
                                   .operations = {Operation::read},
                                   .reason = reason,
                                   .final_path = path});
    }
    const auto message = write_report(report);
    CHECK(message.size() <= max_helper_message);
    const auto read = read_from_helper(message);
    REQUIRE(read);
    REQUIRE(read->report.outcomes.size() == proto::max_requests);
    std::size_t total = 0;
    for (const ReportedOutcome& outcome : read->report.outcomes) {
        total += outcome.final_path.size();
        CHECK(outcome.reason == reason);
        CHECK(path.starts_with(outcome.final_path));
    }
    CHECK(total == max_final_paths);
    CHECK(read->report.outcomes.front().final_path == path);
    CHECK(read->report.outcomes.back().final_path.empty());
}
