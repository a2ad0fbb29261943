// SPDX-License-Identifier: MIT
#include "tests/attack/race.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "tests/support/deadline.hpp"

namespace fdbroker::test {

namespace {

constexpr std::size_t per_message = 64;
constexpr uid_t another = 30055;

std::string attributes_of(const std::string& path) {
    std::string names(1024, '\0');
    const ssize_t size = ::llistxattr(path.c_str(), names.data(), names.size());
    names.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return names;
}

struct stat status_of(const std::string& path) {
    struct stat status{};
    if (::lstat(path.c_str(), &status) != 0) status.st_mode = 0;
    return status;
}

}  // namespace

std::size_t tries() {
    const char* const wished = std::getenv("FDBROKER_ATTACK_TRIES");
    return wished == nullptr ? 20'000 : std::strtoul(wished, nullptr, 10);
}

std::string outcome_of(const TestPeer::Answer& answer) {
    if (answer.status != 0) return ::strerrorname_np(answer.status);
    if (!answer.fd) return "done";
    struct stat status{};
    if (::fstat(answer.fd.number(), &status) != 0 || !S_ISREG(status.st_mode)) return "not a file";
    if ((::fcntl(answer.fd.number(), F_GETFL) & O_ACCMODE) == O_WRONLY) return "a file to write";
    const std::string content = answer.content();
    return content.empty() ? "an empty file" : content;
}

std::function<void()> exchanging(const std::string& one, const std::string& other) {
    return [one, other] {
        for (unsigned time = 0; time < 2; ++time)
            ::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE);
    };
}

std::function<void()> moving_away(const std::string& here, const std::string& there,
                                  const std::string& name) {
    const auto exchange = exchanging(there + "/" + name, there + "/other");
    return [=] {
        ::rename(here.c_str(), there.c_str());
        exchange();
        ::rename(there.c_str(), here.c_str());
    };
}

std::function<void()> mounting_over(const std::string& what, const std::string& where) {
    return [what, where] {
        ::mount(what.c_str(), where.c_str(), nullptr, MS_BIND, nullptr);
        ::umount2(where.c_str(), MNT_DETACH);
    };
}

Scene::Scene(TempDir::Place place) : directory_(place) {
    for (const char* name : {"data", "data/plain", "data/plain/dir", "data/plain/parent", "data/plain/turn",
                             "data/follow", "data/kept", "secret"})
        make_directory(directory_ / name, {.mode = 0755});
    for (const char* name : {"data/plain/file", "data/plain/dir/file", "data/plain/parent/file",
                             "data/follow/file", "data/kept/file"})
        write_file(directory_ / name, "public");
    write_file(directory_ / "secret/file", "secret", {.mode = 0600});
    std::filesystem::create_symlink(at("secret/file"), at("data/plain/link"));
    std::filesystem::create_symlink(at("secret"), at("data/plain/dirlink"));
    std::filesystem::create_symlink("file", at("data/follow/good"));
    std::filesystem::create_symlink(at("secret/file"), at("data/follow/bad"));
    write_file(at("data/plain/parent/other"), "secret");
    write_file(at("secret/theirs"), "theirs", {.mode = 0600, .uid = another, .gid = another});
    std::filesystem::create_hard_link(at("secret/theirs"), at("data/kept/hard"));
    for (const char* name : {"data/plain/fifo", "data/kept/fifo"})
        if (::mkfifo(at(name).c_str(), 0600) != 0) throw std::runtime_error("mkfifo");
    if (::chown(at("data/kept/fifo").c_str(), another, another) != 0) throw std::runtime_error("chown");
}

std::string Scene::policy() const {
    return replace_all(R"(version: 1
rules:
  - name: plain
    allow: [read, append, manage, stat, list, readlink, symlink, setattr, xattr]
    paths: ["DATA/plain/**"]
    files: {types: [regular, directory], max_links: 1}
    deadline: 60s
  - name: kept
    allow: [read, append, manage, stat, setattr, xattr]
    paths: ["DATA/kept/**"]
    files: {owners: ["${user}"], max_links: any}
    deadline: 60s
  - {name: followed, allow: [read, stat], paths: ["DATA/follow/**"], symlinks: follow, deadline: 60s}
audit: {refused: false, allowed: false}
)",
                       "DATA", at("data"));
}

