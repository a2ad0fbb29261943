// Names that change what they lead to while the opener works on them. Each attack has a naive opener beside it that
// looks first and opens then: it must be fooled, or the attack would prove nothing.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "proto/payload.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/deadline.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;

namespace {

constexpr std::size_t per_message = 64;

std::size_t tries() {
    const char* const wished = std::getenv("FDBROKER_ATTACK_TRIES");
    return wished == nullptr ? 20'000 : std::strtoul(wished, nullptr, 10);
}

// Does something to the filesystem over and over in a thread of its own.
class Disturber {
  public:
    explicit Disturber(std::function<void()> round)
        : thread_([this, round = std::move(round)](const std::stop_token& stop) {
              while (!stop.stop_requested()) {
                  round();
                  ++rounds_;
              }
          }) {
        while (rounds_ == 0) std::this_thread::yield();
    }
    std::uint64_t rounds() const { return rounds_; }

  private:
    std::atomic<std::uint64_t> rounds_{0};
    std::jthread thread_;
};

// There and back, so that a round leaves things as they were.
std::function<void()> exchanging(const std::string& one, const std::string& other) {
    return [one, other] {
        for (unsigned time = 0; time < 2; ++time)
            ::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE);
    };
}
std::function<void()> moving_away(const std::string& here, const std::string& there) {
    return [here, there] {
        ::rename(here.c_str(), there.c_str());
        ::rename(there.c_str(), here.c_str());
    };
}
std::function<void()> mounting_over(const std::string& what, const std::string& where) {
    return [what, where] {
        ::mount(what.c_str(), where.c_str(), nullptr, MS_BIND, nullptr);
        ::umount2(where.c_str(), MNT_DETACH);
    };
}

// What every name beyond the rules must still be after an attack.
struct Kept {
    std::string content;
    mode_t mode;
    nlink_t links;
    std::int64_t modified;
    bool operator==(const Kept&) const = default;
};

class Scene {
  public:
    Scene() {
        for (const char* name :
             {"data", "data/plain", "data/plain/dir", "data/plain/parent", "data/follow", "secret"})
            make_directory(directory_ / name, {.mode = 0755});
        for (const char* name :
             {"data/plain/file", "data/plain/dir/file", "data/plain/parent/file", "data/follow/file"})
            write_file(directory_ / name, "public");
        write_file(directory_ / "secret/file", "secret", {.mode = 0600});
        std::filesystem::create_symlink(at("secret/file"), at("data/plain/link"));
        std::filesystem::create_symlink(at("secret"), at("data/plain/dirlink"));
        std::filesystem::create_symlink("file", at("data/follow/good"));
        std::filesystem::create_symlink(at("secret/file"), at("data/follow/bad"));
        if (::mkfifo(at("data/plain/fifo").c_str(), 0600) != 0) throw std::runtime_error("mkfifo");
    }
    std::string at(std::string_view name) const { return (directory_ / name).string(); }
    const TempDir& directory() const { return directory_; }
    std::string policy() const {
        std::string text = R"(version: 1
rules:
  - name: plain
    allow: [read, append, manage, stat, list, readlink, symlink, setattr, xattr]
    paths: ["DATA/plain/**"]
    files: {types: [regular, directory], max_links: 1}
  - {name: followed, allow: [read, stat], paths: ["DATA/follow/**"], symlinks: follow}
audit: {refused: false, allowed: false}
)";
        for (std::size_t place; (place = text.find("DATA")) != std::string::npos;)
            text.replace(place, 4, at("data"));
        return text;
    }
    void link_secret() { std::filesystem::create_hard_link(at("secret/file"), at("data/plain/hard")); }

    std::map<std::string, Kept> secrets() const {
        std::map<std::string, Kept> kept;
        for (const auto& entry : std::filesystem::directory_iterator(at("secret"))) {
            struct stat status{};
            if (::lstat(entry.path().c_str(), &status) != 0) continue;
            kept[entry.path().filename()] = {S_ISREG(status.st_mode) ? read_file(entry.path()) : "",
                                             status.st_mode, status.st_nlink, status.st_mtim.tv_nsec};
        }
        return kept;
    }

  private:
    TempDir directory_{TempDir::Place::var_tmp};
};

// An outcome in words, which the table of an attack must have.
std::string outcome_of(const TestPeer::Answer& answer) {
    if (answer.status != 0) return ::strerrorname_np(answer.status);
    if (!answer.fd) return "done";
    struct stat status{};
    if (::fstat(answer.fd.number(), &status) != 0 || !S_ISREG(status.st_mode)) return "not a file";
    if ((::fcntl(answer.fd.number(), F_GETFL) & O_ACCMODE) == O_WRONLY) return "a file to write";
    const std::string content = answer.content();
    return content.empty() ? "an empty file" : content;
}

// Outcome → why it may be. Whatever is not among these fails the test.
using Permissible = std::map<std::string, std::string>;

