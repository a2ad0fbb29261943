// SPDX-License-Identifier: MIT
// The control socket's language, and the counters in words.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <cerrno>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "opener/control/answers.hpp"
#include "opener/control/client.hpp"
#include "opener/control/line.hpp"
#include "opener/control/metrics_report.hpp"
#include "opener/metrics/metrics.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;
using namespace std::chrono_literals;

namespace {

std::vector<policy::Rule> rules(std::initializer_list<const char*> names) {
    std::vector<policy::Rule> all;
    for (const char* name : names)
        all.push_back({.name = name, .location = {}, .allows = true, .operations = {}});
    return all;
}

// https://prometheus.io/docs/practices/naming/, and what `promtool check metrics` finds wrong besides.
void check_conventions(const std::map<std::string, std::string>& types) {
    static const std::regex other_units(
        "_(ns|us|ms|nanoseconds|microseconds|milliseconds|minutes|kib|mib|kilobytes|percent)(_|$)");
    static const std::regex of_histograms("_(bucket|count|sum)$");
    for (const auto& [name, type] : types) {
        CAPTURE(name);
        CHECK(name.starts_with("fdbroker_"));
        CHECK(name.ends_with("_total") == (type == "counter"));
        CHECK(!std::regex_search(name, other_units));
        CHECK(!std::regex_search(name, of_histograms));
        CHECK(name.find(type) == std::string::npos);
        // In OpenMetrics a counter's family bears its name without the suffix.
        if (type == "counter")
            CHECK(!types.contains(name.substr(0, name.size() - std::string("_total").size())));
    }
}

// Parses text of the exposition format 0.0.4 as a Prometheus server does; fails the test where one would not.
std::map<std::string, std::string> scrape(const std::string& text) {
    static const std::regex comment(R"(# (HELP|TYPE) ([a-z_]+) (.+))");
    static const std::regex sample(
        R"re(([a-z_]+)(\{([a-z][a-z0-9]*="([^"\\]|\\["\\n])*")(,[a-z][a-z0-9]*="([^"\\]|\\["\\n])*")*\})? ([-+0-9.eInf]+))re");
    std::map<std::string, std::string> values;
    std::map<std::string, std::string> types;
    std::set<std::string> ended;
    std::string family;
    REQUIRE(text.ends_with('\n'));
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        CAPTURE(line);
        std::smatch match;
        if (std::regex_match(line, match, comment)) {
            if (match[1] == "TYPE") {
                REQUIRE(types.emplace(match[2], match[3]).second);
                family = match[2];
            } else if (!family.empty()) {
                REQUIRE(ended.insert(family).second);
            }
            continue;
        }
        REQUIRE(std::regex_match(line, match, sample));
        std::string name = match[1];
        REQUIRE(!family.empty());
        if (types[family] == "histogram") {
            REQUIRE(name.starts_with(family + "_"));
        } else {
            REQUIRE(name == family);
        }
        REQUIRE(values.emplace(name + match[2].str(), match[7].str()).second);
    }
    check_conventions(types);
    return values;
}

DecisionRecord request(policy::OperationSet operations, const policy::Rule* rule, int errno_value = 0,
                       proto::Step step = proto::Step::none) {
    return {
        .duration = 3us, .operations = operations, .rule = rule, .errno_value = errno_value, .step = step};
}

constexpr policy::OperationSet read_only{policy::Operation::read};

}  // namespace

TEST_CASE("control: a line is a command, its options and its arguments") {
    const auto status = parse_control_line("status");
    REQUIRE(status);
    CHECK(status->command == ControlCommand::status);
    CHECK(!status->json);
    CHECK(parse_control_line("  status   --json\r")->json);
    CHECK(parse_control_line("connections --grants --json")->grants);
    CHECK(parse_control_line("why 12")->arguments == std::vector<std::string>{"12"});
    CHECK(parse_control_line("workers web 3")->arguments == std::vector<std::string>{"web", "3"});
    CHECK(parse_control_line("workers")->arguments.empty());
}

