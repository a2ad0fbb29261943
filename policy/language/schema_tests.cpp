// SPDX-License-Identifier: MIT
// `tests:`.
#include <fmt/format.h>

#include "policy/language/schema.hpp"
#include "policy/matching/peer.hpp"

namespace fdbroker::policy {
namespace {

struct PeerDraft {
    PeerDescription peer{};
    std::string shown{};
};

using PeerKey = Key<LoadContext, PeerDraft>;
constexpr PeerKey peer_keys[] = {
    {"user",
     [](LoadContext& context, const Node& node, PeerDraft& draft) {
         if (const auto user = context.reader.user(node, "as: user")) {
             draft.peer.uid = user->id;
         }
         draft.shown = node.text;
     },
     true},
    {"group",
     [](LoadContext& context, const Node& node, PeerDraft& draft) {
         if (const auto group = context.reader.group(node, "as: group")) {
             draft.peer.gid = group->id;
         }
         draft.shown += " of group " + node.text;
     }},
    {"groups",
     [](LoadContext& context, const Node& node, PeerDraft& draft) {
         draft.peer.groups.emplace();
         for (const Node& entry : context.reader.list(node, "as: groups")) {
             const auto group = context.reader.group(entry, "as: groups");
             if (group) draft.peer.groups->push_back(group->id);
             draft.shown += " in group " + entry.text;
         }
     }},
    {"socket",
     [](LoadContext& context, const Node& node, PeerDraft& draft) {
         if (auto name = context.reader.name(node, "as: socket")) draft.peer.socket = std::move(*name);
         draft.shown += " on socket " + node.text;
     }},
};

struct TestDraft {
    PeerDraft peer{};
    Test test{};
};

using TestKey = Key<LoadContext, TestDraft>;
constexpr TestKey test_keys[] = {
    {"as",
     [](LoadContext& context, const Node& node, TestDraft& draft) {
         read_mapping(context, node, "as", peer_keys, draft.peer);
     },
     true},
    {"expect",
     [](LoadContext& context, const Node& node, TestDraft& draft) {
         static constexpr std::string_view words[] = {"allow", "refuse"};
         if (const auto word = context.reader.word(node, "expect", words)) draft.test.allowed = *word == 0;
     },
     true},
    {"rule",
     [](LoadContext& context, const Node& node, TestDraft& draft) {
         auto name = context.reader.text(node, "rule");
         if (!name) return;
         if (!context.draft.rule_marks.contains(*name))
             context.reader.wrong(node.mark, fmt::format("there is no rule \"{}\"", *name),
                                  DiagnosticCode::unknown_name);
         draft.test.rule = std::move(*name);
     }},
};

// The key of a test that names its operation holds the path: `read: /etc/motd`. Several of one test hold the same.
void read_operation(LoadContext& context, const Node& key, const Node& value, Test& test) {
    auto path = context.reader.text(value, key.text);
    if (!path) return;
    if (const auto parsed = RequestPath::parse(*path); !parsed)
        context.reader.wrong(value.mark, fmt::format("{}: {}", key.text, to_string(parsed.error())));
    if (!test.operations.empty() && test.path != *path)
        context.reader.wrong(value.mark, "another path, expected one path for all operations of a test",
                             DiagnosticCode::contradiction);
    test.text += fmt::format("{}{}", test.text.empty() ? "" : ", ", key.text);
    test.operations = test.operations | operations_from_word(key.text);
    test.path = std::move(*path);
}

void read_test(LoadContext& context, const Node& node) {
    Reader& reader = context.reader;
    if (!reader.is_mapping(node, "a test")) return;
    TestDraft draft{.test = {.location = reader.location(node.mark)}};
    const std::size_t tolerated = reader.tolerated();
    // The keys that are left once the operations are taken out.
    Node rest{.kind = Node::Kind::mapping, .mark = node.mark};
    for (std::size_t index = 0; index < node.children.size(); index += 2) {
        const Node& key = node.children[index];
        const Node& value = node.children[index + 1];
        if (key.kind == Node::Kind::scalar && !operations_from_word(key.text).empty()) {
            read_operation(context, key, value, draft.test);
        } else {
            rest.children.push_back(key);
            rest.children.push_back(value);
        }
    }
    read_mapping(context, rest, "", test_keys, draft);
    if (draft.test.operations.empty())
        reader.wrong(node.mark,
                     "a test without an operation and its path, expected for example read: /etc/motd",
                     DiagnosticCode::missing_key);
    // Nobody can be the peer of a test that names an account which does not exist.
    if (reader.tolerated() != tolerated) return;
    draft.test.peer = complete(draft.peer.peer, reader.accounts());
    draft.test.text += fmt::format(" {} as {}", draft.test.path, draft.peer.shown);
    context.draft.tests.push_back(std::move(draft.test));
}

}  // namespace

void describe_tests(LoadContext& context, ShapeReader& shapes) {
    TestDraft draft;
    for (const Node& entry : shapes.list({}, "tests")) {
        shapes.begin_mapping();
        shapes.expect_one_more();
        for (const std::string_view word : operation_words()) {
            shapes.begin_key(word, Outline::Presence::optional);
            shapes.text(entry, word, {});
        }
        describe_keys(shapes, context, entry, test_keys, draft);
        shapes.end_mapping();
    }
}

void read_tests(LoadContext& context, const Node& node) {
    const Reader::Scope scope(context.reader, "test");
    for (const Node& entry : context.reader.list(node, "tests")) read_test(context, entry);
}

}  // namespace fdbroker::policy
