// SPDX-License-Identifier: MIT
// Random pairs of policies over few names: the diff must find a difference exactly when the engine and the plain reference
// decide differently somewhere.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <set>

#include "policy/diff/diff.hpp"
#include "policy/diff/name_classes.hpp"
#include "policy/language/compile.hpp"
#include "tests/support/policy_reference.hpp"
#include "tests/unit/policy_support.hpp"

namespace fdbroker::policy {
namespace {

using test::ReferenceRule;

// A rule of the reference, and what the reference does not know of.
struct RandomRule {
    ReferenceRule plain{};
    unsigned roles = 0;  // index into role_sets
    Rule settings{};
};
using RandomPolicy = std::vector<RandomRule>;

const std::vector<std::vector<std::uint32_t>> role_sets{{}, {0}, {1}, {0, 1}, {2}, {3}, {1, 3}, {4}};

std::vector<Role> roles() {
    return {{.name = "alice", .users = {{.uid = 1000, .by_name = true}}},
            {.name = "bob", .users = {{.uid = 1001, .by_name = false}}},
            {.name = "adm", .groups = {4}},
            {.name = "convert", .sockets = {"convert"}},
            {.name = "alice-adm", .users = {{.uid = 1000, .by_name = true}}, .groups = {4}}};
}

Policy policy_of(const RandomPolicy& rules) {
    PolicyDraft draft;
    for (Role& role : roles()) draft.roles.push_back(std::move(role));
    for (const RandomRule& rule : rules) {
        RuleDraft one;
        one.rule = rule.settings;
        one.rule.name = fmt::format("rule-{}", draft.rules.size());
        one.rule.allows = rule.plain.allows;
        one.rule.ancestors = rule.settings.ancestors && rule.plain.allows;
        one.rule.operations = rule.plain.operations;
        one.roles = role_sets[rule.roles];
        one.paths.push_back({rule.plain.pattern, parse_pattern(rule.plain.pattern).value()});
        draft.rules.push_back(std::move(one));
    }
    return compile(std::move(draft));
}

std::vector<PeerIdentity> peers() {
    return {{.uid = 1000, .gid = 1000, .user = "alice", .group = "alice"},
            {.uid = 1000, .gid = 1000, .groups = {4}, .user = "alice", .group = "alice"},
            {.uid = 1000, .gid = 1000, .user = "", .group = "alice"},
            {.uid = 1001, .gid = 1001, .user = "bob", .group = "bob"},
            {.uid = 1001, .gid = 1001, .user = "bob", .group = "bob", .listener = "convert"},
            {.uid = 65534, .gid = 65534, .user = "nobody", .group = "nogroup"},
            {.uid = 65534, .gid = 4, .user = "nobody", .group = "adm", .listener = "convert"},
            {.uid = 7, .gid = 7, .user = "ab", .group = "b"},
            {.uid = 8, .gid = 8, .user = "a", .group = ""}};
}

class Generator {
  public:
    explicit Generator(unsigned seed) : random_(seed) {}

    unsigned number(unsigned below) { return static_cast<unsigned>(random_() % below); }

    RandomPolicy policy() {
        RandomPolicy rules(number(6) + 1);
        for (RandomRule& one : rules) one = rule();
        return rules;
    }

    RandomRule rule() {
        RandomRule one;
        one.plain = {.allows = number(4) != 0, .operations = operations(), .pattern = pattern()};
        one.roles = number(2) == 0 ? 0 : number(static_cast<unsigned>(role_sets.size()));
        // Explicit: what an unset one means depends on the rule's other operations.
        one.settings.files.max_links = 1;
        if (number(3) == 0) one.settings.reveal = Reveal::enoent;
        if (number(4) == 0) one.settings.symlinks = Symlinks::follow;
        if (number(4) == 0) one.settings.create.mode = 0600;
        if (number(5) == 0) one.settings.create.owner = 1000;
        if (number(5) == 0) one.settings.files.max_size = 10;
        one.settings.ancestors = number(4) == 0;
        return one;
    }

    // An edit that may have an effect or none.
    void edit(RandomPolicy& rules) {
        const unsigned at = number(static_cast<unsigned>(rules.size()));
        switch (number(7)) {
            case 0:
                rules[at].plain.pattern = pattern();
                break;
            case 1:
                rules[at].plain.operations = operations();
                break;
            case 2:
                rules[at].roles = number(static_cast<unsigned>(role_sets.size()));
                break;
            case 3:
                rules.insert(rules.begin() + number(static_cast<unsigned>(rules.size() + 1)), rule());
                break;
            case 4:
                if (rules.size() > 1) rules.erase(rules.begin() + at);
                break;
            case 5:
                std::swap(rules[at], rules[number(static_cast<unsigned>(rules.size()))]);
                break;
            default:
                rules[at].settings = rule().settings;
                break;
        }
    }

