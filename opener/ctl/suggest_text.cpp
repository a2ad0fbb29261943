// SPDX-License-Identifier: MIT
// What is suggested, as policy text and as JSON.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "opener/ctl/json.hpp"
#include "opener/ctl/policy_suggest.hpp"
#include "opener/ctl/terminal.hpp"
#include "opener/identity/accounts.hpp"
#include "policy/explain/explain.hpp"
#include "policy/matching/peer.hpp"

namespace fdbroker::ctl {

using nlohmann::json;
using policy::LeftOut;
using policy::RefusedRequest;
using policy::SuggestedPeer;
using policy::SuggestedRule;

namespace {

constexpr std::size_t max_tests = 100;
constexpr std::size_t max_refused_tests = 20;
constexpr std::size_t max_told = 20;  // in comments, of one kind
constexpr std::size_t max_opened = 3;

// JSON's strings are YAML's.
std::string yaml_text(std::string_view text) {
    return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

bool is_utf8(const std::string& text) {
    try {
        return !json(text).dump().empty();
    } catch (const json::exception&) {
        return false;
    }
}

// By name where that is still the account's; a policy may not name an account that does not exist.
std::string user_word(const SuggestedPeer& peer, const policy::Accounts& accounts) {
    const bool named = !peer.user.empty() && accounts.uid_of(peer.user) == peer.uid;
    return named ? yaml_text(peer.user) : yaml_text(std::to_string(peer.uid));
}

std::string plain_name(const std::string& text) {
    std::string name;
    for (const char byte : text) {
        const bool plain =
            (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9');
        name += plain ? byte : '-';
    }
    return name;
}

// Names that the policy does not have yet.
class Names {
  public:
    explicit Names(const policy::Policy* base) {
        if (base == nullptr) return;
        for (const policy::Rule& rule : base->rules()) taken_.insert(rule.name);
        for (const std::string& role : base->role_names()) taken_.insert(role);
    }
    std::string fresh(const std::string& wanted) {
        std::string name = wanted;
        for (unsigned number = 2; !taken_.insert(name).second; ++number)
            name = fmt::format("{}-{}", wanted, number);
        return name;
    }

  private:
    std::set<std::string> taken_{};
};

class Text {
  public:
    Text(const SuggestReport& report, const policy::Policy* base)
        : report_(report), suggestion_(report.suggestion), base_(base), names_(base) {}

    std::string make() {
        heading();
        told();
        if (base_ == nullptr) text_ += "version: 1\n";
        if (!suggestion_.rules.empty()) {
            roles();
            rules();
            tests();
        }
        unused();
        return std::move(text_);
    }

  private:
    void comment(const std::string& line) {
        text_ += "# " + printable(line, proto::LineFeeds::escaped) + "\n";
    }

    void heading() {
        std::uint64_t requests = 0;
        for (const RefusedRequest& one : suggestion_.allowed) requests += one.count;
        comment(fmt::format("policy suggest: {} rule{} for {} refused request{}; {} records read",
                            suggestion_.rules.size(), suggestion_.rules.size() == 1 ? "" : "s", requests,
                            requests == 1 ? "" : "s", report_.records));
        if (base_ != nullptr && !suggestion_.rules.empty())
            comment("A fragment: the policy includes it with `include: [...]`.");
        if (report_.malformed != 0) comment(fmt::format("{} lines are no records.", report_.malformed));
        if (report_.forgotten != 0)
            comment(fmt::format("{} refusals are beyond the number that is kept apart.", report_.forgotten));
    }

    void told() {
        std::map<LeftOut::Why, std::vector<const LeftOut*>> by_why;
        for (const LeftOut& one : suggestion_.left_out) by_why[one.why].push_back(&one);
        for (const auto& [why, all] : by_why) {
            comment(fmt::format("Left out, since {}:", to_string(why)));
            for (std::size_t index = 0; index < std::min(all.size(), max_told); ++index) {
                const RefusedRequest& request = all[index]->request;
                comment(fmt::format(
                    "  {} {} as {} ({})", policy::to_text(request.operations), request.path,
                    request.peer.user.empty() ? std::to_string(request.peer.uid) : request.peer.user,
                    request.count));
            }
            if (all.size() > max_told) comment(fmt::format("  and {} more", all.size() - max_told));
        }
        for (const policy::Generalisation& one : suggestion_.generalisations) {
            comment(fmt::format("Generalised: {} patterns became {}", one.from.size(), one.to));
            if (one.opens.empty()) comment("  which opens nothing else");
            for (std::size_t index = 0; index < std::min(one.opens.size(), max_opened); ++index) {
                const policy::Difference& opened = one.opens[index];
                comment(fmt::format(
                    "  opens also: {} for {}, such as {}", policy::to_text(opened.operations),
                    opened.every_peer ? "every peer" : fmt::format("{}", fmt::join(opened.peers, "; ")),
                    opened.path));
            }
            if (one.opens.size() > max_opened)
                comment(fmt::format("  and {} more", one.opens.size() - max_opened));
        }
    }

    void roles() {
        std::set<SuggestedPeer> peers;
        for (const SuggestedRule& rule : suggestion_.rules)
            peers.insert(rule.peers.begin(), rule.peers.end());
        text_ += "roles:\n";
        for (const SuggestedPeer& peer : peers) {
            const std::string user =
                peer.user.empty() ? fmt::format("uid-{}", peer.uid) : plain_name(peer.user);
            std::string& name = roles_[peer];
            name = names_.fresh("suggested-" + user +
                                (peer.socket.empty() ? "" : "-" + plain_name(peer.socket)));
            const std::string sockets =
                peer.socket.empty() ? "" : fmt::format(", sockets: [{}]", yaml_text(peer.socket));
            text_ += fmt::format("  {}: {{users: [{}]{}}}\n", name, user_word(peer, accounts_), sockets);
        }
    }

    void rules() {
        text_ += "rules:\n";
        unsigned number = 0;
        for (const SuggestedRule& rule : suggestion_.rules) {
            std::vector<std::string> roles;
            for (const SuggestedPeer& peer : rule.peers) roles.push_back(roles_[peer]);
            text_ += fmt::format("  - name: {}\n    roles: [{}]\n    {}: [{}]\n    paths:\n",
                                 names_.fresh(fmt::format("suggested-{}", ++number)), fmt::join(roles, ", "),
                                 rule.denies ? "deny" : "allow", policy::to_text(rule.operations));
            for (const policy::SuggestedPath& path : rule.paths)
                text_ += rule.denies ? fmt::format("      - {}\n", yaml_text(path.pattern))
                                     : fmt::format("      - {}  # {} request{}\n", yaml_text(path.pattern),
                                                   path.requests, path.requests == 1 ? "" : "s");
        }
    }

    // Whether the test passes for the peer that the loader makes of the user.
    bool passes(const policy::Policy& policy, const RefusedRequest& request, bool allowed) const {
        const auto path = policy::RequestPath::parse(request.path);
        if (!path || !is_utf8(request.path)) return false;
        const std::string socket = request.peer.listener;
        const policy::PeerIdentity peer =
            policy::complete({.uid = request.peer.uid, .socket = socket}, accounts_);
        return policy.decide(policy.identify(peer), request.operations, *path).has_value() == allowed;
    }

    void test(const RefusedRequest& request, std::string_view expected) {
        const SuggestedPeer peer{request.peer.uid, request.peer.user, request.peer.listener};
        const std::string socket =
            peer.socket.empty() ? "" : fmt::format(", socket: {}", yaml_text(peer.socket));
        std::string operations;
        for (unsigned bit = 0; bit < policy::operation_count; ++bit) {
            const auto operation = static_cast<policy::Operation>(bit);
            if (request.operations.contains(operation))
                operations += fmt::format("{}: {}, ", policy::to_string(operation), yaml_text(request.path));
        }
        text_ += fmt::format("  - {{as: {{user: {}{}}}, {}expect: {}}}\n", user_word(peer, accounts_), socket,
                             operations, expected);
    }

    void tests() {
        const policy::Policy policy = policy::policy_with(base_, suggestion_.rules);
        text_ += "tests:\n";
        std::size_t written = 0;
        for (const RefusedRequest& request : suggestion_.allowed) {
            if (written == max_tests) break;
            if (!passes(policy, request, true)) continue;
            test(request, "allow");
            ++written;
        }
        std::size_t refused = 0;
        for (const LeftOut& one : suggestion_.left_out) {
            const bool stays = one.why == LeftOut::Why::denied || one.why == LeftOut::Why::guarded;
            if (!stays || refused == max_refused_tests || !passes(policy, one.request, false)) continue;
            test(one.request, "refuse");
            ++refused;
        }
        if (written + refused == 0) text_.erase(text_.size() - std::string_view("tests:\n").size());
    }

    void unused() {
        for (const policy::RuleUsage& one : report_.unused) {
            const std::string rule = fmt::format("rule \"{}\" ({}:{})", one.rule->name,
                                                 one.rule->location.file, one.rule->location.line);
            if (one.requests == 0) {
                comment(fmt::format("Unused: {}: no record {} by it", rule,
                                    one.rule->allows ? "is granted" : "is denied"));
                continue;
            }
            comment(fmt::format("Wider than used: {}, used by {} requests:", rule, one.requests));
            if (!one.unused_operations.empty())
                comment(fmt::format("  never for {}", policy::to_text(one.unused_operations)));
            if (!one.unused_roles.empty())
                comment(fmt::format("  never by roles {}", fmt::join(one.unused_roles, ", ")));
            if (!one.unused_patterns.empty())
                comment(fmt::format("  never for paths {}", fmt::join(one.unused_patterns, ", ")));
            for (const auto& [pattern, narrow] : one.narrower)
                comment(fmt::format("  {}: {} would have done", pattern, narrow));
        }
    }

    const SuggestReport& report_;
    const policy::Suggestion& suggestion_;
    const policy::Policy* base_;
    Names names_;
    opener::SystemAccounts accounts_{};
    std::map<SuggestedPeer, std::string> roles_{};
    std::string text_{};
};

json request_to_json(const RefusedRequest& request) {
    return {{"peer", to_json(request.peer)},
            {"operations", to_json(request.operations)},
            {"path", printable(request.path)},
            {"requests", request.count}};
}

json rule_to_json(const SuggestedRule& rule) {
    json peers = json::array(), paths = json::array();
    for (const SuggestedPeer& peer : rule.peers)
        peers.push_back({{"uid", peer.uid},
                         {"user", peer.user.empty() ? json() : json(printable(peer.user))},
                         {"socket", peer.socket.empty() ? json() : json(peer.socket)}});
    for (const policy::SuggestedPath& path : rule.paths)
        paths.push_back({{"pattern", path.pattern}, {"requests", path.requests}});
    return {
        {"peers", std::move(peers)}, {"operations", to_json(rule.operations)}, {"paths", std::move(paths)}};
}

json generalisation_to_json(const policy::Generalisation& one) {
    json opens = json::array();
    for (const policy::Difference& opened : one.opens)
        opens.push_back({{"operations", to_json(opened.operations)},
                         {"every_peer", opened.every_peer},
                         {"peers", opened.peers},
                         {"example", printable(opened.path)}});
    return {{"from", one.from}, {"to", one.to}, {"opens", std::move(opens)}};
}

json usage_to_json(const policy::RuleUsage& one) {
    json narrower = json::array();
    for (const auto& [pattern, narrow] : one.narrower)
        narrower.push_back({{"pattern", pattern}, {"would_have_done", narrow}});
    return {{"rule", one.rule->name},
            {"location", to_json(one.rule->location)},
            {"allows", one.rule->allows},
            {"requests", one.requests},
            {"unused_operations", to_json(one.unused_operations)},
            {"unused_roles", one.unused_roles},
            {"unused_paths", one.unused_patterns},
            {"narrower", std::move(narrower)}};
}

}  // namespace

std::string policy_text(const SuggestReport& report, const policy::Policy* base) {
    return Text(report, base).make();
}

json to_json(const SuggestReport& report, const policy::Policy* base) {
    json rules = json::array(), left_out = json::array(), generalisations = json::array(),
         unused = json::array();
    for (const SuggestedRule& rule : report.suggestion.rules) rules.push_back(rule_to_json(rule));
    for (const LeftOut& one : report.suggestion.left_out) {
        json request = request_to_json(one.request);
        request["why"] = to_string(one.why);
        left_out.push_back(std::move(request));
    }
    for (const policy::Generalisation& one : report.suggestion.generalisations)
        generalisations.push_back(generalisation_to_json(one));
    for (const policy::RuleUsage& one : report.unused) unused.push_back(usage_to_json(one));
    return {{"records", report.records},       {"malformed", report.malformed},
            {"forgotten", report.forgotten},   {"rules", std::move(rules)},
            {"left_out", std::move(left_out)}, {"generalisations", std::move(generalisations)},
            {"unused", std::move(unused)},     {"policy_text", policy_text(report, base)}};
}

}  // namespace fdbroker::ctl
