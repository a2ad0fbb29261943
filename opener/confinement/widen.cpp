// SPDX-License-Identifier: MIT
#include "opener/confinement/widen.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "opener/confinement/paths.hpp"

namespace fdbroker::opener {

namespace {

constexpr unsigned attribute_sets = 8;

unsigned attributes_of(const PlannedDirectory& directory) noexcept {
    return (directory.writable ? 1U : 0U) | (directory.executable ? 2U : 0U) | (directory.devices ? 4U : 0U);
}

// The depth of "/" is 0.
std::size_t depth_of(std::string_view path) noexcept {
    return path == "/" ? 0 : static_cast<std::size_t>(std::ranges::count(path, '/'));
}

// The directory above `path` that is so deep. `path` is deeper.
std::string_view ancestor(std::string_view path, std::size_t depth) noexcept {
    if (depth == 0) return "/";
    std::size_t end = 0;
    for (std::size_t level = 0; level <= depth && end != std::string_view::npos; ++level)
        end = path.find('/', end + (level == 0 ? 0 : 1));
    return path.substr(0, end);
}

class Widening {
  public:
    explicit Widening(std::vector<PlannedDirectory> directories) {
        for (PlannedDirectory& directory : directories) {
            const std::size_t depth = depth_of(directory.path);
            deepest_ = std::max(deepest_, depth);
            entries_.push_back({.depth = depth, .named = true, .planned = std::move(directory)});
        }
        left_ = entries_.size();
    }

    std::vector<PlannedDirectory> down_to(std::size_t most) && {
        for (std::size_t depth = deepest_; depth-- > 0 && left_ > most;) merge_below(depth, most);
        std::vector<PlannedDirectory> directories;
        for (Entry& entry : entries_) {
            if (entry.gone) continue;
            if (!entry.stands_for.empty()) {
                std::ranges::sort(entry.stands_for);
                entry.planned.stands_for =
                    std::make_shared<const std::vector<std::string>>(std::move(entry.stands_for));
            }
            directories.push_back(std::move(entry.planned));
        }
        std::ranges::sort(directories, {}, &PlannedDirectory::path);
        return directories;
    }

  private:
    struct Entry {
        std::size_t depth = 0;
        bool named = false;  // by rules
        std::vector<std::string> stands_for{};
        PlannedDirectory planned{};
        bool gone = false;
    };
    // Entries with the same attributes below one directory.
    struct Group {
        std::string path;
        unsigned attributes = 0;
        std::vector<std::size_t> entries{};
    };

    // Each directory that is so deep takes the place of what is below it, the one with most first, until few enough are left.
    void merge_below(std::size_t depth, std::size_t most) {
        std::vector<Group> groups;
        std::array<std::unordered_map<std::string_view, std::size_t>, attribute_sets> index;
        std::unordered_map<std::string, std::size_t> there;
        for (std::size_t i = 0; i < entries_.size(); ++i) {
            const Entry& entry = entries_[i];
            if (entry.gone) continue;
            if (entry.depth == depth) there.emplace(entry.planned.path, i);
            if (entry.depth <= depth) continue;
            const std::string_view above = ancestor(entry.planned.path, depth);
            const unsigned attributes = attributes_of(entry.planned);
            const auto [found, is_new] = index[attributes].try_emplace(above, groups.size());
            if (is_new) groups.push_back({std::string(above), attributes, {}});
            groups[found->second].entries.push_back(i);
        }
        std::ranges::stable_sort(groups, [](const Group& one, const Group& other) {
            return one.entries.size() > other.entries.size();
        });
        for (const Group& group : groups) {
            if (left_ <= most) return;
            if (group.entries.size() < 2 && !there.contains(group.path)) continue;
            merge(group, depth, there);
        }
    }

    void merge(const Group& group, std::size_t depth, std::unordered_map<std::string, std::size_t>& there) {
        const auto [found, is_new] = there.try_emplace(group.path, entries_.size());
        if (is_new) {
            entries_.push_back({.depth = depth, .planned = {.path = group.path}});
            ++left_;
        }
        Entry& whole = entries_[found->second];
        whole.planned.writable |= (group.attributes & 1U) != 0;
        whole.planned.executable |= (group.attributes & 2U) != 0;
        whole.planned.devices |= (group.attributes & 4U) != 0;
        for (const std::size_t i : group.entries) {
            Entry& entry = entries_[i];
            if (entry.named) whole.stands_for.push_back(std::move(entry.planned.path));
            std::ranges::move(entry.stands_for, std::back_inserter(whole.stands_for));
            entry.gone = true;
        }
        left_ -= group.entries.size();
    }

    std::vector<Entry> entries_{};
    std::size_t deepest_ = 0;
    std::size_t left_ = 0;
};

// The nearest of these, which are sorted by path, that is `path` or above it; null: none.
NamedDirectory* nearest_bound(std::vector<NamedDirectory>& directories, std::string_view path) {
    for (;; path = parent_of(path)) {
        const auto found = std::ranges::lower_bound(directories, path, {}, &NamedDirectory::path);
        if (found != directories.end() && found->path == path) return &*found;
        if (path == "/") return nullptr;
    }
}

}  // namespace

void widen(ConfinementPlan& plan, std::size_t most) {
    if (plan.directories.size() > most)
        plan.directories = Widening(std::move(plan.directories)).down_to(most);
    if (plan.named.size() <= most) return;
    // Bound directories are those that are watched and that Landlock permits.
    std::vector<NamedDirectory> bound;
    for (const PlannedDirectory& directory : plan.directories) bound.push_back({.path = directory.path});
    for (const NamedDirectory& named : plan.named) {
        NamedDirectory* const around = nearest_bound(bound, named.path);
        if (around == nullptr) continue;
        around->operations = around->operations | named.operations;
        around->devices = around->devices || named.devices;
    }
    plan.named = std::move(bound);
}

std::string Width::text() const {
    return fmt::format("bound for {} {} that rules name, up to {} level{} below it", directories,
                       directories == 1 ? "directory" : "directories", levels, levels == 1 ? "" : "s");
}

std::optional<Width> width_of(const std::string& path, const StandsFor& stands_for) {
    if (!stands_for) return std::nullopt;
    Width width{.directories = stands_for->size()};
    for (const std::string& each : *stands_for)
        width.levels = std::max(width.levels, depth_of(each) - depth_of(path));
    return width;
}

}  // namespace fdbroker::opener
