// SPDX-License-Identifier: MIT
// Files that are put while the names they are for, and the directories of these, change.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>

#include "opener/quota/helper_limits.hpp"
#include "proto/payload.hpp"
#include "tests/attack/race.hpp"
#include "tests/support/child.hpp"
#include "tests/support/deadline.hpp"
#include "tests/support/files.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;

namespace {

// The objects that take the file's place in turn. An object that a commit has replaced is made anew.
class Exchanges {
  public:
    explicit Exchanges(const Scene& scene) : scene_(scene) {}

    void operator()() const {
        const std::string file = at("file");
        for (const char* name : {"link", "fifo", "hard", "turn"}) {
            restore();
            exchanging(file, at(name))();
        }
        exchanging(at("dir"), at("dirlink"))();
        moving_away(at("parent"), scene_.at("secret/parent"), "file")();
    }
    void restore() const {
        if (type_of("link") != S_IFLNK)
            make("link", [&](const std::string& path) {
                std::filesystem::create_symlink(scene_.at("secret/file"), path);
            });
        if (type_of("fifo") != S_IFIFO)
            make("fifo", [](const std::string& path) { ::mkfifo(path.c_str(), 0600); });
        if (!is_secret("hard"))
            make("hard", [&](const std::string& path) {
                std::filesystem::create_hard_link(scene_.at("secret/file"), path);
            });
        if (type_of("file") != S_IFREG || is_secret("file"))
            make("file", [](const std::string& path) { write_file(path, "public"); });
    }

  private:
    std::string at(const char* name) const { return scene_.at(std::string("data/plain/") + name); }
    mode_t type_of(const char* name) const {
        struct stat status{};
        return ::lstat(at(name).c_str(), &status) == 0 ? status.st_mode & S_IFMT : 0;
    }
    bool is_secret(const char* name) const {
        std::error_code ignored;
        return type_of(name) == S_IFREG &&
               std::filesystem::equivalent(at(name), scene_.at("secret/file"), ignored);
    }
    template <typename Make>
    void make(const char* name, Make make) const {
        ::unlink(at(name).c_str());
        // A commit may make it first.
        try {
            make(at(name));
        } catch (const std::exception&) {
        }
    }
    const Scene& scene_;
};

using Outcomes = std::map<std::string, std::size_t>;

void note(Outcomes& outcomes, const char* call, const TestPeer::Answer& answer) {
    ++outcomes[std::string(call) + ": " + outcome_of(answer)];
}

// As many as a user may have at once: put, filled, committed. Returns how many were begun.
std::size_t put_some(TestPeer& peer, const std::string& path, Outcomes& outcomes) {
    auto begun = peer.call_often({{.call = Call::put, .path = path}}, opener::max_background_helpers_of_user);
    std::vector<std::string> numbers;
    for (TestPeer::Answer& answer : begun) {
        note(outcomes, "put", answer);
        if (answer.status != 0) continue;
        CHECK(::write(answer.fd.number(), "put", 3) == 3);
        answer.fd.reset();
        numbers.push_back(answer.payload);
    }
    const auto ask = [&](Call call) {
        std::vector<proto::Request> requests;
        for (const std::string& number : numbers)
            requests.push_back({.call = call, .path = path, .payload = number});
        auto answers = peer.call_often(requests, requests.size());
        std::ranges::sort(answers, {}, &TestPeer::Answer::id);
        return answers;
    };
    if (numbers.empty()) return 0;
    const auto committed = ask(Call::commit);
    std::vector<std::string> refused;
    for (std::size_t i = 0; i < committed.size(); ++i) {
        note(outcomes, "commit", committed[i]);
        if (committed[i].status != 0) refused.push_back(numbers[i]);
    }
    const std::size_t tried = numbers.size();
    numbers = std::move(refused);
    if (!numbers.empty())
        for (const auto& answer : ask(Call::discard)) note(outcomes, "discard", answer);
    return tried;
}

void attack() {
    Scene scene(TempDir::Place::run);
    scene.link_secret();
    const std::string file = scene.at("data/plain/file");
    struct stat secret{};
    REQUIRE(::stat(scene.at("secret/file").c_str(), &secret) == 0);
    must_be_fooled(
        "put, link for file", exchanging(file, scene.at("data/plain/link")),
        [&]() -> std::optional<std::string> {
            if (!is_plain(file)) return std::nullopt;
            const proto::UniqueFd replaced(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
            struct stat status{};
            if (!replaced || ::fstat(replaced.number(), &status) != 0 || status.st_ino != secret.st_ino)
                return std::nullopt;
            return "would have replaced what is in the secret";
        });

    const Permissible permissible = {{"put: a file to write", is_asked_for},
                                     {"put: ELOOP", saw_link},
                                     {"put: EACCES", "a FIFO or a file of two names stood there"},
                                     {"put: EISDIR", "a directory stood there"},
                                     {"put: ENOENT", "its directory was away"},
                                     {"put: EAGAIN", "the helpers of those before had not all ended"},
                                     {"commit: done", "it has the name"},
                                     {"commit: ELOOP", saw_link},
                                     {"commit: EACCES", "a FIFO or a file of two names stood there"},
                                     {"commit: EISDIR", "a directory stood there"},
                                     {"commit: ENOENT", "its directory was away"},
                                     {"discard: done", "one whose commit was refused"},
                                     {"discard: ESTALE", "one whose commit was refused at its end"}};
    const auto before = scene.secrets();
    const Exchanges exchanges(scene);
    Outcomes outcomes;
    std::size_t tried = 0;
    {
        RunningOpener opener(scene.directory(), scene.policy());
        const Disturber disturber(exchanges);
        TestPeer peer(opener.socket());
        const std::string paths[] = {file, scene.at("data/plain/dir/file"),
                                     scene.at("data/plain/parent/file")};
        for (std::size_t round = 0; tried < tries(); ++round)
            tried += put_some(peer, paths[round % std::size(paths)], outcomes);
    }
    exchanges.restore();
    std::string told;
    for (const auto& [outcome, count] : outcomes) {
        CAPTURE(outcome);
        CHECK(permissible.contains(outcome));
        told += "  " + outcome + ": " + std::to_string(count);
    }
    MESSAGE(tried, " puts:", told);
    CHECK(scene.secrets() == before);
    for (const char* directory : {"data/plain", "data/plain/dir", "data/plain/parent", "secret"})
        for (const auto& entry : std::filesystem::directory_iterator(scene.at(directory)))
            CHECK_FALSE(entry.path().filename().string().starts_with(".fdbroker-"));
}

}  // namespace

TEST_CASE("attack: a put file gets the requested name or none, whatever takes that meanwhile") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    run_in_mount_namespace(
        [] {
            // Where no disk is waited for, there is time for more tries.
            REQUIRE(::mount("tmpfs", "/run", "tmpfs", 0, nullptr) == 0);
            attack();
        },
        std::chrono::steady_clock::now() + 14 * patience);
}
