// SPDX-License-Identifier: MIT
// Reads values of the policy language from the nodes of a document, and tells what is wrong with them.
//
// Every mapping of the language is a table of keys, each with the function that reads its value. A function that
// returns std::optional has told the error when it returns nothing.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "policy/language/document.hpp"
#include "policy/language/problems.hpp"
#include "policy/matching/accounts.hpp"

namespace fdbroker::policy {

// Takes note of the form of values where they are described instead of read (shape.hpp).
class Outline {
  public:
    enum class Presence : std::uint8_t { optional, required };
    virtual ~Outline() = default;
    virtual void begin_mapping() = 0;
    // From now on the reader is asked about the value of this key.
    virtual void begin_key(std::string_view name, Presence presence) = 0;
    virtual void end_mapping() = 0;
};

class Reader {
  public:
    virtual ~Reader() = default;
    // nullptr: values are read.
    virtual Outline* outline() { return nullptr; }

    Reader(Problems& problems, const Accounts& accounts, UnknownAccounts unknown)
        : problems_(problems), accounts_(accounts), unknown_(unknown) {}

    // Prefix of every error until it is given back: `rule "site"`.
    class Scope {
      public:
        Scope(Reader& reader, std::string text)
            : reader_(reader), outer_(std::exchange(reader.scope_, std::move(text))) {}
        ~Scope() { reader_.scope_ = std::move(outer_); }
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

      private:
        Reader& reader_;
        std::string outer_;
    };

    virtual void wrong(Mark mark, std::string_view what, DiagnosticCode code = DiagnosticCode::invalid_value);
    // did_you_mean(), while it is worth the time: not among thousands of words or errors.
    std::string meant(std::string_view written, std::span<const std::string_view> words) const;
    void tolerate(Mark mark, std::string_view what);
    // How much has been tolerated so far.
    std::size_t tolerated() const noexcept { return problems_.tolerated(); }
    const Accounts& accounts() const noexcept { return accounts_; }
    Location location(Mark mark) const { return problems_.location(mark); }

    // Whether the value is this word, where it may be another value, too.
    virtual bool is_word(const Node& node, std::string_view word);
    // `what` names the value in errors: "deadline: expected a time such as 2s or 500ms". `words`: those that the caller
    // takes; none: all.
    virtual std::optional<std::string> text(const Node& node, std::string_view what,
                                            std::span<const std::string_view> words = {});
    virtual std::optional<bool> truth(const Node& node, std::string_view what);
    virtual std::optional<std::uint64_t> number(const Node& node, std::string_view what, std::uint64_t least,
                                                std::uint64_t most);
    virtual std::optional<std::uint64_t> size(const Node& node, std::string_view what);
    virtual std::optional<std::chrono::milliseconds> time(const Node& node, std::string_view what);
    virtual std::optional<std::uint32_t> mode(const Node& node, std::string_view what);
    // The place of the word among `words`.
    virtual std::optional<std::size_t> word(const Node& node, std::string_view what,
                                            std::span<const std::string_view> words);
    // A name of a role, rule or socket: 1 to 64 of letters, digits and ._-
    virtual std::optional<std::string> name(const Node& node, std::string_view what);
    // The entries of a list that is not empty, or none after an error.
    virtual std::span<const Node> list(const Node& node, std::string_view what);

    // A user or group by its name or decimal number. no_account: it does not exist, and that is tolerated.
    virtual std::optional<AccountId> user(const Node& node, std::string_view what);
    virtual std::optional<AccountId> group(const Node& node, std::string_view what);

    // The key itself, or one that was meant to be it: "alow".
    bool has_key_like(const Node& mapping, std::string_view name) const;
    bool is_mapping(const Node& node, std::string_view what);
    void missing_key(const Node& mapping, std::string_view what, std::string_view key);
    void unknown_key(const Node& key, std::span<const std::string_view> known);

  private:
    using Found = std::expected<AccountId, AccountError>;
    using Cache = std::unordered_map<std::string, Found>;
    std::optional<AccountId> account(const Node& node, std::string_view what,
                                     Found (*find)(const Accounts&, const std::string&), Cache& cache);

    Problems& problems_;
    const Accounts& accounts_;
    UnknownAccounts unknown_;
    std::string scope_{};
    Cache users_{};
    Cache groups_{};
};

// A key of a mapping, and the function that reads its value into the target.
template <class Context, class Target>
struct Key {
    std::string_view name;
    void (*read)(Context& context, const Node& value, Target& target);
    bool required = false;
};

template <class Context, class Target, std::size_t count>
void describe_keys(Outline& outline, Context& context, const Node& node,
                   const Key<Context, Target> (&keys)[count], Target& target) {
    for (const Key<Context, Target>& key : keys) {
        outline.begin_key(key.name, key.required ? Outline::Presence::required : Outline::Presence::optional);
        key.read(context, node, target);
    }
}

// Reads each key that the mapping has, in the order of the table. `what` names the mapping in errors, unless the
// scope does.
template <class Context, class Target, std::size_t count>
void read_mapping(Context& context, const Node& node, std::string_view what,
                  const Key<Context, Target> (&keys)[count], std::type_identity_t<Target>& target) {
    Reader& reader = context.reader;
    if (Outline* const outline = reader.outline()) {
        outline->begin_mapping();
        describe_keys(*outline, context, node, keys, target);
        outline->end_mapping();
        return;
    }
    if (!reader.is_mapping(node, what)) return;
    const Node* values[count] = {};
    for (std::size_t index = 0; index < node.children.size(); index += 2) {
        const Node& key = node.children[index];
        if (key.kind != Node::Kind::scalar) continue;
        const auto* const found = std::ranges::find(keys, key.text, &Key<Context, Target>::name);
        if (found != std::end(keys)) {
            values[found - keys] = &node.children[index + 1];
            continue;
        }
        std::string_view names[count];
        std::ranges::transform(keys, names, &Key<Context, Target>::name);
        reader.unknown_key(key, names);
    }
    for (std::size_t index = 0; index < count; ++index) {
        if (values[index] != nullptr) {
            keys[index].read(context, *values[index], target);
        } else if (keys[index].required && !reader.has_key_like(node, keys[index].name)) {
            reader.missing_key(node, what, keys[index].name);
        }
    }
}

}  // namespace fdbroker::policy
