// SPDX-License-Identifier: MIT
// `rules:` and `defaults:`.
#include <fmt/format.h>

#include "policy/language/lint_names.hpp"
#include "policy/language/schema.hpp"
#include "policy/matching/creation_group.hpp"

namespace fdbroker::policy {
namespace {

using RuleKey = Key<LoadContext, RuleDraft>;

// Whoever must not write must not get the same effect another way.
constexpr OperationSet implied_by_denied_write{Operation::append,  Operation::create, Operation::truncate,
                                               Operation::remove,  Operation::rename, Operation::setattr,
                                               Operation::symlink, Operation::mkdir};

// Alternatives of a whole policy: a short text could otherwise stand for any number of patterns.
constexpr std::size_t max_alternatives = 100'000;

constexpr std::string_view type_words[] = {"regular",          "directory",    "fifo",   "socket",
                                           "character_device", "block_device", "symlink"};

OperationSet read_operations(Reader& reader, const Node& node, std::string_view what) {
    OperationSet operations;
    for (const Node& entry : reader.list(node, what)) {
        const auto word = reader.text(entry, what, operation_words());
        if (!word) continue;
        const OperationSet found = operations_from_word(*word);
        operations = operations | found;
        if (!found.empty()) continue;
        if (*word == "all") {
            reader.wrong(entry.mark,
                         fmt::format("{}: \"all\" in a list, expected operations, or deny: all", what),
                         DiagnosticCode::unknown_word);
            continue;
        }
        reader.wrong(entry.mark,
                     fmt::format("{}: unknown operation \"{}\"{}, expected {}", what, *word,
                                 reader.meant(*word, operation_words()), fmt::join(operation_words(), ", ")),
                     DiagnosticCode::unknown_word);
    }
    return operations;
}

void read_roles_of_rule(LoadContext& context, const Node& node, RuleDraft& draft) {
    for (const Node& entry : context.reader.list(node, "roles")) {
        const auto name = context.reader.text(entry, "roles");
        if (!name) continue;
        const auto& index = context.draft.role_index;
        if (const auto found = index.find(*name); found != index.end()) {
            draft.roles.push_back(found->second);
            continue;
        }
        context.reader.wrong(entry.mark,
                             fmt::format("roles: there is no role \"{}\"{}", *name,
                                         context.reader.meant(*name, context.draft.role_names)),
                             DiagnosticCode::unknown_name);
    }
}

void read_paths(LoadContext& context, const Node& node, RuleDraft& draft) {
    for (const Node& entry : context.reader.list(node, "paths")) {
        auto text = context.reader.text(entry, "paths");
        if (!text) continue;
        auto patterns = parse_pattern(*text);
        if (!patterns) {
            context.reader.wrong(entry.mark, fmt::format("paths: \"{}\": {}", *text, patterns.error()));
            continue;
        }
        context.draft.alternatives += patterns->size() - 1;
        if (context.draft.alternatives > max_alternatives) {
            context.reader.wrong(entry.mark,
                                 fmt::format("paths: more than {} patterns made of {{a,b}} in all, expected "
                                             "a directory with ** or a wildcard",
                                             max_alternatives));
            continue;
        }
        draft.paths.push_back({std::move(*text), std::move(*patterns)});
    }
}

using CreationKey = Key<LoadContext, Creation>;
constexpr CreationKey creation_keys[] = {
    {"mode",
     [](LoadContext& context, const Node& node, Creation& creation) {
         if (const auto mode = context.reader.mode(node, "create: mode")) creation.mode = *mode;
     }},
    {"owner",
     [](LoadContext& context, const Node& node, Creation& creation) {
         if (node.text == "${user}" || node.text == "${uid}") {
             creation.owner.reset();
         } else if (const auto user = context.reader.user(node, "create: owner")) {
             creation.owner = user->id;
         }
     }},
    {"group",
     [](LoadContext& context, const Node& node, Creation& creation) {
         if (node.text == "${group}" || node.text == "${gid}") {
             creation.group.reset();
         } else if (node.text == "directory") {
             creation.group = group_of_directory;
         } else if (const auto group = context.reader.group(node, "create: group")) {
             if (group->id == group_of_directory)
                 context.reader.wrong(
                     node.mark, fmt::format("create: group: {} is no group that can be given", group->id));
             creation.group = group->id;
         }
     }},
    {"parents",
     [](LoadContext& context, const Node& node, Creation& creation) {
         if (const auto truth = context.reader.truth(node, "create: parents")) creation.parents = *truth;
     }},
};

constexpr RuleKey files_keys[] = {
    {"types",
     [](LoadContext& context, const Node& node, RuleDraft& draft) {
         draft.rule.files.types = 0;
         for (const Node& entry : context.reader.list(node, "files: types"))
             if (const auto type = context.reader.word(entry, "files: types", type_words))
                 draft.rule.files.types = static_cast<std::uint8_t>(draft.rule.files.types | 1U << *type);
     }},
    {"max_links",
     [](LoadContext& context, const Node& node, RuleDraft& draft) {
         if (context.reader.is_word(node, "any")) {
             draft.rule.files.max_links = any_links;
             return;
         }
         draft.rule.files.max_links = context.reader.number(node, "files: max_links (or any)", 1,
                                                            std::numeric_limits<std::uint32_t>::max());
     }},
    {"max_size",
     [](LoadContext& context, const Node& node, RuleDraft& draft) {
         draft.rule.files.max_size = context.reader.size(node, "files: max_size");
     }},
    {"same_mount",
     [](LoadContext& context, const Node& node, RuleDraft& draft) {
         if (const auto truth = context.reader.truth(node, "files: same_mount"))
             draft.rule.files.same_mount = *truth;
     }},
    {"owners",
     [](LoadContext& context, const Node& node, RuleDraft& draft) {
         FileConditions& files = draft.rule.files;
         files.owners.clear();
         files.peer_owns = false;
         for (const Node& entry : context.reader.list(node, "files: owners")) {
             if (entry.text == "${user}" || entry.text == "${uid}") {
                 files.peer_owns = true;
             } else if (const auto user = context.reader.user(entry, "files: owners")) {
                 files.owners.push_back(user->id);
             }
         }
     }},
};

constexpr RuleKey rename_keys[] = {
    {"directories",
     [](LoadContext& context, const Node& node, RuleDraft& draft) {
         if (const auto truth = context.reader.truth(node, "rename: directories"))
             draft.rule.rename_directories = *truth;
     },
     true},
};

constexpr RuleKey lint_keys[] = {
    {"allow",
     [](LoadContext& context, const Node& node, RuleDraft& draft) {
         for (const Node& entry : context.reader.list(node, "lint: allow"))
             if (const auto name = context.reader.word(entry, "lint: allow", lint_names))
                 draft.lint_allowed.emplace_back(lint_names[*name]);
     },
     true},
};

void read_create(LoadContext& context, const Node& node, RuleDraft& draft) {
    read_mapping(context, node, "create", creation_keys, draft.rule.create);
}

void read_deliver(LoadContext& context, const Node& node, RuleDraft& draft) {
    static constexpr std::string_view words[] = {"descriptor", "snapshot", "stream"};
    if (node.kind == Node::Kind::scalar && node.text == "directory") {
        // `..` leads out of a directory's descriptor, and nothing that is denied below it is denied to its holder.
        context.reader.wrong(node.mark,
                             "deliver: directory is no longer in the language: a directory's descriptor "
                             "reaches what other rules deny, expected allow: [list], and each file opened by "
                             "its own path",
                             DiagnosticCode::unknown_word);
        return;
    }
    if (const auto word = context.reader.word(node, "deliver", words))
        draft.rule.delivery = static_cast<Delivery>(*word);
}

void read_deadline(LoadContext& context, const Node& node, RuleDraft& draft) {
    if (const auto time = context.reader.time(node, "deadline")) draft.rule.deadline = *time;
}

void read_files(LoadContext& context, const Node& node, RuleDraft& draft) {
    read_mapping(context, node, "files", files_keys, draft);
}

void read_rename(LoadContext& context, const Node& node, RuleDraft& draft) {
    read_mapping(context, node, "rename", rename_keys, draft);
}

void read_symlinks(LoadContext& context, const Node& node, RuleDraft& draft) {
    static constexpr std::string_view words[] = {"refuse", "follow"};
    if (const auto word = context.reader.word(node, "symlinks", words))
        draft.rule.symlinks = static_cast<Symlinks>(*word);
}

void read_ancestors(LoadContext& context, const Node& node, RuleDraft& draft) {
    static constexpr std::string_view words[] = {"refuse", "stat"};
    if (const auto word = context.reader.word(node, "ancestors", words)) draft.rule.ancestors = *word == 1;
}

void read_lint(LoadContext& context, const Node& node, RuleDraft& draft) {
    read_mapping(context, node, "lint", lint_keys, draft);
}

void read_reveal(LoadContext& context, const Node& node, RuleDraft& draft) {
    static constexpr std::string_view words[] = {"EACCES", "ENOENT"};
    if (const auto word = context.reader.word(node, "reveal", words))
        draft.rule.reveal = static_cast<Reveal>(*word);
}

void read_allow(LoadContext& context, const Node& node, RuleDraft& draft) {
    draft.rule.operations = read_operations(context.reader, node, "allow");
}

void read_deny(LoadContext& context, const Node& node, RuleDraft& draft) {
    if (context.reader.is_word(node, "all")) {
        draft.rule.operations = OperationSet::all();
        return;
    }
    if (node.kind == Node::Kind::scalar) {
        context.reader.wrong(node.mark,
                             fmt::format("deny: \"{}\", expected all or a list: [read, ...]", node.text),
                             DiagnosticCode::unknown_word);
        return;
    }
    draft.rule.operations = read_operations(context.reader, node, "deny");
    if (draft.rule.operations.contains(Operation::write))
        draft.rule.operations = draft.rule.operations | implied_by_denied_write;
}

// The name is read before the rest, so that every error can tell it.
void read_nothing(LoadContext& context, const Node& node, RuleDraft&) {
    if (context.reader.outline() != nullptr) context.reader.name(node, "name of a rule");
}

constexpr RuleKey defaults_keys[] = {
    {"create", read_create},       {"deliver", read_deliver}, {"deadline", read_deadline},
    {"files", read_files},         {"rename", read_rename},   {"symlinks", read_symlinks},
    {"ancestors", read_ancestors},
};

constexpr RuleKey allow_keys[] = {
    {"name", read_nothing, true}, {"roles", read_roles_of_rule}, {"allow", read_allow, true},
    {"paths", read_paths, true},  {"create", read_create},       {"deliver", read_deliver},
    {"deadline", read_deadline},  {"files", read_files},         {"rename", read_rename},
    {"symlinks", read_symlinks},  {"ancestors", read_ancestors}, {"lint", read_lint},
};

constexpr RuleKey deny_keys[] = {
    {"name", read_nothing, true}, {"roles", read_roles_of_rule}, {"deny", read_deny, true},
    {"paths", read_paths, true},  {"reveal", read_reveal},       {"lint", read_lint},
};

const Node* find_key(const Node& mapping, std::string_view name) {
    for (std::size_t index = 0; index < mapping.children.size(); index += 2)
        if (mapping.children[index].kind == Node::Kind::scalar && mapping.children[index].text == name)
            return &mapping.children[index + 1];
    return nullptr;
}

// A rule's settings for something that it does not allow would silently do nothing.
void check_settings(Reader& reader, const Node& node, const Rule& rule) {
    const OperationSet operations = rule.operations;
    if (const Node* const create = find_key(node, "create");
        create != nullptr && !operations.intersects(creating_operations))
        reader.wrong(create->mark, "create: in a rule that allows none of create, mkdir and symlink",
                     DiagnosticCode::contradiction);
    if (const Node* const rename = find_key(node, "rename");
        rename != nullptr && !operations.contains(Operation::rename))
        reader.wrong(rename->mark, "rename: in a rule that does not allow rename",
                     DiagnosticCode::contradiction);

    const Node* const written = find_key(node, "deliver");
    const Mark mark = written != nullptr ? written->mark : node.mark;
    const OperationSet changing =
        operations & OperationSet{Operation::write, Operation::create, Operation::truncate};
    if (rule.delivery == Delivery::snapshot &&
        (!operations.contains(Operation::read) ||
         !(changing | (operations & OperationSet{Operation::append})).empty()))
        reader.wrong(mark,
                     "deliver: snapshot in a rule that allows more than reading files, expected read without "
                     "write, append, create and truncate",
                     DiagnosticCode::contradiction);
    if (rule.delivery == Delivery::stream && (!operations.intersects({Operation::read, Operation::append}) ||
                                              operations.intersects({Operation::write, Operation::truncate})))
        reader.wrong(
            mark, "deliver: stream expects a rule that allows read or append, and neither write nor truncate",
            DiagnosticCode::contradiction);
    constexpr std::uint8_t only_regular = 1U << static_cast<unsigned>(FileType::regular);
    if ((rule.delivery == Delivery::snapshot || rule.delivery == Delivery::stream) &&
        (rule.files.types & ~only_regular) != 0)
        reader.wrong(mark, "deliver: snapshot and stream are of regular files, expected types: [regular]",
                     DiagnosticCode::contradiction);
}

// No file can be given to an account that does not exist, and without that it would stay the broker's.
void create_for_nobody(Reader& reader, Rule& rule, Mark mark) {
    const bool missing = rule.create.owner == no_account || rule.create.group == no_account;
    if (!missing || !rule.operations.intersects(creating_operations)) return;
    rule.operations = rule.operations - creating_operations;
    reader.tolerate(mark, "it creates nothing, since the account that would get it does not exist");
}

void read_body(LoadContext& context, const Node& node, RuleDraft& draft) {
    Reader& reader = context.reader;
    const bool allows = find_key(node, "allow") != nullptr;
    const bool denies = find_key(node, "deny") != nullptr;
    if (allows && denies) {
        reader.wrong(node.mark, "both allow and deny, expected two rules", DiagnosticCode::contradiction);
        return;
    }
    const bool meant_to_deny = denies || (!allows && reader.has_key_like(node, "deny"));
    const bool meant_to_allow = allows || (!denies && reader.has_key_like(node, "allow"));
    if (!meant_to_allow && !meant_to_deny) {
        reader.wrong(node.mark, "neither allow nor deny", DiagnosticCode::missing_key);
        return;
    }
    draft.rule.allows = allows;
    if (meant_to_allow) {
        read_mapping(context, node, "", allow_keys, draft);
        if (allows) check_settings(reader, node, draft.rule);
        if (allows) create_for_nobody(reader, draft.rule, node.mark);
    } else {
        read_mapping(context, node, "", deny_keys, draft);
    }
}

void read_rule(LoadContext& context, const Node& node) {
    Reader& reader = context.reader;
    if (!reader.is_mapping(node, "a rule")) return;
    const Node* const name_node = find_key(node, "name");
    std::optional<std::string> name;
    if (name_node != nullptr) name = reader.name(*name_node, "name of a rule");

    const bool allows = find_key(node, "allow") != nullptr;
    RuleDraft draft = allows ? context.draft.defaults : RuleDraft{};
    draft.mark = node.mark;
    draft.rule.name = name.value_or("");
    draft.rule.location = reader.location(node.mark);
    const Reader::Scope scope(reader, name ? fmt::format("rule \"{}\"", *name) : "rule");
    if (name) {
        const auto [first, is_new] = context.draft.rule_marks.try_emplace(*name, node.mark);
        if (!is_new) {
            const Location location = reader.location(first->second);
            reader.wrong(name_node->mark,
                         fmt::format("this name is taken by the rule at {}:{}", location.file, location.line),
                         DiagnosticCode::name_taken);
        }
    }
    read_body(context, node, draft);
    context.draft.rules.push_back(std::move(draft));
}

}  // namespace

void describe_rules(LoadContext& context, ShapeReader& shapes) {
    RuleDraft draft;
    for (const Node& entry : shapes.list({}, "rules")) {
        read_mapping(context, entry, "", allow_keys, draft);
        read_mapping(context, entry, "", deny_keys, draft);
    }
}

void read_defaults(LoadContext& context, const Node& node) {
    const Reader::Scope scope(context.reader, "defaults");
    read_mapping(context, node, "", defaults_keys, context.draft.defaults);
}

void read_rules(LoadContext& context, Node& node) {
    if (context.reader.list(node, "rules").empty()) return;
    context.draft.rules.reserve(context.draft.rules.size() + node.children.size());
    for (Node& entry : node.children) {
        read_rule(context, entry);
        entry = Node{};
    }
}

}  // namespace fdbroker::policy
