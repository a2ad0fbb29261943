// SPDX-License-Identifier: MIT
#include "opener/control/server.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "opener/control/answers.hpp"
#include "opener/control/shadow_answer.hpp"
#include "opener/control/text.hpp"
#include "opener/identity/identity.hpp"
#include "policy/explain/explain.hpp"
#include "proto/printable.hpp"

namespace fdbroker::opener {

using nlohmann::json;
using proto::BorrowedFd;
using proto::UniqueFd;

namespace {

// Lines that are answered in one turn of the broker's loop, and for how many times as long as that took nothing more is:
// clients that ask without end get a fifth of the time.
constexpr std::size_t lines_per_turn = 4;
constexpr int rest_factor = 4;

constexpr Events all_events = Events::readable | Events::writable | Events::peer_ended | Events::edge;

std::string dump(const json& document) {
    return document.dump(-1, ' ', true, json::error_handler_t::replace);
}

std::string in_words(ControlCommand command, const json& answer, bool as_json) {
    return as_json ? dump(answer) + "\n" : to_text(command, answer);
}

// The content of a sealed file in memory.
std::string text_of(BorrowedFd file) {
    std::string text(StartReport::max_size, '\0');
    const ssize_t size = file ? ::pread(file.number(), text.data(), text.size(), 0) : 0;
    text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return text;
}

std::string watch_line(const DecisionRecord& record, pid_t pid, const policy::PeerIdentity& peer) {
    const auto second = std::chrono::floor<std::chrono::seconds>(record.head.time);
    const bool refused = record.errno_value != 0;
    std::string line =
        fmt::format("{:%H:%M:%S}.{:06} {} {} {} pid {} uid {}", fmt::gmtime(second),
                    std::chrono::floor<std::chrono::microseconds>(record.head.time - second).count(),
                    refused ? "refused" : "allowed",
                    asked_text(proto::to_string(record.call), policy::to_text(record.operations)),
                    proto::printable(record.path, proto::LineFeeds::escaped), pid, peer.uid);
    if (!peer.user.empty())
        line += fmt::format(" ({})", proto::printable(peer.user, proto::LineFeeds::escaped));
    if (!refused && record.rule != nullptr)
        line += fmt::format(" rule {}", proto::printable(record.rule->name, proto::LineFeeds::escaped));
    if (refused)
        line += fmt::format(": {} ({})", proto::printable(record.reason, proto::LineFeeds::escaped),
                            ::strerrorname_np(record.errno_value));
    if (record.head.sequence != 0) line += fmt::format(" [{}]", record.head.sequence);
    return line + "\n";
}

}  // namespace

void ControlServer::begin(const GenerationFacts& facts, ControlHost& host) noexcept {
    facts_ = &facts;
    host_ = &host;
}

ControlClient::Rights ControlServer::rights_of(BorrowedFd socket) const {
    using Rights = ControlClient::Rights;
    const auto peer = identify(socket, {}, {}, {});
    if (!peer) return Rights::none;
    const policy::PeerIdentity& who = peer->identity;
    if (who.uid == 0 || who.uid == access_.opener_uid) return Rights::all;
    const auto is_member = [&](const std::optional<gid_t>& group) {
        return group && (who.gid == *group || std::ranges::find(who.groups, *group) != who.groups.end());
    };
    if (is_member(access_.group)) return Rights::all;
    return is_member(access_.metrics_group) ? Rights::metrics : Rights::none;
}

void ControlServer::adopt(ConnectionId connection_id, UniqueFd socket, std::uint64_t packed) {
    const ControlNote note = ControlNote::from(packed);
    const auto rights = rights_of(socket.borrow());
    auto client = std::make_unique<ControlClient>(connection_id, std::move(socket), note, rights);
    ControlClient& added = *client;
    clients_.push_back(std::move(client));
    if (rights == ControlClient::Rights::none) {
        added.answer("error: only root and the members of the control group control the opener\n");
        added.end();
    } else if (!watch(added)) {
        added.end();
    } else if (note.waits == ControlNote::Waits::watching) {
        ++watchers_;
    }
    added.flush();
    remove_finished();
}

bool ControlServer::watch(ControlClient& client) {
    auto source = loop_.watch(client.descriptor(), all_events,
                              [this, &client](Events events) { hear(client, events); });
    if (source) client.watched_by(std::move(*source));
    return source.has_value();
}

// ---- commands ------------------------------------------------------------------------------------------

void ControlServer::hear(ControlClient& client, Events events) {
    client.flush();
    if (has(events, Events::hung_up)) client.end();
    if (std::ranges::find(ready_, &client) == ready_.end()) ready_.push_back(&client);
    remove_finished();
    if (!ready_.empty()) turn_.set(rest_until_);
}

void ControlServer::serve_lines() {
    const auto begun = Clock::now();
    for (std::size_t lines = 0; lines < lines_per_turn && !ready_.empty(); ++lines) {
        ControlClient& client = *ready_.front();
        ready_.erase(ready_.begin());
        if (const auto line = client.next_line(room_)) {
            obey(client, *line);
            ready_.push_back(&client);
        }
        client.flush();
    }
    rest_until_ = begun + (Clock::now() - begun) * (1 + rest_factor);
    remove_finished();
    if (!ready_.empty()) turn_.set(rest_until_);
}

void ControlServer::obey(ControlClient& client, std::string_view text) {
    const auto line = parse_control_line(text);
    if (!line) {
        client.answer("error: " + line.error() + "\n");
        return;
    }
    if (client.rights() == ControlClient::Rights::metrics && line->command != ControlCommand::metrics) {
        client.answer(
            fmt::format("error: members of the group {} may ask for metrics alone\n", metrics_group));
        return;
    }
    const auto answer = [&](const json& what) { client.answer(in_words(line->command, what, line->json)); };
    switch (line->command) {
        case ControlCommand::status:
            return answer(answer_status(*facts_, *host_));
        case ControlCommand::uptime:
            return answer(answer_uptime(*facts_));
        case ControlCommand::echo:
            return answer({{"text", (line->arguments.empty() ? "" : line->arguments[0]) + "\n"}});
        case ControlCommand::metrics:
            return answer_metrics(client, line->json);
        case ControlCommand::connections:
            return answer(answer_connections(*host_, line->grants));
        case ControlCommand::why:
            return answer(answer_why(*facts_, line->arguments[0]));
        case ControlCommand::explain:
            return answer(answer_explain(*facts_, line->arguments[0]));
        case ControlCommand::policy:
            return answer(answer_policy(*facts_));
        case ControlCommand::help:
            return answer({{"text", control_help()}});
        case ControlCommand::watch:
            return wait(client, {.waits = ControlNote::Waits::watching, .json = line->json});
        case ControlCommand::reload:
            wait(client, {.waits = ControlNote::Waits::reload, .json = line->json});
            return host_->tell(to_supervisor::Reload{client.connection_id()});
        case ControlCommand::shutdown:
            answer({{"stopping", true}});
            client.flush();
            return host_->tell(to_supervisor::Shutdown{client.connection_id()});
        case ControlCommand::take_over:
            return take_over(client, *line);
        case ControlCommand::workers:
            if (line->arguments.empty()) return answer(answer_workers(*facts_));
            return set_workers(client, *line);
        case ControlCommand::shadow:
            return shadow(client, *line);
    }
}

void ControlServer::set_workers(ControlClient& client, const ControlLine& line) {
    const auto count = worker_count(*facts_, line.arguments[0], line.arguments[1]);
    if (!count) return client.answer(in_words(line.command, count.error(), line.json));
    wait(client, {.waits = ControlNote::Waits::workers, .json = line.json});
    host_->tell(to_supervisor::SetWorkers{.connection_id = client.connection_id(), .count = *count});
}

bool ControlServer::is_root(const ControlClient& client) const {
    const auto peer = identify(client.descriptor(), {}, PeerNames{}, RefusedPeers{});
    return peer && (peer->identity.uid == 0 || peer->identity.uid == access_.opener_uid);
}

// A file is for root alone to name: what is wrong with it is told, and could be another file's content.
void ControlServer::shadow(ControlClient& client, const ControlLine& line) {
    const std::string& what = line.arguments[0];
    const auto answer = [&](const json& text) { client.answer(in_words(line.command, text, line.json)); };
    if (what == "--report") return answer(answer_shadow(*facts_));
    to_supervisor::Shadow message{.connection_id = client.connection_id()};
    if (what != "--stop") {
        if (!is_root(client)) return answer(failure("shadow: only root names a candidate"));
        if (!what.starts_with('/') || what.size() >= message.file.size())
            return answer(failure("shadow: a candidate is an absolute path, --report or --stop", exit_usage));
        std::ranges::copy(what, message.file.begin());
    }
    wait(client, {.waits = ControlNote::Waits::shadow, .json = line.json});
    host_->tell(message);
}

// Not for the control group: what is executed has the opener's rights.
void ControlServer::take_over(ControlClient& client, const ControlLine& line) {
    if (!is_root(client)) return client.answer("error: only root has the opener execute its program anew\n");
    wait(client, {.waits = ControlNote::Waits::take_over, .json = line.json});
    host_->tell(to_supervisor::TakeOver{client.connection_id()});
}

void ControlServer::answer_metrics(ControlClient& client, bool as_json) {
    // For the next time: the supervisor looks at the processes, which this one cannot see.
    host_->tell(to_supervisor::Measure{});
    Gauges gauges = gauges_of(*facts_, *host_);
    gauges.control_clients = clients_.size();
    gauges.watchers = watchers_;
    gauges.lost_watch_records = lost_;
    for (const auto& each : clients_) gauges.lost_watch_records += each->lost();
    client.answer(as_json ? dump(to_json(host_->metrics(), gauges)) + "\n"
                          : to_prometheus(host_->metrics(), gauges));
}

// The next generation hears of it as well, whatever becomes of this one.
void ControlServer::wait(ControlClient& client, const ControlNote& note) {
    client.note() = note;
    if (client.watches()) ++watchers_;
    host_->tell(to_supervisor::NoteControl{.connection_id = client.connection_id(), .note = note.packed()});
}

void ControlServer::settle(ConnectionId connection_id, CommandResult result, UniqueFd said) {
    const auto found = std::ranges::find(clients_, connection_id,
                                         [](const auto& client) { return client->connection_id(); });
    if (found == clients_.end()) return;
    ControlClient& client = **found;
    const ControlNote note = client.note();
    const bool done = result == CommandResult::done;
    json answer;
    ControlCommand command = ControlCommand::reload;
    if (note.waits == ControlNote::Waits::reload) {
        answer = done ? answer_reloaded(*facts_) : answer_not_reloaded(result, text_of(said.borrow()));
    } else if (note.waits == ControlNote::Waits::take_over) {
        command = ControlCommand::take_over;
        answer = done ? answer_reloaded(*facts_) : answer_not_taken_over(result, text_of(said.borrow()));
    } else if (note.waits == ControlNote::Waits::shadow) {
        command = ControlCommand::shadow;
        answer = done ? answer_shadow(*facts_) : answer_no_shadow(result, text_of(said.borrow()));
    } else if (note.waits == ControlNote::Waits::workers) {
        command = ControlCommand::workers;
        answer = done ? answer_workers(*facts_)
                      : failure(fmt::format(
                            "workers: there may be {} at most, and none when the opener stops", max_workers));
    } else {
        return;
    }
    wait(client, {});
    client.answer(in_words(command, answer, note.json));
    client.flush();
    ready_.push_back(&client);
    turn_.set(rest_until_);
}

// ---- watch ---------------------------------------------------------------------------------------------

void ControlServer::publish(const DecisionRecord& decision, pid_t pid, const policy::PeerIdentity& peer) {
    std::string as_json, as_text;
    for (const auto& client : clients_) {
        if (!client->watches()) continue;
        std::string& line = client->note().json ? as_json : as_text;
        if (line.empty()) {
            if (client->note().json) {
                write_line(line, decision);
            } else {
                line = watch_line(decision, pid, peer);
            }
        }
        client->stream(line);
    }
    published_ = true;
}

void ControlServer::send_published() {
    published_ = false;
    for (const auto& client : clients_) {
        if (client->watches()) client->flush();
    }
    remove_finished();
}

// ---- the end -------------------------------------------------------------------------------------------

void ControlServer::hand_over() {
    for (const auto& client : clients_) {
        client->hand_over();
        if (client->watches())
            host_->tell(to_supervisor::NoteControl{.connection_id = client->connection_id(),
                                                   .note = client->note().packed()});
    }
    remove_finished();
    clients_.clear();
    ready_.clear();
    turn_.stop();
    watchers_ = 0;
}

void ControlServer::remove_finished() {
    std::erase_if(clients_, [this](const std::unique_ptr<ControlClient>& client) {
        if (!client->finished()) return false;
        if (client->watches()) --watchers_;
        lost_ += client->lost();
        std::erase(ready_, client.get());
        host_->tell(to_supervisor::Release{client->connection_id()});
        return true;
    });
}

}  // namespace fdbroker::opener
