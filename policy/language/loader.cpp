// SPDX-License-Identifier: MIT
#include "policy/language/loader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "policy/explain/run_test.hpp"
#include "policy/language/compile.hpp"
#include "policy/language/schema.hpp"

namespace fdbroker::policy {
namespace {

// The values of a file's top-level keys. They are read later, in an order of their own: a role may be defined below
// the rule that names it, or in another file.
struct File {
    std::uint32_t index = 0;
    std::optional<Node> root{};
    const Node* defaults = nullptr;
    const Node* include = nullptr;
    const Node* roles = nullptr;
    const Node* rules = nullptr;
    const Node* limits = nullptr;
    const Node* audit = nullptr;
    const Node* tests = nullptr;
};

using FileKey = Key<LoadContext, File>;

void read_version(LoadContext& context, const Node& node, File&) {
    if (node.kind == Node::Kind::broken) return;
    if (node.kind != Node::Kind::scalar || node.quoted || node.text != "1")
        context.reader.wrong(node.mark, "version: expected 1, the only version of the language",
                             DiagnosticCode::wrong_type);
}

constexpr FileKey policy_keys[] = {
    {"version", read_version, true},
    {"include", [](LoadContext&, const Node& node, File& file) { file.include = &node; }},
    {"roles", [](LoadContext&, const Node& node, File& file) { file.roles = &node; }},
    {"defaults", [](LoadContext&, const Node& node, File& file) { file.defaults = &node; }},
    {"rules", [](LoadContext&, const Node& node, File& file) { file.rules = &node; }},
    {"limits", [](LoadContext&, const Node& node, File& file) { file.limits = &node; }},
    {"audit", [](LoadContext&, const Node& node, File& file) { file.audit = &node; }},
    {"tests", [](LoadContext&, const Node& node, File& file) { file.tests = &node; }},
};

constexpr FileKey fragment_keys[] = {
    {"roles", [](LoadContext&, const Node& node, File& file) { file.roles = &node; }},
    {"rules", [](LoadContext&, const Node& node, File& file) { file.rules = &node; }},
    {"tests", [](LoadContext&, const Node& node, File& file) { file.tests = &node; }},
};

// The form of the value of each top-level key; those of `policy_keys`.
struct ValueShape {
    std::string_view name;
    void (*describe)(LoadContext& context, ShapeReader& shapes);
};
constexpr ValueShape value_shapes[] = {
    {"version", [](LoadContext&, ShapeReader& shapes) { shapes.number({}, "version", 1, 1); }},
    {"include",
     [](LoadContext&, ShapeReader& shapes) {
         for (const Node& entry : shapes.list({}, "include")) shapes.text(entry, "include", {});
     }},
    {"roles", describe_roles},
    {"defaults", [](LoadContext& context, ShapeReader&) { read_defaults(context, {}); }},
    {"rules", describe_rules},
    {"limits", [](LoadContext& context, ShapeReader&) { read_limits(context, {}); }},
    {"audit", [](LoadContext& context, ShapeReader&) { read_audit(context, {}); }},
    {"tests", describe_tests},
};

class NoAccounts final : public Accounts {
  public:
    std::optional<std::uint32_t> uid_of(const std::string&) const override { return std::nullopt; }
    std::optional<std::uint32_t> gid_of(const std::string&) const override { return std::nullopt; }
    std::optional<UserRecord> record_of(std::uint32_t) const override { return std::nullopt; }
};

Shape describe_file(std::span<const FileKey> keys) {
    Problems problems;
    const NoAccounts accounts;
    ShapeReader shapes(problems, accounts);
    PolicyDraft draft;
    LoadContext context{shapes, draft};
    shapes.begin_mapping();
    for (const FileKey& key : keys) {
        shapes.begin_key(key.name, key.required ? Outline::Presence::required : Outline::Presence::optional);
        std::ranges::find(value_shapes, key.name, &ValueShape::name)->describe(context, shapes);
    }
    shapes.end_mapping();
    return shapes.take();
}

class Loader {
  public:
    Loader(const FragmentReader& read_fragments, const Accounts& accounts, const LoadOptions& options)
        : read_fragments_(read_fragments),
          options_(options),
          reader_(problems_, accounts, options.unknown_accounts) {}