    // Edits that have no effect.
    void rewrite(RandomPolicy& rules) {
        const unsigned at = number(static_cast<unsigned>(rules.size()));
        switch (number(4)) {
            case 0:  // said twice
                rules.insert(rules.begin() + at, rules[at]);
                break;
            case 1: {  // divided by operations
                RandomRule rest = rules[at];
                const OperationSet some = operations() & rest.plain.operations;
                rest.plain.operations = rest.plain.operations - some;
                rules[at].plain.operations = some;
                rules.insert(rules.begin() + at + number(2), rest);
                std::erase_if(rules, [](const RandomRule& one) { return one.plain.operations.empty(); });
                break;
            }
            case 2: {  // divided by patterns
                const std::string& pattern = rules[at].plain.pattern;
                const std::size_t braces = pattern.find("{a,b}");
                if (braces == std::string::npos) break;
                RandomRule rest = rules[at];
                rest.plain.pattern.replace(braces, 5, "b");
                rules[at].plain.pattern.replace(braces, 5, "a");
                rules.insert(rules.begin() + at + number(2), rest);
                break;
            }
            default:  // an allow rule and a deny rule in another order
                if (at + 1 < rules.size() && rules[at].plain.allows != rules[at + 1].plain.allows)
                    std::swap(rules[at], rules[at + 1]);
                break;
        }
    }

    std::string path() {
        return joined({"a", "b", "ab", "alice", "bob", "a.b", ".a", "ba", "aab", "c", "1000", "a1001", "abb"},
                      4);
    }
    OperationSet operations() {
        const auto some = OperationSet::from_bits(static_cast<std::uint16_t>(random_() | random_()));
        return some.empty() ? OperationSet{Operation::read} : some;
    }

