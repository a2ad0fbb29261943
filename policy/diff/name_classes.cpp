// SPDX-License-Identifier: MIT
#include "policy/diff/name_classes.hpp"

#include <algorithm>
#include <climits>
#include <map>
#include <set>

namespace fdbroker::policy {
namespace {

using Positions = std::vector<std::uint32_t>;  // ascending, each once

// All that a name can hold. Of a class the first is shown to people.
const std::vector<std::uint8_t>& bytes_by_looks() {
    static const auto all = [] {
        std::vector<std::uint8_t> bytes;
        const auto add = [&](unsigned first, unsigned last) {
            for (unsigned byte = first; byte <= last; ++byte)
                if (byte != '/' && std::ranges::find(bytes, byte) == bytes.end())
                    bytes.push_back(static_cast<std::uint8_t>(byte));
        };
        add('a', 'z');
        add('0', '9');
        add('A', 'Z');
        add('!', '~');
        add(1, UINT8_MAX);
        return bytes;
    }();
    return all;
}

// Places in the programs, one behind the other; the place behind a program's last step accepts.
class Automaton {
  public:
    void add(std::string_view program, const PeerValues& values) {
        begins_.push_back(static_cast<std::uint32_t>(places_.size()));
        for (const GlobStep& step : glob_steps(program)) {
            switch (step.kind) {
                case GlobStep::Kind::byte:
                    places_.push_back({.bytes = step.bytes});
                    break;
                case GlobStep::Kind::any_bytes:
                    places_.push_back({.loops = true});
                    break;
                case GlobStep::Kind::variable:
                    add_value(values[static_cast<std::size_t>(step.variable)]);
                    break;
            }
        }
        accept();
    }
    void add_text(std::string_view text) {
        begins_.push_back(static_cast<std::uint32_t>(places_.size()));
        for (const char byte : text) places_.emplace_back().bytes.set(static_cast<std::uint8_t>(byte));
        accept();
    }
    // After the last add().
    void find_letters() {
        ByteSet alone;  // each the only byte that some place takes
        std::set<std::vector<std::uint64_t>> distinct;
        std::vector<const ByteSet*> sets;
        for (const Place& place : places_) {
            if (place.accepts != none || place.loops) continue;
            if (place.bytes.count() == 1)
                alone |= place.bytes;
            else if (distinct.insert(words_of(place.bytes)).second)
                sets.push_back(&place.bytes);
        }
        std::set<std::vector<bool>> known;
        for (const std::uint8_t byte : bytes_by_looks()) {
            std::vector<bool> in;
            for (const ByteSet* const set : sets) in.push_back((*set)[byte]);
            if (alone[byte] || known.insert(std::move(in)).second) letters_.push_back(byte);
        }
    }

    // A state. Places of `*` that were reached stay reached whatever follows, and with each of them the place behind it.
    // They are sets of their own, told by number: a thousand globs that begin with `*` have few other places at a time.
    struct State {
        std::uint32_t stars = 0;  // index into star_sets_
        Positions places{};
        auto operator<=>(const State&) const = default;
    };

    std::span<const std::uint8_t> letters() const noexcept { return letters_; }
    State start() {
        Reached reached;
        for (const std::uint32_t begin : begins_) reach(begin, reached);
        order(reached.stars);
        order(reached.places);
        return {number_of(reached.stars), std::move(reached.places)};
    }
    State step(const State& from, std::uint8_t byte) {
        Reached reached = behind_stars(from.stars, byte);
        for (const std::uint32_t at : from.places)
            if (takes(at, byte)) reach(at + 1, reached);
        order(reached.places);
        State next{from.stars, std::move(reached.places)};
        if (reached.stars.empty()) return next;
        Positions stars = star_sets_[from.stars];
        stars.insert(stars.end(), reached.stars.begin(), reached.stars.end());
        order(stars);
        next.stars = number_of(stars);
        return next;
    }
    std::vector<std::uint32_t> accepted(const State& at) const {
        std::vector<std::uint32_t> programs;
        const auto add = [&](std::uint32_t place) {
            if (places_[place].accepts != none) programs.push_back(places_[place].accepts);
        };
        for (const std::uint32_t star : star_sets_[at.stars]) add(star + 1);
        for (const std::uint32_t place : at.places) add(place);
        order(programs);
        return programs;
    }

  private:
    static constexpr std::uint32_t none = UINT32_MAX;
    struct Place {
        ByteSet bytes{};
        bool loops = false;            // a `*`: every byte stays here, and the next place is reached, too
        std::uint32_t accepts = none;  // the program that ends here
    };

    static std::vector<std::uint64_t> words_of(const ByteSet& bytes) {
        std::vector<std::uint64_t> words(bytes.size() / 64);
        for (std::size_t byte = 0; byte < bytes.size(); ++byte)
            if (bytes[byte]) words[byte / 64] |= std::uint64_t{1} << (byte % 64);
        return words;
    }

