// SPDX-License-Identifier: MIT
// The open descriptors of a process, to be compared before and after.
#pragma once

#include <sys/types.h>

#include <iosfwd>
#include <map>
#include <string>

namespace fdbroker::test {

class DescriptorTable {
  public:
    static DescriptorTable now();          // this process's
    static DescriptorTable of(pid_t pid);  // another process's, as /proc shows it

    // The targets of the links /proc/PID/fd/N, by N: "socket:[4711]", "/run/x", "anon_inode:[eventpoll]".
    const std::map<int, std::string>& entries() const { return entries_; }
    std::size_t count() const { return entries_.size(); }

    // The changes since `before`, one per line: "+7 socket:[4711]" opened, "-5 /run/x" closed; empty: nothing.
    //     const auto before = DescriptorTable::now();
    //     …
    //     CHECK(DescriptorTable::now().changes_since(before) == "");
    std::string changes_since(const DescriptorTable& before) const;

    bool operator==(const DescriptorTable&) const = default;

  private:
    std::map<int, std::string> entries_;
};

std::ostream& operator<<(std::ostream& out, const DescriptorTable& table);

}  // namespace fdbroker::test