class Attack {
  public:
    explicit Attack(Scene& scene)
        : scene_(scene), before_(scene.secrets()), opener_(scene.directory(), scene.policy()) {}

    // `requests` are asked for one after the other, again and again.
    void run(const std::string& name, const std::function<void()>& round,
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
    // After the last disturber has ended.
    void check_secrets() const { CHECK(scene_.secrets() == before_); }

  private:
    Scene& scene_;
    std::map<std::string, Kept> before_;
    RunningOpener opener_;
};

// Looks, then opens: what is delivered when the look was content, else nothing.
std::optional<std::string> naive(const std::string& path,
                                 const std::function<bool(const std::string&)>& look) {
    if (!look(path)) return std::nullopt;
    const proto::UniqueFd file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    struct stat status{};
    if (!file || ::fstat(file.number(), &status) != 0) return std::nullopt;
    if (!S_ISREG(status.st_mode)) return "not a file";
    std::string text(16, '\0');
    const ssize_t size = ::pread(file.number(), text.data(), text.size(), 0);
    text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return text;
}

bool leads_into(const std::string& path, const std::string& directory) {
    std::error_code ignored;
    return std::filesystem::canonical(path, ignored).string().starts_with(directory + "/");
}
bool is_plain(const std::string& path) {
    struct stat status{};
    return ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1;
}

// Fails when the naive opener gets nothing but what it should, for as long as a test may take.
void must_be_fooled(const std::string& name, const std::function<void()>& round, const std::string& path,
                    const std::function<bool(const std::string&)>& look) {
    CAPTURE(name);
    const Disturber disturber(round);
    const Deadline deadline = in_good_time();
    for (std::size_t tried = 1; milliseconds_until(deadline) > 0; ++tried) {
        const auto got = naive(path, look);
        if (!got || *got == "public") continue;
        MESSAGE(name, ": the naive opener delivered \"", *got, "\" at try ", tried);
        return;
    }
    FAIL_CHECK("the naive opener was never fooled");
}

const std::string is_asked_for = "the file that was asked for";
const std::string saw_link = "a link stood there";

}  // namespace

TEST_CASE("attack: the naive opener is fooled by every exchange") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    Scene scene;
    scene.link_secret();
    const std::string file = scene.at("data/plain/file");
    const auto inside = [&](const std::string& path) { return leads_into(path, scene.at("data")); };
    must_be_fooled("link for file", exchanging(file, scene.at("data/plain/link")), file, inside);
    must_be_fooled("directory for link to directory",
                   exchanging(scene.at("data/plain/dir"), scene.at("data/plain/dirlink")),
                   scene.at("data/plain/dir/file"), inside);
    must_be_fooled("file for FIFO", exchanging(file, scene.at("data/plain/fifo")), file, is_plain);
    must_be_fooled("file for hard link", exchanging(file, scene.at("data/plain/hard")), file, is_plain);
    must_be_fooled("followed link", exchanging(scene.at("data/follow/good"), scene.at("data/follow/bad")),
                   scene.at("data/follow/good"), inside);
}

TEST_CASE("attack: opening gets the file that was asked for or nothing, whatever takes its name") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    Scene scene;
    scene.link_secret();
    const DescriptorTable before = DescriptorTable::now();
    {
        Attack attack(scene);
        const std::string file = scene.at("data/plain/file");
        const auto open = [](const std::string& path, std::uint32_t flags = 0) {
            return proto::Request{.call = Call::open, .flags = flags, .path = path};
        };
        const std::string deep = scene.at("data/plain/dir/file");
        const std::string moved = scene.at("data/plain/parent/file");
        const std::string followed = scene.at("data/follow/good");
        const std::string created = scene.at("data/plain/dir/new");
        for (const std::uint32_t flags : {std::uint32_t{O_RDONLY}, std::uint32_t{O_RDWR}}) {
            const std::string how = flags == O_RDONLY ? " (read)" : " (write)";
            attack.run("link for file" + how, exchanging(file, scene.at("data/plain/link")),
                       {open(file, flags)}, {{"public", is_asked_for}, {"ELOOP", saw_link}});
            attack.run("directory for link" + how,
                       exchanging(scene.at("data/plain/dir"), scene.at("data/plain/dirlink")),
                       {open(deep, flags)}, {{"public", is_asked_for}, {"ELOOP", saw_link}});
            attack.run("file for FIFO" + how, exchanging(file, scene.at("data/plain/fifo")),
                       {open(file, flags)}, {{"public", is_asked_for}, {"EACCES", "a FIFO stood there"}});
            attack.run("file for hard link" + how, exchanging(file, scene.at("data/plain/hard")),
                       {open(file, flags)},
                       {{"public", is_asked_for}, {"EACCES", "a file of two names stood there"}});
            attack.run("parent moved away" + how,
                       moving_away(scene.at("data/plain/parent"), scene.at("secret/parent")),
                       {open(moved, flags)},
                       {{"public", is_asked_for}, {"ENOENT", "its directory was away"}});
        }
        attack.run("followed link", exchanging(followed, scene.at("data/follow/bad")), {open(followed)},
                   {{"public", is_asked_for},
                    {"EACCES", "the link led to what no rule allows"},
                    {"ELOOP", "the link was another when it was read"}});
        attack.run("link for file (truncate)", exchanging(file, scene.at("data/plain/link")),
                   {open(file, O_WRONLY | O_TRUNC)},
                   {{"a file to write", is_asked_for}, {"ELOOP", saw_link}});
        attack.run("file for hard link (truncate)", exchanging(file, scene.at("data/plain/hard")),
                   {open(file, O_WRONLY | O_TRUNC)},
                   {{"a file to write", is_asked_for}, {"EACCES", "a file of two names stood there"}});
        attack.run("directory for link (create)",
                   exchanging(scene.at("data/plain/dir"), scene.at("data/plain/dirlink")),
                   {open(created, O_WRONLY | O_CREAT | O_EXCL), {.call = Call::remove, .path = created}},
                   {{"a file to write", "a file in the directory"},
                    {"done", "the file was removed"},
                    {"EEXIST", "an earlier try made it"},
                    {"ENOENT", "an earlier try took it"},
                    {"ELOOP", saw_link}});
        attack.check_secrets();
    }
    CHECK(DescriptorTable::now() == before);
}

