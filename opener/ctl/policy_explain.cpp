// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <expected>
#include <nlohmann/json.hpp>
#include <utility>

#include "opener/base/byte_text.hpp"
#include "opener/ctl/control_commands.hpp"
#include "opener/ctl/disk.hpp"
#include "opener/ctl/json.hpp"
#include "opener/ctl/policy_commands.hpp"
#include "opener/ctl/read_policy.hpp"
#include "opener/ctl/running_policy.hpp"
#include "opener/ctl/terminal.hpp"
#include "opener/ctl/why_not_report.hpp"
#include "opener/identity/accounts.hpp"
#include "opener/policy_source/load_policy.hpp"
#include "policy/explain/explain.hpp"
#include "policy/matching/peer.hpp"

namespace fdbroker::ctl {

namespace {

using Wrong = std::unexpected<std::string>;  // "what: why"

std::vector<std::string> words_of(const std::string& list) {
    std::vector<std::string> words;
    if (list.empty()) return words;
    for (std::size_t begin = 0; begin <= list.size();) {
        const std::size_t end = std::min(list.find(',', begin), list.size());
        words.push_back(list.substr(begin, end - begin));
        begin = end + 1;
    }
    return words;
}

std::expected<policy::PeerIdentity, std::string> peer_of(const ExplainOptions& options) {
    const opener::SystemAccounts accounts;
    const auto user = policy::find_user(accounts, options.user);
    if (!user) return Wrong(fmt::format("--as: {}", user.error().text));
    policy::PeerDescription description{.uid = user->id, .socket = options.socket};
    if (options.groups) {
        description.groups.emplace();
        for (const std::string& word : words_of(*options.groups)) {
            const auto group = policy::find_group(accounts, word);
            if (!group) return Wrong(fmt::format("--groups: {}", group.error().text));
            description.groups->push_back(group->id);
        }
    }
    return policy::complete(description, accounts);
}

std::expected<policy::OperationSet, std::string> operations_of(const std::string& list) {
    policy::OperationSet operations;
    for (const std::string& word : words_of(list)) {
        const policy::OperationSet meant = policy::operations_from_word(word);
        if (meant.empty())
            return Wrong(fmt::format("{}: there is no such operation; there are {}", word,
                                     fmt::join(policy::operation_words(), ", ")));
        operations = operations | meant;
    }
    if (operations.empty()) return Wrong("OP: no operation is given");
    return operations;
}

struct Question {
    policy::Peer peer;
    policy::OperationSet operations{};
    policy::RequestPath path;
};

// The objects on disk, or why they are not known. Empty where the policy refuses: refused paths are not looked at, here
// as in the opener.
using Looked = std::expected<DiskReport, std::string_view>;

constexpr std::string_view takes_root = "which takes root";

// Whether the request is answered as allowed: who asks makes no difference.
bool allowed_at_last(bool decided, const std::optional<Looked>& disk, const ExplainOptions& options) {
    if (!options.on_disk) return decided;
    return decided && disk && *disk && !(*disk)->obstacle;
}

// `text` explains what the policy says.
void print_text(std::string text, const std::optional<Looked>& disk, const ExplainOptions& options) {
    const bool colour = takes_colour(STDOUT_FILENO);
    if (options.on_disk && disk && *disk && (*disk)->obstacle) {
        const DiskObstacle& obstacle = *(*disk)->obstacle;
        print_raw(painted("refused", Colour::red, colour));
        print(fmt::format(" by what is on disk: {}: {} ({})\n", obstacle.path, obstacle.reason,
                          ::strerrorname_np(obstacle.errno_value)));
        text = "by the policy alone: " + text;
    }
    const std::size_t first = text.find('\n');
    print_raw(painted(printable(text.substr(0, first)), Colour::bold, colour));
    print(text.substr(first));
    if (!disk) return;
    print(*disk ? to_text(**disk) : fmt::format("on disk: could not be looked at, {}\n", disk->error()));
}

// Completes an answer in JSON that `explanation` began.
void print_answer_as_json(nlohmann::json answer, const std::optional<Looked>& disk, bool allowed) {
    answer["allowed"] = allowed;
    answer["disk"] = disk && *disk ? to_json(**disk) : nlohmann::json();
    if (disk && !*disk) answer["disk_not_seen"] = disk->error();
    print_json(answer);
}

ExitStatus status_of(bool allowed, const std::optional<Looked>& disk, const ExplainOptions& options) {
    if (options.on_disk && disk && !*disk && !options.json)
        complain(fmt::format("--on-disk: the disk could not be looked at, {}", disk->error()));
    return allowed ? opener::exit_done : opener::exit_failed;
}

// The edits that would allow the request; empty: nothing is refused, or nobody asked.
std::vector<policy::WhyNotEdit> edits_for(const policy::Policy& policy, const policy::PeerIdentity& peer,
                                          policy::OperationSet operations, policy::RequestPath path,
                                          const ExplainOptions& options) {
    if (!options.why_not) return {};
    return policy::why_not(policy, opener::SystemAccounts{}, peer, operations, path);
}

ExitStatus answer(const policy::Policy& policy, const Question& question, const ExplainOptions& options) {
    const policy::Explanation explanation =
        policy::explain(policy, question.peer, question.operations, question.path);
    std::optional<Looked> disk;
    if (explanation.decision)
        disk = ::geteuid() == 0
                   ? Looked(look_on_disk(policy, question.peer, question.operations, question.path))
                   : std::unexpected(takes_root);
    const bool allowed = allowed_at_last(explanation.decision.has_value(), disk, options);
    const auto edits =
        edits_for(policy, question.peer.identity(), question.operations, question.path, options);
    if (options.json) {
        nlohmann::json whole = to_json(explanation);
        if (options.why_not) whole["why_not"] = why_not_to_json(edits);
        whole["operations"] = to_json(question.operations);
        whole["path"] = printable(question.path.text());
        whole["peer"] = to_json(question.peer.identity());
        print_answer_as_json(std::move(whole), disk, allowed);
    } else {
        print_text(policy::to_text(explanation, question.peer, question.operations, question.path), disk,
                   options);
        print(why_not_text(edits));
    }
    return status_of(allowed, disk, options);
}

// ---- the policy that is served -----------------------------------------------------------------------------

nlohmann::json question_for_opener(const policy::PeerIdentity& peer, policy::OperationSet operations,
                                   policy::RequestPath path) {
    nlohmann::json question{{"uid", peer.uid},
                            {"gid", peer.gid},
                            {"groups", peer.groups},
                            {"user", peer.user},
                            {"group", peer.group},
                            {"socket", peer.listener},
                            {"operations", to_json(operations)}};
    question["path"] = opener::characters_of(path.text());
    return question;
}

// The policy that is served, from its files as long as these are the same; else why not.
std::expected<policy::Policy, std::string_view> served_policy(const nlohmann::json& answer) {
    if (::geteuid() != 0) return std::unexpected(takes_root);
    auto loaded = opener::load_policy(answer["policy"]["file"].get<std::string>());
    if (!loaded || loaded->digest != answer["policy"]["sha256"].get<std::string>())
        return std::unexpected("since the policy's files are not what was loaded");
    return std::move(loaded->policy);
}

Ending explain_running(const ExplainOptions& options, const policy::PeerIdentity& peer,
                       policy::OperationSet operations, policy::RequestPath path) {
    auto answer = answer_of_opener({.control = options.control,
                                    .command = opener::ControlCommand::explain,
                                    .arguments = {question_for_opener(peer, operations, path).dump()}});
    if (!answer) return std::unexpected(answer.error());
    if (answer->contains("error")) return print_error(*answer, options.json);
    const bool decided = (*answer)["allowed"] == true;
    // The edits point to its rules.
    std::expected<policy::Policy, Failure> running = failed(opener::exit_failed, "");
    std::optional<Looked> disk;
    if (decided) {
        const auto served = served_policy(*answer);
        disk = served ? Looked(look_on_disk(*served, served->identify(peer), operations, path))
                      : std::unexpected(served.error());
    }
    const bool allowed = allowed_at_last(decided, disk, options);
    std::vector<policy::WhyNotEdit> edits;
    if (options.why_not && !decided) {
        running = running_policy(options.control);
        if (!running) return std::unexpected(running.error());
        edits = edits_for(*running, peer, operations, path, options);
    }
    if (options.json) {
        if (options.why_not) (*answer)["why_not"] = why_not_to_json(edits);
        answer->erase("text");
        print_answer_as_json(std::move(*answer), disk, allowed);
    } else {
        print_text((*answer)["text"], disk, options);
        print(why_not_text(edits));
    }
    return status_of(allowed, disk, options);
}

}  // namespace

Ending policy_explain(const ExplainOptions& options) {
    const auto operations = operations_of(options.operations);
    if (!operations) return failed(opener::exit_usage, operations.error());
    const auto path = policy::RequestPath::parse(options.path);
    if (!path)
        return failed(opener::exit_usage, fmt::format("{}: {}", options.path, to_string(path.error())));
    auto identity = peer_of(options);
    if (!identity) return failed(opener::exit_usage, identity.error());
    if (options.policy.empty()) return explain_running(options, *identity, *operations, *path);
    const PolicyFiles files = read_policy(options.policy, policy::OwnTests::must_pass);
    if (!files.policy) {
        return report_diagnostics(files, options.json);
    }
    const Question question{files.policy->identify(std::move(*identity)), *operations, *path};
    return answer(*files.policy, question, options);
}

}  // namespace fdbroker::ctl
