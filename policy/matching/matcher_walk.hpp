// SPDX-License-Identifier: MIT
// The walk down a Matcher for one path. See matcher.hpp; decide() and its explanation both go through it.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <numeric>
#include <span>
#include <string_view>

#include "policy/matching/matcher.hpp"
#include "policy/matching/request_path.hpp"

namespace fdbroker::policy {

// A path of 4,095 bytes has at most 2,047 names; places count from 0 (before the first) to 2,047 (after the last).
inline constexpr unsigned max_places = 2048;

// `/dir/**` takes /dir itself for these only.
inline constexpr OperationSet at_the_directory_itself{Operation::stat, Operation::list};

// The names of a path with their hashes, found out one by one as the walk needs them. To be declared uninitialized:
// it is 20 KiB, of which a walk touches what the path needs.
class PathNames {
  public:
    explicit PathNames(RequestPath path) noexcept : path_(path.text()) {}

    // Is `place` the end of the path? `place` is at most one more than the last name asked for.
    bool at_end(unsigned place) const noexcept { return place == count_ && next_ >= path_.size(); }
    // How many names there are; splits all of them.
    unsigned count() noexcept {
        while (next_ < path_.size()) split();
        return count_;
    }
    // The name after `place`, which is not the end and at most one more than the last name asked for.
    std::string_view text(unsigned place) noexcept {
        if (place == count_) split();
        return path_.substr(names_[place].begin, names_[place].size);
    }
    std::uint32_t hash(unsigned place) noexcept {
        const std::string_view name = text(place);
        if (!names_[place].hashed) {
            names_[place].hash = Matcher::hash(name);
            names_[place].hashed = true;
        }
        return names_[place].hash;
    }
    // The place after `names` (a name, or several with slashes between them) if they follow `place`; else max_places.
    // `place` is not the end, and exceeds the last place asked for by at most one.
    unsigned after(std::string_view names, unsigned place) noexcept {
        const std::string_view first = text(place);
        if (names.size() == first.size()) return names == first ? place + 1 : max_places;
        const std::size_t end = names_[place].begin + names.size();
        if (!path_.substr(names_[place].begin).starts_with(names)) return max_places;
        if (end != path_.size() && path_[end] != '/') return max_places;
        while (names_[place].begin + names_[place].size != end) text(++place);
        return place + 1;
    }
    // The next place with the same name, or max_places.
    unsigned next_same(unsigned place) noexcept {
        if (!same_known_) find_same();
        return next_same_[place];
    }

  private:
    struct Name {
        std::uint16_t begin;
        std::uint8_t size;
        bool hashed;
        std::uint32_t hash;
    };
    void split() noexcept {
        const std::size_t slash = std::min(path_.find('/', next_), path_.size());
        names_[count_].begin = static_cast<std::uint16_t>(next_);
        names_[count_].size = static_cast<std::uint8_t>(slash - next_);
        names_[count_].hashed = false;
        ++count_;
        next_ = slash + 1;
    }

    [[gnu::noinline]] void find_same() noexcept {
        std::array<std::uint16_t, max_places> order __attribute__((uninitialized));
        auto* const end = order.data() + count();
        std::iota(order.data(), end, std::uint16_t{0});
        std::sort(order.data(), end, [this](unsigned left, unsigned right) {
            if (hash(left) != hash(right)) return hash(left) < hash(right);
            const int compared = text(left).compare(text(right));
            return compared != 0 ? compared < 0 : left < right;
        });
        for (const auto* at = order.data(); at != end; ++at) {
            const bool same = at + 1 != end && text(*at) == text(at[1]);
            next_same_[*at] = same ? at[1] : static_cast<std::uint16_t>(max_places);
        }
        same_known_ = true;
    }

    std::string_view path_;
    std::size_t next_ = 1;  // where the first name begins that is not split off yet
    unsigned count_ = 0;
    bool same_known_ = false;
    std::array<Name, max_places> names_;
    std::array<std::uint16_t, max_places> next_same_;
};

// A set of places in a path: the bits of so many words.
template <std::size_t words>
class Places {
  public:
    static Places from(unsigned first, unsigned end) noexcept {
        Places places;
        for (unsigned place = first; place < end; ++place) places.insert(place);
        return places;
    }
    void insert(unsigned place) noexcept { words_[place / 64] |= std::uint64_t{1} << (place % 64); }
    bool contains(unsigned place) const noexcept { return (words_[place / 64] >> (place % 64) & 1U) != 0; }
    // The first place from `place` on, or max_places.
    unsigned next(unsigned place) const noexcept {
        if (place >= 64 * words) return max_places;
        std::uint64_t word = words_[place / 64] >> (place % 64) << (place % 64);
        for (unsigned index = place / 64; true; word = words_[index]) {
            if (word != 0) return index * 64 + static_cast<unsigned>(std::countr_zero(word));
            if (++index == words) return max_places;
        }
    }
    unsigned first() const noexcept { return next(0); }

