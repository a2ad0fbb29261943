// SPDX-License-Identifier: MIT
#include "tests/bench/broker/costs.hpp"

#include <fcntl.h>

#include <cstdio>
#include <cstdlib>

#include "tests/bench/broker/measure.hpp"
#include "tests/bench/broker/product.hpp"
#include "tests/bench/broker/table.hpp"

namespace fdbroker::bench {

namespace {

// Hands out paths one after the other, for ever.
class Turn {
  public:
    explicit Turn(std::vector<std::string> paths) : paths_(std::move(paths)) {}
    const char* next() { return paths_[index_++ % paths_.size()].c_str(); }

  private:
    std::vector<std::string> paths_;
    std::size_t index_ = 0;
};

void open_in_process(const char* path) {
    const proto::UniqueFd file(::openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC));
    if (!file) {
        std::perror(path);
        std::abort();
    }
}

// `paths` must outlive the result.
std::vector<fdbroker_request> batch_of(const std::vector<std::string>& paths, std::size_t size) {
    std::vector<fdbroker_request> requests;
    requests.reserve(size);
    for (std::size_t i = 0; i < size; ++i) {
        fdbroker_request& request = requests.emplace_back();
        request.size = sizeof request;
        request.path = paths[i % paths.size()].c_str();
        request.flags = O_RDONLY;
    }
    return requests;
}

Variant in_process(const std::vector<std::string>& paths) {
    return {.call = [turn = Turn(paths)]() mutable { open_in_process(turn.next()); }};
}

Variant through_barest(const BarestBroker& barest, const std::vector<std::string>& paths) {
    return {.call = [&barest, turn = Turn(paths)]() mutable { (void)barest.open(turn.next()); }};
}

Variant single(const Connection& broker, const std::vector<std::string>& paths) {
    return {.call = [&broker, turn = Turn(paths)]() mutable { broker.open_and_close(turn.next()); }};
}

Variant refused(const Connection& broker, const std::vector<std::string>& paths) {
    return {.call = [&broker, turn = Turn(paths)]() mutable { broker.be_refused(turn.next()); }};
}

Variant batch(const Connection& broker, const std::vector<std::string>& paths, unsigned size) {
    return {.opens_per_call = size,
            .call = [&broker, requests = batch_of(paths, size)] { broker.open_and_close_all(requests); }};
}

Variant outstanding(const Connection& broker, const std::vector<std::string>& paths, unsigned size) {
    return {.opens_per_call = size, .call = [&broker, requests = batch_of(paths, size)] {
                broker.open_and_close_outstanding(requests);
            }};
}

void measure_requests(const Options& options, const Scene& scene, const BarestBroker& barest,
                      const Addresses& addresses) {
    const Connection rules_1000(addresses.rules_1000);
    const Connection rules_10(addresses.rules_10);
    const Connection rules_100000(addresses.rules_100000);
    const std::vector<std::string> paths = scene.paths(1000);
    enum : std::size_t { a, b, one, refusal, batch_64, batch_253, outstanding_32, few_rules, many_rules };
    const std::vector<Variant> variants{in_process(paths),
                                        through_barest(barest, paths),
                                        single(rules_1000, paths),
                                        refused(rules_1000, scene.refused_paths()),
                                        batch(rules_1000, paths, 64),
                                        batch(rules_1000, paths, 253),
                                        outstanding(rules_1000, paths, 32),
                                        single(rules_10, scene.paths(10)),
                                        single(rules_100000, scene.paths(100000))};
    const Measurement measured = interleave(variants, options.rounds, options.chunk());

    print_heading("References");
    print_value("A: openat and close in the process", measured.median(a) / 1000, "us");
    print_value("B: the barest broker", measured.median(b) / 1000, "us");
    print_value("B in terms of A", measured.ratio(b, a), "A");
    print_heading("One client, one core, 1,000 rules");
    print_line(
        {.what = "one request at a time", .measured = measured.ratio(one, b), .target = 1.18, .unit = "B"});
    print_line(
        {.what = "a refused request", .measured = measured.ratio(refusal, b), .target = 0.80, .unit = "B"});
    print_line(
        {.what = "64 in a batch, each", .measured = measured.ratio(batch_64, a), .target = 2.0, .unit = "A"});
    print_line({.what = "64 in a batch, each",
                .measured = measured.ratio(batch_64, b),
                .target = 0.33,
                .unit = "B"});
    print_line({.what = "253 in a batch, each",
                .measured = measured.ratio(batch_253, a),
                .target = 1.8,
                .unit = "A"});
    print_line({.what = "32 single requests outstanding, each",
                .measured = measured.ratio(outstanding_32, b),
                .target = 0.50,
                .unit = "B"});
    print_line({.what = "100,000 rules instead of 10: more by",
                .measured = measured.ratio(many_rules, b) - measured.ratio(few_rules, b),
                .target = 0.06,
                .unit = "B"});
}

void measure_slowest(const Options& options, const Scene& scene, const BarestBroker& barest,
                     const Addresses& addresses) {
    const Connection broker(addresses.rules_1000);
    const std::vector<std::string> paths = scene.paths(1000);
    const std::vector<Variant> variants{through_barest(barest, paths), single(broker, paths)};
    const std::vector<std::vector<double>> times = time_every_call(variants, options.rounds, options.chunk());
    print_line({.what = "one request at a time, 99th percentile (of B's)",
                .measured = quantile(times[1], 0.99) / quantile(times[0], 0.99),
                .target = 1.3,
                .unit = "B"});
}

// The supervisor writes the records some time after the replies: long chunks keep most of that work in the chunk
// that caused it.
void measure_audit(const Options& options, const Scene& scene, const BarestBroker& barest,
                   const Addresses& addresses) {
    const Connection silent(addresses.rules_1000);
    const Connection audited(addresses.audited);
    const std::vector<std::string> paths = scene.paths(1000);
    const std::vector<Variant> variants{through_barest(barest, paths), single(silent, paths),
                                        single(audited, paths)};
    const Measurement measured =
        interleave(variants, std::max(10U, options.rounds / 10), 20 * options.chunk());
    print_line({.what = "every decision recorded in a file: more by",
                .measured = measured.ratio(2, 0) - measured.ratio(1, 0),
                .target = 0.08,
                .unit = "B"});
}

}  // namespace

void measure_costs(const Options& options, const Scene& scene, const BarestBroker& barest,
                   const Addresses& addresses) {
    measure_requests(options, scene, barest, addresses);
    measure_slowest(options, scene, barest, addresses);
    measure_audit(options, scene, barest, addresses);
}

void measure_shadow(const Options& options, const Scene& scene, const BarestBroker& barest,
                    const std::string& without, const std::string& with) {
    const Connection alone(without);
    const Connection shadowed(with);
    const std::vector<std::string> paths = scene.paths(1000);
    const std::vector<Variant> variants{through_barest(barest, paths), single(alone, paths),
                                        single(shadowed, paths)};
    const Measurement measured = interleave(variants, options.rounds, options.chunk());
    print_heading("A candidate in the policy's shadow, 1,000 rules each");
    print_line({.what = "one request at a time: more by",
                .measured = measured.ratio(2, 0) - measured.ratio(1, 0),
                .target = 0.08,
                .unit = "B"});
}

}  // namespace fdbroker::bench
