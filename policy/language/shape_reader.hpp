// SPDX-License-Identifier: MIT
// A Reader that reads nothing: it notes what is asked of it.
#pragma once

#include <utility>
#include <vector>

#include "policy/language/reader.hpp"
#include "policy/language/shape.hpp"

namespace fdbroker::policy {

class ShapeReader final : public Reader, public Outline {
  public:
    ShapeReader(Problems& problems, const Accounts& accounts)
        : Reader(problems, accounts, UnknownAccounts::are_errors) {}

    Outline* outline() override { return this; }
    void begin_mapping() override;
    void begin_key(std::string_view name, Presence presence) override;
    void end_mapping() override;
    // Begins a mapping that cannot be told by the names of the keys.
    void begin_named();
    void end_named();
    // The mapping that has begun has at least an optional key.
    void expect_one_more();
    // Returns the noted shape.
    Shape take();

    void wrong(Mark, std::string_view, DiagnosticCode) override {}
    bool is_word(const Node& node, std::string_view word) override;
    std::optional<std::string> text(const Node& node, std::string_view what,
                                    std::span<const std::string_view> words) override;
    std::optional<bool> truth(const Node& node, std::string_view what) override;
    std::optional<std::uint64_t> number(const Node& node, std::string_view what, std::uint64_t least,
                                        std::uint64_t most) override;
    std::optional<std::uint64_t> size(const Node& node, std::string_view what) override;
    std::optional<std::chrono::milliseconds> time(const Node& node, std::string_view what) override;
    std::optional<std::uint32_t> mode(const Node& node, std::string_view what) override;
    std::optional<std::size_t> word(const Node& node, std::string_view what,
                                    std::span<const std::string_view> words) override;
    std::optional<std::string> name(const Node& node, std::string_view what) override;
    std::span<const Node> list(const Node& node, std::string_view what) override;
    std::optional<AccountId> user(const Node& node, std::string_view what) override;
    std::optional<AccountId> group(const Node& node, std::string_view what) override;

  private:
    // The alternatives for a value.
    using Slot = std::vector<Shape>;
    static Shape joined(Slot slot);
    void note(Shape shape);
    void note_words(std::span<const std::string_view> words);
    void end_key();

    std::vector<Slot> slots_{1};  // the values that are being described, the innermost last
    std::vector<Shape> mappings_{};
    Node entry_{};
};

}  // namespace fdbroker::policy
