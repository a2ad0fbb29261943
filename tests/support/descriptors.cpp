// SPDX-License-Identifier: MIT
#include "tests/support/descriptors.hpp"

#include <dirent.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <ostream>
#include <system_error>

namespace fdbroker::test {

namespace {

std::map<int, std::string> read_table(const std::string& directory, bool own) {
    const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(directory.c_str()), ::closedir);
    if (!listing) throw std::system_error(errno, std::generic_category(), "opendir: " + directory);
    std::map<int, std::string> entries;
    while (const dirent* entry = ::readdir(listing.get())) {
        if (entry->d_name[0] == '.') continue;
        const int number = std::atoi(entry->d_name);
        if (own && number == ::dirfd(listing.get())) continue;
        std::array<char, 4096> target;
        const ssize_t size =
            ::readlinkat(::dirfd(listing.get()), entry->d_name, target.data(), target.size());
        // Another process may have closed it since it was listed.
        if (size < 0) continue;
        entries.emplace(number, std::string(target.data(), static_cast<std::size_t>(size)));
    }
    return entries;
}

void append_line(std::string& text, char sign, int number, const std::string& target) {
    if (!text.empty()) text += '\n';
    text += sign + std::to_string(number) + ' ' + target;
}

}  // namespace

DescriptorTable DescriptorTable::now() {
    DescriptorTable table;
    table.entries_ = read_table("/proc/self/fd", true);
    return table;
}

DescriptorTable DescriptorTable::of(pid_t pid) {
    DescriptorTable table;
    table.entries_ = read_table("/proc/" + std::to_string(pid) + "/fd", pid == ::getpid());
    return table;
}

std::string DescriptorTable::changes_since(const DescriptorTable& before) const {
    std::string changes;
    for (const auto& [number, target] : before.entries_) {
        const auto now = entries_.find(number);
        if (now == entries_.end() || now->second != target) append_line(changes, '-', number, target);
    }
    for (const auto& [number, target] : entries_) {
        const auto then = before.entries_.find(number);
        if (then == before.entries_.end() || then->second != target)
            append_line(changes, '+', number, target);
    }
    return changes;
}

std::ostream& operator<<(std::ostream& out, const DescriptorTable& table) {
    for (const auto& [number, target] : table.entries()) out << number << ' ' << target << '\n';
    return out;
}

}  // namespace fdbroker::test