    void add_value(const std::string& value) {
        // An empty value matches nothing: a place that no byte leads on from.
        if (value.empty()) places_.emplace_back();
        for (const char byte : value) places_.emplace_back().bytes.set(static_cast<std::uint8_t>(byte));
    }
    void accept() { places_.push_back({.accepts = static_cast<std::uint32_t>(begins_.size() - 1)}); }
    bool takes(std::uint32_t at, std::uint8_t byte) const {
        return places_[at].accepts == none && places_[at].bytes[byte];
    }
    struct Reached {
        Positions stars{};
        Positions places{};
    };
    // No two stars follow each other (Glob).
    void reach(std::uint32_t at, Reached& reached) const {
        (places_[at].loops ? reached.stars : reached.places).push_back(at);
    }
    // Reached by one byte from the places behind a set of stars.
    const Reached& behind_stars(std::uint32_t stars, std::uint8_t byte) {
        const auto [known, is_new] = behind_stars_.try_emplace({stars, byte});
        if (is_new)
            for (const std::uint32_t star : star_sets_[stars])
                if (takes(star + 1, byte)) reach(star + 2, known->second);
        return known->second;
    }
    std::uint32_t number_of(const Positions& stars) {
        const auto [known, is_new] =
            star_numbers_.try_emplace(stars, static_cast<std::uint32_t>(star_sets_.size()));
        if (is_new) star_sets_.push_back(stars);
        return known->second;
    }
    static void order(Positions& positions) {
        std::ranges::sort(positions);
        const auto repeated = std::ranges::unique(positions);
        positions.erase(repeated.begin(), repeated.end());
    }

    std::vector<Place> places_{};
    std::vector<std::uint32_t> begins_{};
    std::vector<std::uint8_t> letters_{};
    std::vector<Positions> star_sets_{};
    std::map<Positions, std::uint32_t> star_numbers_{};
    std::map<std::pair<std::uint32_t, std::uint8_t>, Reached> behind_stars_{};
};

// Every state that names of up to 255 bytes lead to, a shortest name for each; breadth first, until `visit(state, name)` is
// false. The states that were left out at `most` make the result false.
template <typename State, typename Step, typename Visit>
bool explore(State start, std::span<const std::uint8_t> letters, std::size_t most, const Step& step,
             const Visit& visit) {
    struct Found {
        const State* state;
        std::uint32_t before;
        std::uint8_t letter;
        std::uint8_t length;
    };
    std::map<State, std::uint32_t> known;
    std::vector<Found> found;
    found.push_back({&known.emplace(std::move(start), 0).first->first, 0, 0, 0});
    for (std::uint32_t index = 0; index < found.size(); ++index) {
        std::string name;
        for (std::uint32_t at = index; found[at].length != 0; at = found[at].before)
            name.insert(name.begin(), static_cast<char>(found[at].letter));
        if (!visit(*found[index].state, name)) return true;
        if (found[index].length == NAME_MAX) continue;
        for (const std::uint8_t letter : letters) {
            State next = step(*found[index].state, letter);
            if (known.size() > most) return false;
            const auto [place, is_new] =
                known.try_emplace(std::move(next), static_cast<std::uint32_t>(found.size()));
            if (is_new)
                found.push_back(
                    {&place->first, index, letter, static_cast<std::uint8_t>(found[index].length + 1)});
        }
    }
    return true;
}

}  // namespace

NameClasses name_classes(std::span<const std::string_view> programs, std::span<const std::string_view> others,
                         const PeerValues& values) {
    Automaton automaton;
    for (const std::string_view program : programs) automaton.add(program, values);
    for (const std::string_view text : others) automaton.add_text(text);
    for (const std::string_view text : {"", ".", ".."}) automaton.add_text(text);
    automaton.find_letters();

    NameClasses found;
    std::map<std::vector<std::uint32_t>, std::size_t> known;
    found.complete = explore(
        automaton.start(), automaton.letters(), max_name_states,
        [&](const Automaton::State& from, std::uint8_t letter) { return automaton.step(from, letter); },
        [&](const Automaton::State& state, const std::string& name) {
            std::vector<std::uint32_t> globs = automaton.accepted(state);
            if (!globs.empty() && globs.back() >= programs.size()) return true;
            if (known.try_emplace(globs, found.classes.size()).second)
                found.classes.push_back({std::move(globs), name});
            return true;
        });
    return found;
}

const NameClasses& KnownNameClasses::find(const Programs& programs, const std::vector<std::string>& others,
                                          const PeerValues& values) {
    const bool counts = std::ranges::any_of(programs, glob_has_variable);
    const auto [known, is_new] = known_.try_emplace({programs, others, counts ? values : PeerValues{}});
    if (is_new) {
        const std::vector<std::string_view> texts(others.begin(), others.end());
        known->second = name_classes(programs, texts, values);
    }
    return known->second;
}

std::vector<std::string> value_examples(std::span<const std::string_view> programs,
                                        std::span<const std::string_view> before, std::size_t most) {
    Automaton automaton;
    for (const std::string_view program : programs) automaton.add(program, {});
    // A value is neither of these, and no name is empty.
    for (const std::string_view text : {".", ".."}) automaton.add_text(text);
    for (const std::string_view text : before) automaton.add_text(text);
    automaton.find_letters();

    using Places = std::vector<Automaton::State>;
    Places start{automaton.start()};
    for (const std::string_view text : before) {
        Automaton::State at = automaton.start();
        for (const char byte : text) at = automaton.step(at, static_cast<std::uint8_t>(byte));
        start.push_back(std::move(at));
    }
    std::vector<std::string> examples;
    explore(
        std::move(start), automaton.letters(), max_name_states,
        [&](const Places& from, std::uint8_t letter) {
            Places next;
            for (const Automaton::State& one : from) next.push_back(automaton.step(one, letter));
            return next;
        },
        [&](const Places&, const std::string& value) {
            if (!value.empty() && value != "." && value != "..") examples.push_back(value);
            return examples.size() < most;
        });
    return examples;
}

}  // namespace fdbroker::policy