    std::expected<Policy, std::vector<Diagnostic>> load(const Source& source) {
        read_file(source, policy_keys, "a policy");
        if (!files_.front().root && problems_.empty())
            problems_.add({files_.front().index}, DiagnosticCode::wrong_type,
                          "a policy without anything in it");
        if (const Node* const include = files_.front().include) read_includes(*include);
        read_contents();
        if (!problems_.empty()) return std::unexpected(std::move(problems_).in_order());
        draft_.file_names = problems_.file_names();
        // The draft holds everything that was read; freeing the text makes room for the compiled policy.
        files_.clear();
        Policy policy = compile(std::move(draft_));
        if (options_.own_tests == OwnTests::must_pass) run_tests(policy);
        if (!problems_.empty()) return std::unexpected(std::move(problems_).in_order());
        if (options_.tolerated != nullptr) *options_.tolerated = std::move(problems_).tolerated_in_order();
        return policy;
    }

  private:
    // A file that is empty, or holds comments alone, has no root.
    template <std::size_t count>
    void read_file(const Source& source, const FileKey (&keys)[count], std::string_view what) {
        File& file = files_.emplace_back();
        file.index = problems_.add_file(source.name);
        bytes_ += source.text.size();
        if (bytes_ > max_document_bytes) {
            problems_.add({file.index}, DiagnosticCode::syntax, "more than 32 MiB, with the files before it");
            return;
        }
        file.root = parse_document(source.text, file.index, problems_);
        if (file.root && file.root->kind == Node::Kind::null) file.root.reset();
        if (file.root) read_mapping(context_, *file.root, what, keys, file);
    }

    void read_includes(const Node& include) {
        for (const Node& entry : reader_.list(include, "include")) {
            const auto pattern = reader_.text(entry, "include");
            if (!pattern) continue;
            const auto fragments = read_fragments_(*pattern);
            if (!fragments) {
                reader_.wrong(entry.mark, fmt::format("include: {}", fragments.error()),
                              DiagnosticCode::include);
                continue;
            }
            for (const Source& fragment : *fragments) read_file(fragment, fragment_keys, "a fragment");
        }
    }

    void each(const Node* File::* key, void (*read)(LoadContext&, const Node&)) {
        for (const File& file : files_)
            if (file.*key != nullptr) read(context_, *(file.*key));
    }

    void read_contents() {
        each(&File::roles, read_roles);
        each(&File::defaults, read_defaults);
        for (File& file : files_)
            if (file.rules != nullptr)
                for (Node& child : file.root->children)
                    if (&child == file.rules) read_rules(context_, child);
        each(&File::limits, read_limits);
        each(&File::audit, read_audit);
        each(&File::tests, read_tests);
    }

    void run_tests(const Policy& policy) {
        for (const Test& test : tests(policy)) {
            const TestResult result = run(policy, test);
            if (result.passed) continue;
            const std::string rule = test.rule.empty() ? "" : fmt::format(" by rule \"{}\"", test.rule);
            const std::string what = fmt::format("test: {}: {}, expected {}{}", test.text, result.got,
                                                 test.allowed ? "allow" : "refuse", rule);
            // A test may fail because an account is missing; what it expects to be refused stays refused.
            const bool opens = result.allowed && !test.allowed;
            if (problems_.tolerated() != 0 && !opens) {
                problems_.tolerate(problems_.mark(test.location), DiagnosticCode::test_failed, what);
            } else {
                problems_.add(problems_.mark(test.location), DiagnosticCode::test_failed, what);
            }
        }
    }

    const FragmentReader& read_fragments_;
    const LoadOptions& options_;
    Problems problems_{};
    Reader reader_;
    PolicyDraft draft_{};
    LoadContext context_{reader_, draft_};
    std::deque<File> files_{};
    std::size_t bytes_ = 0;
};

}  // namespace

Shape describe_language(Document document) {
    return document == Document::policy ? describe_file(policy_keys) : describe_file(fragment_keys);
}

std::expected<Policy, std::vector<Diagnostic>> load(const Source& source,
                                                    const FragmentReader& read_fragments,
                                                    const Accounts& accounts, const LoadOptions& options) {
    return Loader(read_fragments, accounts, options).load(source);
}

}  // namespace fdbroker::policy
