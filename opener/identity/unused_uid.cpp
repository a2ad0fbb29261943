// SPDX-License-Identifier: MIT
#include "opener/identity/unused_uid.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

namespace fdbroker::opener {

std::set<std::uint32_t> ids_of_processes() {
    std::set<std::uint32_t> ids;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
        const std::string name = entry.path().filename();
        if (name.find_first_not_of("0123456789") != std::string::npos) continue;
        std::ifstream status(entry.path() / "status");
        for (std::string line; std::getline(status, line);) {
            if (!line.starts_with("Uid:") && !line.starts_with("Gid:")) continue;
            std::istringstream numbers(line.substr(4));
            for (std::uint32_t id = 0; numbers >> id;) ids.insert(id);
        }
    }
    return ids;
}

std::optional<uid_t> find_unused_uid(std::uint32_t offset, const std::function<bool(uid_t)>& is_taken) {
    constexpr uid_t count = last_unassigned_uid - first_unassigned_uid + 1;
    for (uid_t step = 0; step < count; ++step) {
        const uid_t candidate = first_unassigned_uid + (offset % count + step) % count;
        if (!is_taken(candidate)) return candidate;
    }
    return std::nullopt;
}

}  // namespace fdbroker::opener