TEST_CASE("control: the text after echo stays as it is") {
    CHECK(parse_control_line("echo  two  spaces --json")->arguments ==
          std::vector<std::string>{" two  spaces --json"});
    CHECK(parse_control_line("echo --json a b")->json);
    CHECK(parse_control_line("echo --json a b")->arguments == std::vector<std::string>{"a b"});
    CHECK(parse_control_line("echo --jsonish")->arguments == std::vector<std::string>{"--jsonish"});
    CHECK(parse_control_line("echo")->arguments.empty());
}

TEST_CASE("control: a line that means nothing is refused with a reason, whatever its bytes") {
    for (const std::string& line :
         {std::string(""), std::string("   "), std::string("statu"), std::string("status now"),
          std::string("why"), std::string("why 1 2"), std::string("workers web"),
          std::string("status --grants"), std::string("status --verbose"), std::string("explain"),
          std::string("status\0", 7), std::string("\xff\xfe\x1b[2J"), std::string(70000, 'x')}) {
        const auto parsed = parse_control_line(line);
        REQUIRE(!parsed);
        CHECK(!parsed.error().empty());
        CHECK(parsed.error().size() < 300);
        for (const char byte : parsed.error()) CHECK((byte >= 0x20 && byte < 0x7f));
    }
}

TEST_CASE("control: every command is in its help") {
    for (unsigned i = 0; i <= static_cast<unsigned>(ControlCommand::help); ++i) {
        const std::string word(to_string(static_cast<ControlCommand>(i)));
        REQUIRE(!word.empty());
        CHECK(("\n" + std::string(control_help())).find("\n" + word + " ") != std::string::npos);
    }
}

TEST_CASE("metrics: requests are told apart by operations, decision and reason") {
    const auto all = rules({"site", "keys"});
    Metrics metrics(all);
    const policy::OperationSet write{policy::Operation::read, policy::Operation::write};
    metrics.count(request(read_only, &all[0]), Metrics::Clock::now());
    metrics.count(request(read_only, &all[0]), Metrics::Clock::now());
    metrics.count(request(write, nullptr, EACCES, proto::Step::decide), Metrics::Clock::now());
    metrics.count(request(read_only, &all[1], EACCES, proto::Step::decide), Metrics::Clock::now());
    metrics.count(request({}, nullptr, EINVAL, proto::Step::parse), Metrics::Clock::now());
    metrics.count(request(read_only, &all[0], ENOENT, proto::Step::resolve), Metrics::Clock::now());
    metrics.count(request(read_only, &all[0], EPERM, proto::Step::inspect), Metrics::Clock::now());
    metrics.count(request(read_only, &all[0], ETIMEDOUT, proto::Step::resolve), Metrics::Clock::now());
    metrics.count(request(read_only, &all[0], EIO, proto::Step::record), Metrics::Clock::now());
    const auto values = scrape(to_prometheus(metrics, {}));
    const auto requests = [&](const char* operation, const char* decision, const char* reason) {
        const auto found = values.find("fdbroker_requests_total{operation=\"" + std::string(operation) +
                                       "\",decision=\"" + decision + "\",reason=\"" + reason + "\"}");
        return found == values.end() ? "" : found->second;
    };
    CHECK(requests("read", "allowed", "granted") == "2");
    CHECK(requests("read+write", "refused", "no_rule") == "1");
    CHECK(requests("read", "refused", "deny_rule") == "1");
    CHECK(requests("other", "refused", "malformed") == "1");
    CHECK(requests("read", "refused", "not_opened") == "1");
    CHECK(requests("read", "refused", "unfit") == "1");
    CHECK(requests("read", "refused", "deadline") == "1");
    CHECK(requests("read", "refused", "not_recorded") == "1");
    CHECK(values.at("fdbroker_rule_requests_total{rule=\"site\",decision=\"allow\"}") == "6");
    CHECK(values.at("fdbroker_request_duration_seconds_count") == "9");
    CHECK(to_json(metrics, {})["requests"].size() == 8);
}

