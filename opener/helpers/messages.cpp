// SPDX-License-Identifier: MIT
#include "opener/helpers/messages.hpp"

#include <cstring>
#include <type_traits>

namespace fdbroker::opener {

namespace {

class FieldWriter {
  public:
    template <typename T>
        requires(std::is_integral_v<T>)
    void number(T value) {
        const auto bytes = std::as_bytes(std::span(&value, 1));
        message_.insert(message_.end(), bytes.begin(), bytes.end());
    }
    void bytes(std::span<const std::byte> bytes) {
        number(static_cast<std::uint32_t>(bytes.size()));
        message_.insert(message_.end(), bytes.begin(), bytes.end());
    }
    void text(std::string_view text) { bytes(std::as_bytes(std::span(text))); }
    std::vector<std::byte> take() && { return std::move(message_); }

  private:
    std::vector<std::byte> message_{};
};

// After the first thing that does not fit, everything is 0 and finished() is false.
class FieldReader {
  public:
    explicit FieldReader(std::span<const std::byte> message) : rest_(message) {}

    template <typename T>
        requires(std::is_integral_v<T>)
    T number() {
        T value{};
        const auto bytes = take(sizeof value);
        if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof value);
        return value;
    }
    std::span<const std::byte> bytes() { return take(number<std::uint32_t>()); }
    std::string_view text() {
        const auto found = bytes();
        return {reinterpret_cast<const char*>(found.data()), found.size()};
    }
    void fail() { sound_ = false; }
    bool sound() const { return sound_; }
    bool finished() const { return sound_ && rest_.empty(); }

  private:
    std::span<const std::byte> take(std::size_t size) {
        if (!sound_ || size > rest_.size()) {
            sound_ = false;
            return {};
        }
        const auto taken = rest_.first(size);
        rest_ = rest_.subspan(size);
        return taken;
    }

    std::span<const std::byte> rest_;
    bool sound_ = true;
};

std::uint32_t number_of(FromHelper::Type type) {
    return static_cast<std::uint32_t>(type);
}

Outcome read_outcome(FieldReader& reader, std::span<const policy::Rule> rules) {
    Outcome outcome;
    outcome.errno_value = reader.number<std::int32_t>();
    const bool done = outcome.errno_value == 0;
    if (!done) outcome.completion = Completion::refused;
    const auto step = reader.number<std::uint8_t>();
    outcome.step = outcome.recorded_step = static_cast<proto::Step>(step);
    outcome.operations = policy::OperationSet::from_bits(reader.number<std::uint16_t>());
    const auto rule = reader.number<std::uint32_t>();
    if (rule != 0 && rule <= rules.size()) outcome.rule = &rules[rule - 1];
    outcome.copied = reader.number<std::uint64_t>();
    outcome.reason = reader.text();
    outcome.final_path = reader.text();
    if (outcome.errno_value < 0 || outcome.errno_value > proto::max_errno ||
        step > static_cast<std::uint8_t>(proto::Step::record) || done != (step == 0) ||
        outcome.reason.size() > proto::max_reason_length ||
        outcome.final_path.size() > proto::max_path_length) {
        reader.fail();
    }
    return outcome;
}

}  // namespace

std::vector<std::byte> write_job(const Job& job) {
    FieldWriter writer;
    writer.number(job.number);
    writer.number(static_cast<std::uint8_t>(job.allows_background));
    writer.number(job.deadline.time_since_epoch().count());
    for (const std::string_view text : {job.listener, job.user, job.group}) writer.text(text);
    writer.bytes(job.requests);
    return std::move(writer).take();
}

std::optional<Job> read_job(std::span<const std::byte> message) {
    FieldReader reader(message);
    Job job;
    job.number = reader.number<std::uint64_t>();
    job.allows_background = reader.number<std::uint8_t>() != 0;
    job.deadline = std::chrono::steady_clock::time_point(
        std::chrono::steady_clock::duration(reader.number<std::chrono::steady_clock::rep>()));
    for (std::string_view* const text : {&job.listener, &job.user, &job.group}) *text = reader.text();
    job.requests = reader.bytes();
    if (!reader.finished()) return std::nullopt;
    return job;
}

void set_allows_background(std::span<std::byte> job, bool allows_background) noexcept {
    job[sizeof(Job::number)] = std::byte{allows_background};
}

