// SPDX-License-Identifier: MIT
// Which sets of globs a name can match together: an automaton over bytes, made of the globs' own programs.
//
// The automaton is the product of all globs: a state is the set of places in their programs that a name so far may have
// reached, as in Thompson's simulation. It is built as it is explored, and its letters are the classes of bytes that no
// glob tells apart. Breadth first, so the first name found for a set of globs is a shortest one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "policy/matching/glob.hpp"

namespace fdbroker::policy {

struct NameClass {
    std::vector<std::uint32_t> globs{};  // all that match, as indices into the programs; ascending
    std::string example{};               // a shortest name of the class
};

// States of the automaton beyond which it is given up. Globs such as `*a*b*` multiply: a thousand of them in one
// directory would take longer than anyone waits.
inline constexpr std::size_t max_name_states = 20'000;

struct NameClasses {
    std::vector<NameClass> classes{};
    bool complete = true;  // false: given up at max_name_states; there may be further classes
};

// The classes of all names that a file can have (1 to 255 bytes, no slash, neither `.` nor `..`) but those in `others`.
// Variables stand for `values`. Programs are those of Glob; they and `others` need not outlive the call.
NameClasses name_classes(std::span<const std::string_view> programs, std::span<const std::string_view> others,
                         const PeerValues& values);

// Name classes that were found once: the directories of a policy differ in their literals more often than in their globs.
class KnownNameClasses {
  public:
    using Programs = std::vector<std::string_view>;
    // As name_classes(). The programs must outlive this object, whose life the reference shares.
    const NameClasses& find(const Programs& programs, const std::vector<std::string>& others,
                            const PeerValues& values);

  private:
    std::map<std::tuple<Programs, std::vector<std::string>, PeerValues>, NameClasses> known_{};
};

// The classes of values of a variable: two values that lead the automaton of `programs` (without variables) from the
// beginning, and after each of `before`, to the same places are one class. An example of each, at most `most`.
// Nothing beyond that is told: who needs to know asks for one more.
std::vector<std::string> value_examples(std::span<const std::string_view> programs,
                                        std::span<const std::string_view> before, std::size_t most);

}  // namespace fdbroker::policy