  private:
    std::string pattern() {
        return joined({"a",   "b",      "ab",        "**",       "**",     "*",       "a*",      "*b",
                       "?",   "[ab]",   "[!a]*",     "{a,b}",    "{a,*}b", "${user}", "a${uid}", "*.b",
                       "\\a", "\\x61b", "[\\x61-b]", "${user}b", "??",     "alice",   "*a*"},
                      4);
    }
    std::string joined(const std::vector<std::string>& names, unsigned most) {
        std::string text;
        for (unsigned count = number(most) + 1; count > 0; --count)
            text += '/' + names[number(static_cast<unsigned>(names.size()))];
        return text;
    }
    std::mt19937 random_;
};

// The effect of a request as the peer notices it, without the names of rules.
std::string effect(const Policy& policy, const Peer& peer, OperationSet operations, RequestPath path) {
    const PeerIdentity& identity = peer.identity();
    const Decision decision = policy.decide(peer, operations, path);
    if (!decision) return fmt::format("refused {}", decision.error().errno_value);
    if (decision->is_ancestor()) return "a directory";
    std::set<std::string> conditions;
    for (const Rule* const rule : decision->rules())
        conditions.insert(fmt::format("{}{}", static_cast<int>(rule->symlinks),
                                      operations.intersects(OperationSet::all() - name_operations)
                                          ? rule->files.max_size.value_or(0)
                                          : 0));
    std::string text = fmt::format("allowed {}", fmt::join(conditions, " "));
    if (operations.intersects({Operation::create, Operation::mkdir, Operation::symlink})) {
        const Creation& create = decision->rule().create;
        text += fmt::format(" as {:o} of {}", operations.contains(Operation::symlink) ? 0 : create.mode,
                            create.owner.value_or(identity.uid));
    }
    return text;
}

const std::vector<OperationSet> requests = [] {
    std::vector<OperationSet> all{{Operation::read, Operation::write},
                                  {Operation::write, Operation::create, Operation::truncate},
                                  {Operation::stat, Operation::remove}};
    for (unsigned bit = 0; bit < operation_count; ++bit) all.push_back({static_cast<Operation>(bit)});
    return all;
}();

// An example of different effects among random requests; empty: none found.
std::string sampled_difference(const Policy& before, const Policy& after, Generator& generator,
                               unsigned tries) {
    std::vector<Peer> before_peers, after_peers;
    for (const PeerIdentity& identity : peers()) {
        before_peers.push_back(before.identify(identity));
        after_peers.push_back(after.identify(identity));
    }
    for (unsigned count = 0; count < tries; ++count) {
        const std::string text = count == 0 ? "/" : generator.path();
        const auto path = RequestPath::parse(text);
        for (std::size_t peer = 0; peer < before_peers.size(); ++peer)
            for (const OperationSet& operations : requests)
                if (effect(before, before_peers[peer], operations, *path) !=
                    effect(after, after_peers[peer], operations, *path))
                    return fmt::format("{:#x} {} as {}", operations.bits(), text,
                                       before_peers[peer].identity().user);
    }
    return {};
}

std::vector<std::string> without_braces(const std::string& pattern) {
    const std::size_t open = pattern.find("{");
    if (open == std::string::npos) return {pattern};
    if (pattern[open - 1] == '$') {
        const std::size_t end = pattern.find('}', open) + 1;
        std::vector<std::string> all = without_braces(pattern.substr(end));
        for (std::string& one : all) one.insert(0, pattern, 0, end);
        return all;
    }
    const std::size_t comma = pattern.find(',', open), close = pattern.find('}', open);
    std::vector<std::string> all;
    for (const std::string& name :
         {pattern.substr(open + 1, comma - open - 1), pattern.substr(comma + 1, close - comma - 1)})
        for (const std::string& rest : without_braces(name + pattern.substr(close + 1)))
            all.push_back(pattern.substr(0, open) + rest);
    return all;
}

// Whether the directory is at or above that of the pattern's names without metacharacters.
bool leads_to(const std::string& directory, const std::string& pattern) {
    return std::ranges::any_of(without_braces(pattern), [&](const std::string& one) {
        const std::size_t special = std::min(one.find_first_of("*?[$"), one.size());
        std::string literal;
        for (std::size_t at = 0; at < one.rfind('/', special); ++at) {
            const bool hex = one.compare(at, 2, "\\x") == 0;
            if (one[at] == '\\') ++at;
            literal += hex ? static_cast<char>(std::stoi(one.substr(at + 1, 2), nullptr, 16)) : one[at];
            at += hex ? 2 : 0;
        }
        return directory == "/" || (literal + '/').starts_with(directory + '/');
    });
}

bool allowed_by_reference(const RandomPolicy& rules, const PeerIdentity& identity, OperationSet operations,
                          const std::string& path) {
    std::vector<ReferenceRule> plain;
    bool leads = false;
    for (const RandomRule& rule : rules) {
        ReferenceRule one = rule.plain;
        one.held = rule.roles == 0;
        for (const std::uint32_t role : role_sets[rule.roles]) {
            Role held = roles()[role];
            if (!one.allows)
                for (RoleUser& user : held.users) user.by_name = false;
            one.held = one.held || held.held_by(identity);
        }
        leads = leads || (rule.settings.ancestors && one.allows && one.held && leads_to(path, one.pattern));
        plain.push_back(std::move(one));
    }
    const PeerValues values{identity.user, std::to_string(identity.uid), identity.group,
                            std::to_string(identity.gid)};
    const test::ReferenceDecision decision = test::reference_decision(plain, operations, path, values);
    if (decision.refused.empty()) return true;
    return leads && operations == OperationSet{Operation::stat} && !decision.denied_by;
}

// Every example that is told is one by the reference, too.
void check_examples(const PolicyDiff& found, const RandomPolicy& before, const RandomPolicy& after) {
    for (const Difference& one : found.differences) {
        CAPTURE(one.path);
        CAPTURE(one.peer.user);
        CAPTURE(one.operations.bits());
        const bool was = one.kind == ChangeKind::lost || one.kind == ChangeKind::settings;
        const bool is = one.kind == ChangeKind::gained || one.kind == ChangeKind::settings;
        for (unsigned bit = 0; bit < operation_count; ++bit) {
            const auto operation = static_cast<Operation>(bit);
            if (!one.operations.contains(operation)) continue;
            REQUIRE(allowed_by_reference(before, one.peer, {operation}, one.path) == was);
            REQUIRE(allowed_by_reference(after, one.peer, {operation}, one.path) == is);
        }
    }
}

// FDBROKER_DIFF_PAIRS=100000 tries more.
unsigned pairs_to_try() {
    const char* const wanted = std::getenv("FDBROKER_DIFF_PAIRS");
    return wanted != nullptr ? static_cast<unsigned>(std::strtoul(wanted, nullptr, 10)) : 500;
}

struct Counts {
    unsigned pairs = 0, different = 0, alike = 0, differences = 0, given_up = 0;
};

TEST_CASE("diff: a difference is found exactly when there is one, on random policies") {
    Counts counts;
    for (unsigned seed = 0; seed < pairs_to_try(); ++seed) {
        Generator generator(seed);
        const RandomPolicy before = generator.policy();
        RandomPolicy after = before;
        for (unsigned edits = generator.number(3) + 1; edits > 0; --edits) generator.edit(after);
        const Policy one = policy_of(before);
        const Policy other = policy_of(after);
        const PolicyDiff found = diff(one, other, FakeAccounts());
        CAPTURE(seed);
        check_examples(found, before, after);
        if (found.differences.empty()) {
            const std::string sampled = sampled_difference(one, other, generator, 100);
            CAPTURE(sampled);
            REQUIRE(sampled.empty());
        }
        // Seen from the other end the same is lost that was gained.
        REQUIRE(diff(other, one, FakeAccounts()).differences.empty() == found.differences.empty());
        ++counts.pairs;
        counts.differences += static_cast<unsigned>(found.differences.size());
        counts.given_up += found.proof.all_paths ? 0U : 1U;
        ++(found.differences.empty() ? counts.alike : counts.different);
    }
    MESSAGE(fmt::format("{} pairs: {} differ, {} do not; {} differences; {} given up", counts.pairs,
                        counts.different, counts.alike, counts.differences, counts.given_up));
    CHECK(counts.different > counts.pairs / 3);
    CHECK(counts.alike > counts.pairs / 20);
    CHECK(counts.given_up == 0);
}

TEST_CASE("diff: rules that are rewritten without effect make no difference, on random policies") {
    unsigned rewritten = 0;
    for (unsigned seed = 0; seed < pairs_to_try(); ++seed) {
        Generator generator(seed);
        const RandomPolicy before = generator.policy();
        RandomPolicy after = before;
        for (unsigned edits = 0; edits < 6; ++edits) generator.rewrite(after);
        const Policy one = policy_of(before);
        const Policy other = policy_of(after);
        const PolicyDiff found = diff(one, other, FakeAccounts());
        CAPTURE(seed);
        for (const Difference& difference : found.differences) CAPTURE(difference.path);
        REQUIRE(found.differences.empty());
        REQUIRE(found.proof.all_paths);
        rewritten += before.size() != after.size() ? 1U : 0U;
    }
    CHECK(rewritten > pairs_to_try() / 2);
}

// ---- the automaton and the matcher ----------------------------------------------------------------------------------

TEST_CASE("name classes: the automaton and the matcher agree on every name") {
    std::mt19937 random(1);
    const std::vector<std::string> globs{"a",      "b*",   "*a*",   "?",        "??",      "[ab]*",
                                         "[!a]?",  "*.b",  "a*b*",  "${user}",  "a${uid}", "*${user}",
                                         "\\x61b", "\\**", "*[!b]", "${group}*"};
    const PeerValues values{"ab", "1", "", "1"};
    std::size_t classes = 0;
    for (unsigned tries = 0; tries < 400; ++tries) {
        std::vector<std::string> programs;
        for (unsigned count = 1 + static_cast<unsigned>(random() % 5); count > 0; --count) {
            const auto pattern = parse_pattern('/' + globs[random() % globs.size()]);
            programs.push_back(pattern->front().components.front().glob.program());
        }
        const std::vector<std::string_view> views(programs.begin(), programs.end());
        const std::vector<std::string_view> others{"a", "ab", "zz"};
        const NameClasses found = name_classes(views, others, values);
        REQUIRE(found.complete);
        std::set<std::vector<std::uint32_t>> known;
        const auto matching = [&](std::string_view name) {
            std::vector<std::uint32_t> all;
            for (std::uint32_t index = 0; index < views.size(); ++index)
                if (glob_matches(views[index], name, values)) all.push_back(index);
            return all;
        };
        for (const NameClass& one : found.classes) {
            CAPTURE(one.example);
            REQUIRE(matching(one.example) == one.globs);
            REQUIRE(std::ranges::find(others, one.example) == others.end());
            REQUIRE(RequestPath::parse('/' + one.example).has_value());
            known.insert(one.globs);
        }
        classes += found.classes.size();
        // No name falls outside the classes.
        for (unsigned count = 0; count < 200; ++count) {
            std::string name;
            for (unsigned length = 1 + static_cast<unsigned>(random() % 4); length > 0; --length)
                name += "ab.1*z"[random() % 6];
            if (name == "." || name == ".." || std::ranges::find(others, name) != others.end()) continue;
            CAPTURE(name);
            REQUIRE(known.contains(matching(name)));
        }
    }
    CHECK(classes > 1'000);
}

TEST_CASE("name classes: an example is as short as any") {
    const auto program = [](const char* pattern) {
        return parse_pattern(pattern)->front().components.front().glob.program();
    };
    const std::string stars = program("/a*b*c"), end = program("/*c");
    const std::vector<std::string_view> programs{stars, end};
    const NameClasses found = name_classes(programs, {}, {});
    REQUIRE(found.classes.size() == 3);
    CHECK(found.classes[0].example == "a");
    CHECK(found.classes[1].example == "c");
    CHECK(found.classes[2].example == "abc");
}

}  // namespace
}  // namespace fdbroker::policy
