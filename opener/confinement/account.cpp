#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "opener/accounts.hpp"
#include "opener/confinement/confinement.hpp"

namespace fdbroker::opener {

namespace {

using proto::Result;

// systemd's range for dynamic users: no distribution gives its accounts a uid from it.
// https://systemd.io/UIDS-GIDS/
constexpr uid_t first_unassigned = 61184;
constexpr uid_t last_unassigned = 65519;

constexpr const char* own_account_name = "fdbroker";

// Every uid and gid that a running process has, real, effective, saved or for files.
std::set<unsigned> ids_of_processes() {
    std::set<unsigned> ids;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
        const std::string name = entry.path().filename();
        if (name.find_first_not_of("0123456789") != std::string::npos) continue;
        std::ifstream status(entry.path() / "status");
        for (std::string line; std::getline(status, line);) {
            if (!line.starts_with("Uid:") && !line.starts_with("Gid:")) continue;
            std::istringstream numbers(line.substr(4));
            for (unsigned id = 0; numbers >> id;) ids.insert(id);
        }
    }
    return ids;
}

Result<BrokerAccount> unassigned_account(const SystemAccounts& accounts) {
    const std::set<unsigned> taken = ids_of_processes();
    constexpr uid_t count = last_unassigned - first_unassigned + 1;
    // From anywhere in the range, so that two openers that start at once do not meet.
    std::uint32_t offset = 0;
    if (::getrandom(&offset, sizeof offset, 0) != sizeof offset) return proto::system_error("getrandom");
    for (uid_t step = 0; step < count; ++step) {
        const uid_t id = first_unassigned + (offset + step) % count;
        if (taken.contains(id) || accounts.has_user(id) || accounts.has_group(id)) continue;
        return BrokerAccount{.uid = id, .gid = id, .name = {}, .changes = true};
    }
    return proto::system_error("account",
                               fmt::format("every uid from {} to {} is in use: create the user {}",
                                           first_unassigned, last_unassigned, own_account_name),
                               EAGAIN);
}

}  // namespace

Result<BrokerAccount> choose_account(const std::optional<std::string>& user) {
    const SystemAccounts accounts;
    const auto named = accounts.find_user(user.value_or(own_account_name));
    if (user && !named) return proto::system_error("account", "no user " + *user, ENOENT);
    if (::geteuid() != 0) {
        if (user && named->uid != ::geteuid()) {
            return proto::system_error("account", "only root can run the broker as " + *user, EPERM);
        }
        return BrokerAccount{.uid = ::geteuid(), .gid = ::getegid(), .name = {}, .changes = false};
    }
    if (!named) return unassigned_account(accounts);
    if (named->uid == 0)
        return proto::system_error("account", named->name + " is root: the broker is not", EINVAL);
    return BrokerAccount{.uid = named->uid, .gid = named->gid, .name = named->name, .changes = true};
}

}  // namespace fdbroker::opener