  private:
    std::array<std::uint64_t, words> words_{};
};
// A path of fewer bytes has fewer names than a word has bits.
inline constexpr std::size_t short_path = 128;

// Visitor has allow(span of Entry, OperationSet) and deny(span of Entry, OperationSet): the lists, none empty, of the
// nodes that match the path (deny: the path or a directory above it), for the operations given.
template <class Visitor, class Places>
class Walk {
  public:
    static void run(const Matcher& matcher, RequestPath path, const PeerValues& values,
                    Visitor& visitor) noexcept {
        PathNames names __attribute__((uninitialized)) (path);
        Walk(matcher, names, values, visitor).at_place(0, 0);
    }

  private:
    Walk(const Matcher& matcher, PathNames& names, const PeerValues& values, Visitor& visitor) noexcept
        : matcher_(matcher), names_(names), values_(values), visitor_(visitor) {}

    bool matches(const Matcher::GlobEdge& edge, unsigned place) noexcept {
        return glob_matches(matcher_.program(edge), names_.text(place), values_);
    }

    // The node is reached after `place` names, and after no other number of them.
    void at_place(Matcher::Place index, unsigned place) noexcept {
        while (true) {
            const Matcher::Node& node = matcher_.node(index);
            const bool end = names_.at_end(place);
            if (node.denies != 0) visitor_.deny(node.deny(), OperationSet::all());
            if (end && node.allows != 0) visitor_.allow(node.allow(), OperationSet::all());
            if (node.any_depth != Matcher::none) at_any_depth(node.any_depth, place);
            if (end) return;
            if (node.globs != Matcher::none) {
                matcher_.each_candidate(node.globs, names_.text(place), [&](const Matcher::GlobEdge& edge) {
                    if (matches(edge, place)) at_place(edge.child, place + 1);
                });
            }
            if (!node.literals) return;
            index = matcher_.child(index, names_.text(place), names_.hash(place));
            if (index == Matcher::none) return;
            place = names_.after(matcher_.node(index).name(), place);
            if (place == max_places) return;
        }
    }

    // The node of a `**` that begins after `first` names.
    [[gnu::noinline]] void at_any_depth(Matcher::Place index, unsigned first) noexcept {
        const Matcher::Node& node = matcher_.node(index);
        const bool end = names_.at_end(first);
        const OperationSet operations = end ? at_the_directory_itself : OperationSet::all();
        if (node.denies != 0) visitor_.deny(node.deny(), operations);
        if (node.allows != 0) visitor_.allow(node.allow(), operations);
        if (!end && !node.leaf()) below(index, Places::from(first, names_.count()));
    }

    // The node is reached after each of these numbers of names.
    void at_places(Matcher::Place index, const Places& places) noexcept {
        const unsigned first = places.first();
        if (places.next(first + 1) == max_places) return at_place(index, first);
        const Matcher::Node& node = matcher_.node(index);
        if (node.denies != 0) visitor_.deny(node.deny(), OperationSet::all());
        if (node.allows != 0 && places.contains(names_.count()))
            visitor_.allow(node.allow(), OperationSet::all());
        if (node.any_depth != Matcher::none) at_any_depth(node.any_depth, first);
        if (!node.leaf()) below(index, places);
    }

    [[gnu::noinline]] void below(Matcher::Place index, const Places& places) noexcept {
        const Matcher::Node& node = matcher_.node(index);
        if (node.globs != Matcher::none) {
            for (const Matcher::GlobEdge* edge = matcher_.globs(node.globs); true; ++edge) {
                through_glob(*edge, places);
                if (edge->last) break;
            }
        }
        if (node.literals) through_literals(index, places);
    }

    void through_glob(const Matcher::GlobEdge& edge, const Places& places) noexcept {
        Places reached;
        bool any = false;
        for (unsigned place = places.first(); place < names_.count(); place = places.next(place + 1)) {
            if (!matches(edge, place)) continue;
            reached.insert(place + 1);
            any = true;
        }
        if (any) at_places(edge.child, reached);
    }

    void through_literals(Matcher::Place index, const Places& places) noexcept {
        Places done;
        for (unsigned place = places.first(); place < names_.count(); place = places.next(place + 1)) {
            if (done.contains(place)) continue;
            const Matcher::Place child = matcher_.child(index, names_.text(place), names_.hash(place));
            if (child == Matcher::none) continue;
            const std::string_view names = matcher_.node(child).name();
            Places reached;
            bool any = false;
            for (unsigned again = place; again < names_.count(); again = names_.next_same(again)) {
                done.insert(again);
                const unsigned after = places.contains(again) ? names_.after(names, again) : max_places;
                if (after == max_places) continue;
                reached.insert(after);
                any = true;
            }
            if (any) at_places(child, reached);
        }
    }

    const Matcher& matcher_;
    PathNames& names_;
    const PeerValues& values_;
    Visitor& visitor_;
};

template <class Visitor>
void walk(const Matcher& matcher, RequestPath path, const PeerValues& values, Visitor& visitor) noexcept {
    if (path.text().size() < short_path) return Walk<Visitor, Places<1>>::run(matcher, path, values, visitor);
    Walk<Visitor, Places<max_places / 64>>::run(matcher, path, values, visitor);
}

}  // namespace fdbroker::policy