std::vector<std::byte> write_report(std::uint64_t job, std::span<const Outcome> outcomes,
                                    std::span<const policy::Rule> rules) {
    FieldWriter writer;
    writer.number(number_of(FromHelper::Type::report));
    writer.number(job);
    writer.number(static_cast<std::uint32_t>(outcomes.size()));
    std::size_t room = max_final_paths;
    for (const Outcome& outcome : outcomes) {
        writer.number(static_cast<std::int32_t>(outcome.errno_value));
        writer.number(static_cast<std::uint8_t>(outcome.recorded_step));
        writer.number(outcome.operations.bits());
        writer.number(
            static_cast<std::uint32_t>(outcome.rule != nullptr ? outcome.rule - rules.data() + 1 : 0));
        writer.number(outcome.copied);
        writer.text(outcome.recorded_reason().substr(0, proto::max_reason_length));
        const std::string_view final_path = outcome.final_path.view().substr(0, room);
        room -= final_path.size();
        writer.text(final_path);
    }
    return std::move(writer).take();
}

std::vector<std::byte> write_verdict(const Verdict& verdict) {
    FieldWriter writer;
    writer.number(verdict.job);
    writer.number(static_cast<std::uint8_t>(verdict.over_budget));
    writer.number(static_cast<std::uint32_t>(verdict.records.size()));
    for (const Recorded& recorded : verdict.records) {
        writer.number(recorded.sequence);
        writer.number(static_cast<std::uint8_t>(recorded.may_leave));
    }
    return std::move(writer).take();
}

std::optional<Verdict> read_verdict(std::span<const std::byte> message) {
    FieldReader reader(message);
    Verdict verdict{.job = reader.number<std::uint64_t>()};
    verdict.over_budget = reader.number<std::uint8_t>() != 0;
    const auto count = reader.number<std::uint32_t>();
    for (std::uint32_t i = 0; i < count && reader.sound(); ++i) {
        Recorded& recorded = verdict.records.emplace_back();
        recorded.sequence = reader.number<std::uint64_t>();
        recorded.may_leave = reader.number<std::uint8_t>() != 0;
    }
    if (!reader.finished()) return std::nullopt;
    return verdict;
}

std::vector<std::byte> write_sent(const Sent& sent) {
    FieldWriter writer;
    writer.number(number_of(FromHelper::Type::sent));
    writer.number(sent.job);
    writer.number(sent.descriptors);
    writer.number(sent.errno_value);
    writer.number(static_cast<std::uint8_t>(sent.in_background));
    return std::move(writer).take();
}

std::vector<std::byte> write_idle() {
    FieldWriter writer;
    writer.number(number_of(FromHelper::Type::idle));
    return std::move(writer).take();
}

std::vector<std::byte> write_moved() {
    FieldWriter writer;
    writer.number(number_of(FromHelper::Type::moved));
    return std::move(writer).take();
}

std::vector<std::byte> write_ended(std::int32_t errno_value) {
    FieldWriter writer;
    writer.number(number_of(FromHelper::Type::ended));
    writer.number(errno_value);
    return std::move(writer).take();
}

std::optional<FromHelper> read_from_helper(std::span<const std::byte> message,
                                           std::span<const policy::Rule> rules) {
    FieldReader reader(message);
    FromHelper result{.type = static_cast<FromHelper::Type>(reader.number<std::uint32_t>())};
    switch (result.type) {
        case FromHelper::Type::report: {
            result.report.job = reader.number<std::uint64_t>();
            const auto count = reader.number<std::uint32_t>();
            for (std::uint32_t i = 0; i < count && reader.sound(); ++i) {
                result.report.outcomes.push_back(read_outcome(reader, rules));
            }
            break;
        }
        case FromHelper::Type::sent:
            result.sent.job = reader.number<std::uint64_t>();
            result.sent.descriptors = reader.number<std::uint32_t>();
            result.sent.errno_value = reader.number<std::int32_t>();
            result.sent.in_background = reader.number<std::uint8_t>() != 0;
            if (result.sent.descriptors > proto::max_requests) reader.fail();
            break;
        case FromHelper::Type::idle:
        case FromHelper::Type::moved:
            break;
        case FromHelper::Type::ended:
            result.errno_value = reader.number<std::int32_t>();
            if (result.errno_value < 0 || result.errno_value > proto::max_errno) reader.fail();
            break;
        default:
            reader.fail();
    }
    if (!reader.finished()) return std::nullopt;
    return result;
}

}  // namespace fdbroker::opener