void Scene::link_secret() {
    std::filesystem::create_hard_link(at("secret/file"), at("data/plain/hard"));
}

std::map<std::string, Kept> Scene::secrets() const {
    std::map<std::string, Kept> kept;
    for (const auto& entry : std::filesystem::directory_iterator(at("secret"))) {
        struct stat status{};
        if (::lstat(entry.path().c_str(), &status) != 0) continue;
        kept[entry.path().filename()] = {S_ISREG(status.st_mode) ? read_file(entry.path()) : "",
                                         status.st_mode, status.st_nlink, status.st_mtim.tv_nsec,
                                         attributes_of(entry.path())};
    }
    return kept;
}

std::size_t Scene::others() const {
    std::size_t found = 0;
    for (const auto& entry : std::filesystem::directory_iterator(at("data/kept")))
        found += status_of(entry.path()).st_uid == another ? 1U : 0U;
    return found;
}

std::function<void()> Scene::exchanging_kept(const std::string& other) const {
    const auto exchange = exchanging(at("data/kept/file"), other);
    return [=, file = at("data/kept/file"), directory = at("data/kept"), kept = status_of(other)] {
        const proto::UniqueFd made(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (status_of(other).st_ino != kept.st_ino) {
            for (const auto& entry : std::filesystem::directory_iterator(directory)) {
                if (status_of(entry.path()).st_ino == kept.st_ino)
                    ::rename(entry.path().c_str(), other.c_str());
            }
        }
        exchange();
    };
}

void Attack::run(const std::string& name, const std::function<void()>& round,
                 const std::vector<proto::Request>& requests, const Permissible& permissible) {
    CAPTURE(name);
    TestPeer peer(opener_.socket());
    std::map<std::string, std::size_t> outcomes;
    const Disturber disturber(round);
    std::size_t done = 0;
    for (; done < tries(); done += per_message)
        for (const TestPeer::Answer& answer : peer.call_often(requests, per_message))
            ++outcomes[outcome_of(answer)];
    std::string told;
    for (const auto& [outcome, count] : outcomes) {
        CAPTURE(outcome);
        CHECK(permissible.contains(outcome));
        told += "  " + outcome + ": " + std::to_string(count);
    }
    MESSAGE(name, ": ", done, " tries against ", disturber.rounds(), " rounds:", told);
}

void Attack::check_secrets() const {
    CHECK(scene_.secrets() == before_);
}

namespace {

std::string content_of(const proto::UniqueFd& file) {
    std::string text(16, '\0');
    const ssize_t size = file ? ::pread(file.number(), text.data(), text.size(), 0) : -1;
    text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return text;
}

}  // namespace

std::string content_of(proto::BorrowedFd directory, const std::string& name) {
    return content_of(proto::UniqueFd(
        ::openat(directory.number(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)));
}

std::optional<std::string> naive_open(const std::string& path, const Look& look) {
    if (!look(path)) return std::nullopt;
    const proto::UniqueFd file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    struct stat status{};
    if (!file || ::fstat(file.number(), &status) != 0) return std::nullopt;
    return S_ISREG(status.st_mode) ? content_of(file) : "not a file";
}

bool leads_into(const std::string& path, const std::string& directory) {
    std::error_code ignored;
    return std::filesystem::canonical(path, ignored).string().starts_with(directory + "/");
}
bool is_plain(const std::string& path) {
    struct stat status{};
    return ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1;
}

void must_be_fooled(const std::string& name, const std::function<void()>& round, const NaiveTry& attempt) {
    CAPTURE(name);
    const Disturber disturber(round);
    const Deadline deadline = in_good_time();
    for (std::size_t tried = 1; milliseconds_until(deadline) > 0; ++tried) {
        const auto got = attempt();
        if (!got) continue;
        MESSAGE(name, ": the naive one: \"", *got, "\" at try ", tried);
        return;
    }
    FAIL_CHECK("the naive one was never fooled");
}

NaiveTry opening(const std::string& path, const Look& look) {
    return [=] {
        auto got = naive_open(path, look);
        return got == "public" ? std::nullopt : got;
    };
}

}  // namespace fdbroker::test