TEST_CASE("attack: what looks and what changes reaches nothing beyond the rules") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    Scene scene;
    scene.link_secret();
    Attack attack(scene);
    const std::string file = scene.at("data/plain/file");
    const auto links_file = exchanging(file, scene.at("data/plain/link"));
    const auto links_directory = exchanging(scene.at("data/plain/dir"), scene.at("data/plain/dirlink"));
    const auto in_directory = [&](const char* name) { return scene.at("data/plain/dir/") + name; };
    const std::string target("anywhere\0", 9);
    const std::string other = in_directory("other");
    const std::string other_text = other + '\0';
    const std::string name = in_directory("name");
    const std::string link = in_directory("link");
    const std::string inner = in_directory("file");
    const std::string inner_text = inner + '\0';
    const std::string directory = scene.at("data/plain/dir");
    const auto beginning = proto::number_payload(0);
    const Permissible named = {{"done", "in the directory that was asked for"},
                               {"EEXIST", "an earlier try made it"},
                               {"ENOENT", "an earlier try took it"},
                               {"ELOOP", saw_link}};
    attack.run("stat, link for file", links_file, {{.call = Call::stat, .path = file}},
               {{"done", is_asked_for}, {"ELOOP", saw_link}});
    attack.run("list, directory for link", links_directory,
               {{.call = Call::list, .path = directory, .payload = {beginning.data(), beginning.size()}}},
               {{"done", "the directory that was asked for"}, {"ELOOP", saw_link}});
    attack.run("setattr, link for file", links_file,
               {{.call = Call::setattr, .flags = 1, .mode = 0644, .path = file}},
               {{"done", is_asked_for}, {"ELOOP", saw_link}});
    attack.run("setattr, file for hard link", exchanging(file, scene.at("data/plain/hard")),
               {{.call = Call::setattr, .flags = 1, .mode = 0644, .path = file}},
               {{"done", is_asked_for}, {"EACCES", "a file of two names stood there"}});
    const proto::Request removal{.call = Call::remove, .flags = AT_REMOVEDIR, .path = name};
    attack.run("mkdir and remove, directory for link", links_directory,
               {{.call = Call::mkdir, .path = name}, removal}, named);
    attack.run(
        "symlink and remove, directory for link", links_directory,
        {{.call = Call::symlink, .path = link, .payload = target}, {.call = Call::remove, .path = link}},
        named);
    attack.run("rename and back, directory for link", links_directory,
               {{.call = Call::rename, .path = inner, .payload = other_text},
                {.call = Call::rename, .path = other, .payload = inner_text}},
               named);
    attack.check_secrets();
}

TEST_CASE("attack: a bind mount that comes and goes changes nothing that the opener sees") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    run_in_mount_namespace(
        [] {
            Scene scene;
            const std::string mounted = scene.at("data/plain/dir/file");
            must_be_fooled("bind mount", mounting_over(scene.at("secret"), scene.at("data/plain/dir")),
                           mounted, [&](const std::string& path) {
                               struct stat status{};
                               return ::stat(path.c_str(), &status) == 0 && status.st_size == 6 &&
                                      naive(path, is_plain) == "public";
                           });
            Attack attack(scene);
            attack.run("bind mount", mounting_over(scene.at("secret"), scene.at("data/plain/dir")),
                       {{.call = Call::open, .path = mounted}}, {{"public", is_asked_for}});
            attack.check_secrets();
        },
        std::chrono::steady_clock::now() + 10 * patience);
}
