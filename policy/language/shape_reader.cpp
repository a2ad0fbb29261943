// SPDX-License-Identifier: MIT
#include "policy/language/shape_reader.hpp"

namespace fdbroker::policy {

using Kind = Shape::Kind;

Shape ShapeReader::joined(Slot slot) {
    if (slot.size() == 1) return std::move(slot.front());
    return {.kind = Kind::either, .parts = std::move(slot)};
}

// Questions after a list concern the list's entries.
void ShapeReader::note(Shape shape) {
    Slot& slot = slots_.back();
    Slot& target = !slot.empty() && slot.back().kind == Kind::list ? slot.back().parts : slot;
    target.push_back(std::move(shape));
}

void ShapeReader::begin_mapping() {
    mappings_.push_back({.kind = Kind::mapping});
}

void ShapeReader::end_key() {
    Shape& mapping = mappings_.back();
    if (mapping.keys.size() == mapping.parts.size()) return;
    mapping.parts.push_back(joined(std::move(slots_.back())));
    slots_.pop_back();
}

void ShapeReader::begin_key(std::string_view name, Presence presence) {
    end_key();
    mappings_.back().keys.push_back({std::string(name), presence == Presence::required});
    slots_.emplace_back();
}

void ShapeReader::end_mapping() {
    end_key();
    Shape mapping = std::move(mappings_.back());
    mappings_.pop_back();
    note(std::move(mapping));
}

void ShapeReader::begin_named() {
    slots_.emplace_back();
}

void ShapeReader::end_named() {
    Shape value = joined(std::move(slots_.back()));
    slots_.pop_back();
    note({.kind = Kind::named, .parts = {std::move(value)}});
}

void ShapeReader::expect_one_more() {
    mappings_.back().one_more = true;
}

Shape ShapeReader::take() {
    return joined(std::move(slots_.front()));
}

bool ShapeReader::is_word(const Node&, std::string_view word) {
    note({.kind = Kind::word, .words = {std::string(word)}});
    return false;
}

void ShapeReader::note_words(std::span<const std::string_view> words) {
    note({.kind = Kind::word, .words = {words.begin(), words.end()}});
}

std::optional<std::string> ShapeReader::text(const Node&, std::string_view,
                                             std::span<const std::string_view> words) {
    if (words.empty()) {
        note({.kind = Kind::text});
    } else {
        note_words(words);
    }
    return std::nullopt;
}

std::optional<bool> ShapeReader::truth(const Node&, std::string_view) {
    note({.kind = Kind::truth});
    return std::nullopt;
}

std::optional<std::uint64_t> ShapeReader::number(const Node&, std::string_view, std::uint64_t least,
                                                 std::uint64_t most) {
    note({.kind = Kind::number, .least = least, .most = most});
    return std::nullopt;
}

std::optional<std::uint64_t> ShapeReader::size(const Node&, std::string_view) {
    note({.kind = Kind::size});
    return std::nullopt;
}

std::optional<std::chrono::milliseconds> ShapeReader::time(const Node&, std::string_view) {
    note({.kind = Kind::time});
    return std::nullopt;
}

std::optional<std::uint32_t> ShapeReader::mode(const Node&, std::string_view) {
    note({.kind = Kind::mode});
    return std::nullopt;
}

std::optional<std::size_t> ShapeReader::word(const Node&, std::string_view,
                                             std::span<const std::string_view> words) {
    note_words(words);
    return std::nullopt;
}

std::optional<std::string> ShapeReader::name(const Node&, std::string_view) {
    note({.kind = Kind::name});
    return std::nullopt;
}

std::span<const Node> ShapeReader::list(const Node&, std::string_view) {
    note({.kind = Kind::list});
    return {&entry_, 1};
}

std::optional<AccountId> ShapeReader::user(const Node&, std::string_view) {
    note({.kind = Kind::account});
    return std::nullopt;
}

std::optional<AccountId> ShapeReader::group(const Node&, std::string_view) {
    note({.kind = Kind::account});
    return std::nullopt;
}

}  // namespace fdbroker::policy
