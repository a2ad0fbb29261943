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
#include "opener/control/text.hpp"
#include "opener/identity/identity.hpp"
#include "policy/explain/explain.hpp"
#include "proto/printable.hpp"

namespace fdbroker::opener {

using nlohmann::json;
using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

namespace {

using Clock = std::chrono::steady_clock;

// Lines that are answered in one turn of the broker's loop, and for how many times as long as that took nothing more is:
// clients that ask without end get a fifth of its time.
constexpr std::size_t lines_per_turn = 4;
constexpr int rest_factor = 4;

constexpr std::uint32_t all_events =
    std::uint32_t{EPOLLIN} | std::uint32_t{EPOLLOUT} | std::uint32_t{EPOLLRDHUP} | std::uint32_t{EPOLLET};

std::string dump(const json& document) {
    return document.dump(-1, ' ', true, json::error_handler_t::replace);
}

std::string in_words(ControlCommand command, const json& answer, bool as_json) {
    return as_json ? dump(answer) + "\n" : to_text(command, answer);
}

// What a sealed file in memory holds.
std::string text_of(BorrowedFd file) {
    std::string text(StartReport::max_size, '\0');
    const ssize_t size = file ? ::pread(file.number(), text.data(), text.size(), 0) : 0;
    text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return text;
}

std::string watch_line(const WatchedDecision& decision) {
    const DecisionRecord& record = decision.record;
    const auto second = std::chrono::floor<std::chrono::seconds>(record.head.time);
    const bool refused = record.errno_value != 0;
    std::string line = fmt::format(
        "{:%H:%M:%S}.{:06} {} {} {} pid {} uid {}", fmt::gmtime(second),
        std::chrono::floor<std::chrono::microseconds>(record.head.time - second).count(),
        refused ? "refused" : "allowed",
        asked_text(proto::to_string(record.call), policy::to_text(record.operations)),
        proto::printable(record.path, proto::LineFeeds::escaped), decision.pid, decision.peer.uid);
    if (!decision.peer.user.empty())
        line += fmt::format(" ({})", proto::printable(decision.peer.user, proto::LineFeeds::escaped));
    if (!refused && record.rule != nullptr)
        line += fmt::format(" rule {}", proto::printable(record.rule->name, proto::LineFeeds::escaped));
    if (refused)
        line += fmt::format(": {} ({})", proto::printable(record.reason, proto::LineFeeds::escaped),
                            ::strerrorname_np(record.errno_value));
    if (record.head.sequence != 0) line += fmt::format(" [{}]", record.head.sequence);
    return line + "\n";
}

}  // namespace

Result<ControlServer> ControlServer::create(ControlAccess access) {
    auto loop = EventLoop::create();
    if (!loop) return std::unexpected(loop.error());
    return ControlServer(access, std::move(*loop));
}

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

void ControlServer::adopt(ConnectionId token, UniqueFd socket, std::uint64_t packed) {
    const ControlNote note = ControlNote::from(packed);
    const auto rights = rights_of(socket.borrow());
    auto client = std::make_unique<ControlClient>(token, std::move(socket), note, rights);
    ControlClient& added = *client;
    clients_.push_back(std::move(client));
    if (rights == ControlClient::Rights::none) {
        added.answer("error: only root and the members of the control group control the opener\n");
        added.end();
    } else if (!loop_->add(added.descriptor(), all_events, &added)) {
        added.end();
    } else if (note.waits == ControlNote::Waits::watching) {
        ++watchers_;
    }
    added.flush();
    remove_finished();
}

// ---- commands ------------------------------------------------------------------------------------------

void ControlServer::serve() {
    for (const epoll_event& event : loop_->wait(0)) {
        auto* const client = static_cast<ControlClient*>(event.data.ptr);
        client->flush();
        if ((event.events & EPOLLHUP) != 0) client->end();
        if (std::ranges::find(ready_, client) == ready_.end()) ready_.push_back(client);
    }
    const auto begun = Clock::now();
    if (begun < rest_until_) return remove_finished();
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
        case ControlCommand::help:
            return answer({{"text", control_help()}});
        case ControlCommand::watch:
            return wait(client, {.waits = ControlNote::Waits::watching, .json = line->json});
        case ControlCommand::reload:
            wait(client, {.waits = ControlNote::Waits::reload, .json = line->json});
            return host_->tell({.type = LinkType::reload, .token = client.token()});
        case ControlCommand::shutdown:
            answer({{"stopping", true}});
            client.flush();
            return host_->tell({.type = LinkType::shutdown, .token = client.token()});
        case ControlCommand::take_over:
            return take_over(client, *line);
        case ControlCommand::workers:
            if (line->arguments.empty()) return answer(answer_workers(*facts_));
            return set_workers(client, *line);
    }
}

void ControlServer::set_workers(ControlClient& client, const ControlLine& line) {
    const auto count = worker_count(*facts_, line.arguments[0], line.arguments[1]);
    if (!count) return client.answer(in_words(line.command, count.error(), line.json));
    wait(client, {.waits = ControlNote::Waits::workers, .json = line.json});
    host_->tell({.type = LinkType::set_workers, .total = *count, .token = client.token()});
}

// Not for the control group: what is executed has the opener's rights.
void ControlServer::take_over(ControlClient& client, const ControlLine& line) {
    const auto peer = identify(client.descriptor(), {}, PeerNames{}, RefusedPeers{});
    if (!peer || (peer->identity.uid != 0 && peer->identity.uid != access_.opener_uid))
        return client.answer("error: only root has the opener execute its program anew\n");
    wait(client, {.waits = ControlNote::Waits::take_over, .json = line.json});
    host_->tell({.type = LinkType::reload, .total = 1, .token = client.token()});
}

void ControlServer::answer_metrics(ControlClient& client, bool as_json) {
    // For the next time: the supervisor looks at the processes, which this one cannot see.
    host_->tell({.type = LinkType::measure});
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
    host_->tell({.type = LinkType::note, .token = client.token(), .note = note.packed()});
}

void ControlServer::settle(ConnectionId token, CommandResult result, UniqueFd said) {
    const auto found = std::ranges::find(clients_, token, [](const auto& client) { return client->token(); });
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
}

// ---- watch ---------------------------------------------------------------------------------------------

void ControlServer::publish(const WatchedDecision& decision) {
    std::string as_json, as_text;
    for (const auto& client : clients_) {
        if (!client->watches()) continue;
        std::string& line = client->note().json ? as_json : as_text;
        if (line.empty()) {
            if (client->note().json) {
                write_line(line, decision.record);
            } else {
                line = watch_line(decision);
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
            host_->tell({.type = LinkType::note, .token = client->token(), .note = client->note().packed()});
    }
    remove_finished();
    for (const auto& client : clients_) loop_->remove(client->descriptor());
    clients_.clear();
    ready_.clear();
    watchers_ = 0;
}

void ControlServer::remove_finished() {
    std::erase_if(clients_, [this](const std::unique_ptr<ControlClient>& client) {
        if (!client->finished()) return false;
        if (client->watches()) --watchers_;
        lost_ += client->lost();
        std::erase(ready_, client.get());
        loop_->remove(client->descriptor());
        host_->tell({.type = LinkType::release, .token = client->token()});
        return true;
    });
}

}  // namespace fdbroker::opener