TEST_CASE("metrics: the text is what Prometheus takes, whatever a rule is called") {
    const auto all = rules({"a \"quoted\" one", "back\\slash", "line\nfeed", "unused"});
    Metrics metrics(all);
    for (std::size_t rule = 0; rule < 3; ++rule)
        metrics.count(request(read_only, &all[rule]), Metrics::Clock::now());
    for (unsigned i = 0; i < Metrics::sample_every; ++i) {
        metrics.begin();
        for (unsigned step = 1; step < 7; ++step) metrics.done(static_cast<proto::Step>(step));
    }
    const auto values = scrape(to_prometheus(metrics, {.generation = 3, .sessions = 2}));
    CHECK(values.at("fdbroker_rule_requests_total{rule=\"a \\\"quoted\\\" one\",decision=\"allow\"}") == "1");
    CHECK(values.at("fdbroker_rule_requests_total{rule=\"line\\nfeed\",decision=\"allow\"}") == "1");
    CHECK(!values.contains("fdbroker_rule_requests_total{rule=\"unused\",decision=\"allow\"}"));
    CHECK(values.at("fdbroker_step_duration_seconds_count{step=\"decide\"}") == "1");
    CHECK(values.at("fdbroker_generation") == "3");
    CHECK(values.at("fdbroker_sessions") == "2");
}

TEST_CASE("metrics: reloads, policy, confinement and processes are told as far as they are known") {
    const auto all = rules({"site"});
    const Metrics metrics(all);
    Gauges gauges{.opener_started = std::chrono::system_clock::from_time_t(100)};
    const auto before = scrape(to_prometheus(metrics, gauges));
    CHECK(before.at("fdbroker_last_reload_successful") == "1");
    CHECK(before.at("fdbroker_last_reload_timestamp_seconds") == "100.000");
    CHECK(!before.contains("fdbroker_processes{process=\"broker\"}"));
    gauges.last_reload = std::chrono::system_clock::from_time_t(200);
    gauges.last_reload_failed = true;
    gauges.policy_digest = "abc";
    gauges.layers = {{"private root", "missing"}};
    gauges.usage = {{"broker", 1, 4096, 0}, {"helpers", 0, 0, 0}};
    const auto values = scrape(to_prometheus(metrics, gauges));
    CHECK(values.at("fdbroker_last_reload_successful") == "0");
    CHECK(values.at("fdbroker_last_reload_timestamp_seconds") == "200.000");
    CHECK(values.at("fdbroker_policy_info{sha256=\"abc\"}") == "1");
    CHECK(values.at("fdbroker_confinement_layer{layer=\"private root\",state=\"missing\"}") == "1");
    CHECK(values.at("fdbroker_process_resident_memory_bytes{process=\"broker\"}") == "4096");
    CHECK(!values.contains("fdbroker_process_open_fds{process=\"broker\"}"));
    CHECK(!values.contains("fdbroker_processes{process=\"helpers\"}"));
    CHECK(to_json(metrics, gauges)["last_reload_successful"] == false);
}

TEST_CASE("metrics: a histogram's buckets add up, and what is slower than all of them is in +Inf") {
    const auto all = rules({"site"});
    Metrics metrics(all);
    for (const std::chrono::nanoseconds duration :
         {0ns, 512ns, 513ns, 1024ns, 8'000'000'000ns, 20'000'000'000ns}) {
        DecisionRecord one = request(read_only, nullptr);
        one.duration = duration;
        metrics.count(one, Metrics::Clock::now());
    }
    const auto values = scrape(to_prometheus(metrics, {}));
    const auto bucket = [&](const char* bound) {
        return values.at("fdbroker_request_duration_seconds_bucket{le=\"" + std::string(bound) + "\"}");
    };
    CHECK(bucket("5.12e-07") == "2");
    CHECK(bucket("1.024e-06") == "4");
    CHECK(bucket("8.589934592") == "5");
    CHECK(bucket("+Inf") == "6");
    CHECK(values.at("fdbroker_request_duration_seconds_count") == "6");
    CHECK(metrics.whole_requests().mean() > 4s);
}

