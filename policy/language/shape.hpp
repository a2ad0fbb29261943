// SPDX-License-Identifier: MIT
// The form of a policy, as the loader's own tables and functions give it: describe_language() has them describe each
// value instead of reading it. What takes more than the form of a value (whether a role exists, whether a glob is one) is
// not in it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fdbroker::policy {

struct Shape {
    enum class Kind : std::uint8_t {
        text,
        truth,
        number,  // from `least` to `most`
        size,    // 64KiB
        time,    // 500ms
        mode,    // "0640"
        word,    // any of `words`
        name,
        account,
        list,     // entries, each of which is any of the parts
        mapping,  // has `keys`, each with its part
        named,    // a mapping of any names, whose values are parts[0]
        either,   // any of the parts
    };
    struct Key {
        std::string name{};
        bool required = false;
    };
    Kind kind{};
    std::uint64_t least = 0;
    std::uint64_t most = 0;
    std::vector<std::string> words{};
    std::vector<Shape> parts{};
    std::vector<Key> keys{};
    bool one_more = false;  // a mapping of which one key that is not required is there, too
};

enum class Document : std::uint8_t { policy, fragment };

Shape describe_language(Document document);

}  // namespace fdbroker::policy