TEST_CASE("metrics: neither many rules nor many kinds of requests make the report long") {
    std::vector<policy::Rule> all(5000);
    for (std::size_t i = 0; i < all.size(); ++i) all[i].name = "rule-" + std::to_string(i);
    Metrics metrics(all);
    for (std::size_t i = 0; i < all.size(); ++i) {
        metrics.count(request(policy::OperationSet::from_bits(static_cast<std::uint16_t>(i)), &all[i]),
                      Metrics::Clock::now());
        if (i % 10 == 0) metrics.count(request(read_only, &all[i]), Metrics::Clock::now());
    }
    const auto values = scrape(to_prometheus(metrics, {}));
    CHECK(values.size() < 2 * max_rules_reported + 2000);
    CHECK(values.contains("fdbroker_rule_requests_total{rule=\"rule-4990\",decision=\"deny\"}"));
    CHECK(values.at("fdbroker_rule_requests_total{rule=\"\",decision=\"\"}") != "0");
    const auto report = to_json(metrics, {});
    CHECK(report["rules"].size() == max_rules_reported);
    CHECK(report["requests"].size() <= Metrics::max_operation_sets + 1);
    std::uint64_t requests = report["other_rules"]["requests"];
    for (const auto& rule : report["rules"]) requests += rule["requests"].get<std::uint64_t>();
    CHECK(requests == 5500);
}

TEST_CASE("control: a record is found by its number, unless its line has lost its beginning") {
    const std::string records = R"(22Z","seq":7,"path":"/a"})"
                                "\n"
                                R"({"time":"x","seq":8,"path":"/\"seq\":9,"})"
                                "\n"
                                R"({"time":"x","seq":80,"path":"/b"})"
                                "\n"
                                R"({"time":"x","seq":10,"pa)";
    CHECK(find_record(records, 7) == "");
    CHECK(find_record(records, 8) == R"({"time":"x","seq":8,"path":"/\"seq\":9,"})");
    CHECK(find_record(records, 80) == R"({"time":"x","seq":80,"path":"/b"})");
    CHECK(find_record(records, 9) == "");
    CHECK(find_record(records, 10) == "");
    CHECK(find_record("", 1) == "");
}

TEST_CASE("control: errors of a failed start are listed by place where they have one") {
    const auto answer =
        answer_not_reloaded(CommandResult::invalid, "/etc/a:b.yaml:14:7: rule \"x\": wrong\nno place\n:::\n");
    CHECK(answer["status"] == 3);
    CHECK(answer["diagnostics"][0] ==
          nlohmann::json(
              {{"file", "/etc/a:b.yaml"}, {"line", 14}, {"column", 7}, {"message", "rule \"x\": wrong"}}));
    CHECK(answer["diagnostics"][1] == nlohmann::json({{"message", "no place"}}));
    CHECK(answer["diagnostics"][2] == nlohmann::json({{"message", ":::"}}));
    CHECK(answer_not_reloaded(CommandResult::failed, "")["status"] == 1);
}

TEST_CASE("control: a note tells the next generation what a client waits for, and any number is a note") {
    const ControlNote note{.waits = ControlNote::Waits::watching, .json = true, .lost = 4711};
    const ControlNote same = ControlNote::from(note.packed());
    CHECK(same.waits == note.waits);
    CHECK(same.json);
    CHECK(same.lost == 4711);
    CHECK(ControlNote::from(0).waits == ControlNote::Waits::commands);
    CHECK(ControlNote::from(UINT64_MAX).waits == ControlNote::Waits::commands);
}

TEST_CASE("control: a watcher without room loses whole lines and is told how many") {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    const proto::UniqueFd reader(ends[1]);
    ControlClient client(1, proto::UniqueFd(ends[0]), {.waits = ControlNote::Waits::watching},
                         ControlClient::Rights::all);
    const std::string line = std::string(999, 'x') + "\n";
    std::size_t published = 0;
    for (; client.lost() < 10; ++published) {
        client.stream(line);
        client.flush();
    }
    CHECK(client.backlog() <= ControlClient::max_backlog);
    std::string text(1 << 20, '\0');
    std::string received;
    for (;;) {
        client.flush();
        const ssize_t got = ::recv(reader.number(), text.data(), text.size(), 0);
        if (got <= 0) break;
        received.append(text, 0, static_cast<std::size_t>(got));
    }
    CHECK(received.ends_with("x\nlost 10 records\n"));
    CHECK(received.size() == (published - 10) * line.size() + std::string_view("lost 10 records\n").size());
}
