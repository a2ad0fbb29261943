// put, commit and discard through a real opener: a file is replaced whole or not at all, whoever dies.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "opener/helpers/helper_limits.hpp"
#include "proto/payload.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/deadline.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/support/verdict.hpp"
#include "tests/support/wait.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;
using proto::Step;
using proto::UniqueFd;

namespace {

// A directory that only root may enter, and a file of root's in it.
class Fixture {
  public:
    Fixture() {
        for (const char* name : {"", "put", "owned", "small", "written", "follow"})
            make_directory(at(name), {.mode = 0700});
        write_file(at("put/file"), "old", {.mode = 0600, .uid = 0, .gid = 0});
    }
    std::string at(std::string_view name) const { return (data_ / name).string(); }
    std::string content(std::string_view name) const { return read_file(at(name)); }
    struct stat status(std::string_view name) const {
        struct stat status{};
        CHECK(::lstat(at(name).c_str(), &status) == 0);
        return status;
    }
    // What has a name in the directory.
    std::size_t names(std::string_view directory) const {
        const std::filesystem::directory_iterator entries(at(directory));
        return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
    }

    std::string policy() const {
        std::string text = R"(version: 1
rules:
  - {name: put, allow: [modify, read, stat], paths: ["DATA/put/**"], create: {parents: true}}
  - name: owned
    allow: [modify]
    paths: ["DATA/owned/**"]
    create: {mode: "0604", owner: "30011", group: "30012"}
  - {name: small, allow: [modify], paths: ["DATA/small/**"], files: {max_size: 8}}
  - {name: written, allow: [write, truncate], paths: ["DATA/written/**"]}
  - {name: follow, allow: [modify], paths: ["DATA/follow/**"], symlinks: follow}
)";
        for (std::size_t place; (place = text.find("DATA")) != std::string::npos;)
            text.replace(place, 4, data_.string());
        return text;
    }
    const TempDir& directory() const { return directory_; }

  private:
    TempDir directory_{TempDir::Place::var_tmp};
    std::filesystem::path data_ = directory_ / "data";
};

// What a put answers: a descriptor to fill, and its number.
struct Begun {
    TestPeer::Answer answer;
    std::uint64_t number = 0;

    bool write(std::string_view text) const {
        return ::write(answer.fd.number(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    }
};

Begun begin_put(TestPeer& peer, const std::string& path) {
    Begun begun{.answer = peer.call({.call = Call::put, .mode = 0666, .path = path})};
    begun.number = proto::read_number(begun.answer.payload).value_or(0);
    return begun;
}

TestPeer::Answer ask_about(TestPeer& peer, Call call, const std::string& path, std::uint64_t number,
                           std::uint32_t flags = 0) {
    const auto payload = proto::number_payload(number);
    return peer.call(
        {.call = call, .flags = flags, .path = path, .payload = {payload.data(), payload.size()}});
}
TestPeer::Answer commit(TestPeer& peer, const std::string& path, std::uint64_t number,
                        std::uint32_t flags = 0) {
    return ask_about(peer, Call::commit, path, number, flags);
}
TestPeer::Answer discard(TestPeer& peer, const std::string& path, std::uint64_t number) {
    return ask_about(peer, Call::discard, path, number);
}

// All of it; the status of the first that is refused.
int replace(TestPeer& peer, const std::string& path, std::string_view content, std::uint32_t flags = 0) {
    Begun begun = begin_put(peer, path);
    if (begun.answer.status != 0) return begun.answer.status;
    CHECK(begun.write(content));
    begun.answer.fd.reset();
    return commit(peer, path, begun.number, flags).status;
}

// A put that has been filled, its descriptor closed; its number.
std::uint64_t filled(TestPeer& peer, const std::string& path, std::string_view content) {
    const Begun begun = begin_put(peer, path);
    REQUIRE(begun.answer.status == 0);
    CHECK(begun.write(content));
    return begun.number;
}

// An opener over a Fixture and a peer of an ordinary user.
template <typename Body>
void with_peer(const Fixture& fixture, Body body) {
    RunningOpener opener(fixture.directory(), fixture.policy());
    run_as(some_user, [&] {
        TestPeer peer(opener.socket());
        body(peer);
    });
    CHECK(opener.stop() == 0);
}

}  // namespace

TEST_CASE("put: a file has its old content until the commit, and then all of the new one") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    const DescriptorTable before = DescriptorTable::now();
    {
        TestPeer peer(opener.socket());
        const UniqueFd old(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        Begun begun = begin_put(peer, path);
        REQUIRE(begun.answer.status == 0);
        CHECK((::fcntl(begun.answer.fd.number(), F_GETFL) & O_ACCMODE) == O_WRONLY);
        CHECK(begun.write("new content"));
        CHECK(fixture.content("put/file") == "old");
        CHECK(fixture.names("put") == 1);
        begun.answer.fd.reset();
        CHECK(commit(peer, path, begun.number).status == 0);
        CHECK(fixture.content("put/file") == "new content");
        CHECK(fixture.names("put") == 1);
        // Who has the old one open goes on reading it.
        char byte = 0;
        CHECK(::pread(old.number(), &byte, 1, 0) == 1);
        CHECK(byte == 'o');
        // Once is all.
        CHECK(commit(peer, path, begun.number).status == ESTALE);
    }
    CHECK(DescriptorTable::now() == before);
    CHECK(opener.stop() == 0);
}

TEST_CASE(
    "put: the new file has the owner and the mode of the rule's create, and until the commit only the "
    "opener") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    write_file(fixture.at("owned/file"), "old", {.mode = 0600, .uid = 0, .gid = 0});
    with_peer(fixture, [&](TestPeer& peer) {
        const Begun begun = begin_put(peer, fixture.at("put/file"));
        REQUIRE(begun.answer.status == 0);
        const std::string again = "/proc/self/fd/" + std::to_string(begun.answer.fd.number());
        for (const int access : {O_RDONLY, O_WRONLY, O_RDWR}) {
            CHECK_FALSE(UniqueFd(::open(again.c_str(), access | O_CLOEXEC)));
            CHECK(errno == EACCES);
        }
        CHECK(::fchmod(begun.answer.fd.number(), 06777) != 0);
        CHECK(replace(peer, fixture.at("put/file"), "new") == 0);
        CHECK(replace(peer, fixture.at("put/made"), "new") == 0);
        CHECK(replace(peer, fixture.at("owned/file"), "new") == 0);
    });
    for (const char* name : {"put/file", "put/made"}) {
        CHECK(fixture.status(name).st_uid == some_user);
        CHECK(fixture.status(name).st_mode == (S_IFREG | 0640));
        CHECK(fixture.content(name) == "new");
    }
    CHECK(fixture.status("owned/file").st_uid == 30011);
    CHECK(fixture.status("owned/file").st_gid == 30012);
    CHECK(fixture.status("owned/file").st_mode == (S_IFREG | 0604));
}

TEST_CASE(
    "put: a commit that must not replace leaves what is there, and the put may be committed all the same") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const std::string path = fixture.at("put/file");
    const std::uint64_t number = filled(peer, path, "new");
    CHECK(commit(peer, path, number, RENAME_NOREPLACE).status == EEXIST);
    CHECK(fixture.content("put/file") == "old");
    CHECK(commit(peer, path, number).status == 0);
    CHECK(fixture.content("put/file") == "new");
    CHECK(replace(peer, fixture.at("put/made"), "made", RENAME_NOREPLACE) == 0);
    CHECK(commit(peer, path, number, RENAME_EXCHANGE).step == Step::parse);
    CHECK(fixture.content("put/made") == "made");
}

TEST_CASE("put: what has come or gone since is judged when it is committed") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const std::string path = fixture.at("put/file");
    const std::string made = fixture.at("put/made");
    const std::uint64_t vanished = filled(peer, path, "new");
    const std::uint64_t appeared = filled(peer, made, "made");
    std::filesystem::remove(path);
    CHECK(commit(peer, path, vanished).status == 0);
    CHECK(fixture.content("put/file") == "new");
    std::filesystem::create_symlink(path, made);
    CHECK(commit(peer, made, appeared).status == ELOOP);
    std::filesystem::remove(made);
    std::filesystem::create_hard_link(path, made);
    CHECK(commit(peer, made, appeared).status == EACCES);
    std::filesystem::remove(made);
    REQUIRE(::mkfifo(made.c_str(), 0600) == 0);
    CHECK(commit(peer, made, appeared).status == EACCES);
    std::filesystem::remove(made);
    make_directory(made);
    CHECK(commit(peer, made, appeared).status == EISDIR);
    std::filesystem::remove(made);
    CHECK(fixture.content("put/file") == "new");
    CHECK(commit(peer, made, appeared).status == 0);
    CHECK(fixture.content("put/made") == "made");
    CHECK(fixture.names("put") == 2);
}

TEST_CASE("put: as long as somebody can write to it, it cannot be committed, and afterwards it can") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    const auto never_before = [&](TestPeer& peer, std::uint64_t number) {
        for (unsigned time = 0; time < 2; ++time) {
            const auto busy = commit(peer, path, number);
            CHECK(busy.status == EBUSY);
            CHECK(busy.step == Step::deliver);
            CHECK(fixture.names("put") == 1);
        }
    };
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());

    SUBCASE("a duplicate of the descriptor") {
        Begun begun = begin_put(peer, path);
        UniqueFd duplicate(::fcntl(begun.answer.fd.number(), F_DUPFD_CLOEXEC, 0));
        CHECK(begun.write("new"));
        begun.answer.fd.reset();
        never_before(peer, begun.number);
        CHECK(::write(duplicate.number(), "er", 2) == 2);
        duplicate.reset();
        CHECK(commit(peer, path, begun.number).status == 0);
        CHECK(fixture.content("put/file") == "newer");
        CHECK(commit(peer, path, begun.number).status == ESTALE);
    }
    SUBCASE("a child that has inherited it") {
        Begun begun = begin_put(peer, path);
        CHECK(begun.write("new"));
        Process child = Process::start(
            {.arguments = {"sleep", "infinity"}, .descriptors = {{3, begun.answer.fd.borrow()}}});
        begun.answer.fd.reset();
        never_before(peer, begun.number);
        child.signal(SIGKILL);
        child.wait();
        CHECK(commit(peer, path, begun.number).status == 0);
        CHECK(fixture.content("put/file") == "new");
    }
    SUBCASE("a mapping") {
        Begun begun = begin_put(peer, path);
        CHECK(begun.write("new"));
        const std::string again = "/proc/self/fd/" + std::to_string(begun.answer.fd.number());
        UniqueFd both(::open(again.c_str(), O_RDWR | O_CLOEXEC));
        REQUIRE(both);
        void* const mapping = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, both.number(), 0);
        REQUIRE(mapping != MAP_FAILED);
        both.reset();
        begun.answer.fd.reset();
        never_before(peer, begun.number);
        std::memcpy(mapping, "map", 3);
        ::munmap(mapping, 4096);
        CHECK(commit(peer, path, begun.number).status == 0);
        CHECK(fixture.content("put/file") == "map");
    }
    SUBCASE("a descriptor that is still on its way") {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
        const UniqueFd sender(ends[0]);
        UniqueFd receiver(ends[1]);
        Begun begun = begin_put(peer, path);
        CHECK(begun.write("new"));
        const proto::BorrowedFd file = begun.answer.fd.borrow();
        const std::byte message{1};
        REQUIRE(
            proto::send(sender.borrow(), std::span(&message, 1), std::span(&file, 1), proto::Wait::block));
        begun.answer.fd.reset();
        never_before(peer, begun.number);
        receiver.reset();
        CHECK(commit(peer, path, begun.number).status == 0);
        CHECK(fixture.content("put/file") == "new");
    }
    CHECK(fixture.names("put") == 1);
}

TEST_CASE("put: only what the rules let the peer write, create and truncate is replaced") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    std::filesystem::create_symlink(fixture.at("put/file"), fixture.at("put/link"));
    write_file(fixture.at("put/linked"), "old");
    std::filesystem::create_hard_link(fixture.at("put/linked"), fixture.at("put/other"));
    REQUIRE(::mkfifo(fixture.at("put/fifo").c_str(), 0600) == 0);
    make_directory(fixture.at("put/directory"));
    write_file(fixture.at("small/large"), "more than eight");
    write_file(fixture.at("written/file"), "old");
    const std::size_t names = fixture.names("put");
    with_peer(fixture, [&](TestPeer& peer) {
        const auto refused = [&](const char* name) { return begin_put(peer, fixture.at(name)).answer; };
        const auto link = refused("put/link");
        CHECK(link.status == ELOOP);
        CHECK(link.reason.find("put/link\" is a symbolic link") != std::string::npos);
        CHECK(refused("put/linked").status == EACCES);
        CHECK(refused("put/fifo").status == EACCES);
        CHECK(refused("put/directory").status == EISDIR);
        CHECK(refused("put").status == EACCES);
        CHECK(refused("small/large").status == EFBIG);
        CHECK(refused("written/file").step == Step::decide);
        CHECK(refused("owned/no/file").status == ENOENT);
        CHECK(refused("elsewhere").step == Step::decide);
        CHECK(peer.call({.call = Call::put, .flags = O_EXCL, .path = fixture.at("put/file")}).step ==
              Step::parse);
        CHECK(begin_put(peer, fixture.at("put/a/b/file")).answer.status == 0);
        const auto together = peer.call_together({{.call = Call::put, .path = fixture.at("put/file")}});
        CHECK(together.at(0).status == EINVAL);
    });
    CHECK(fixture.names("put") == names + 1);
    CHECK(fixture.names("put/a/b") == 0);
}

TEST_CASE("put: a file that has become larger than the rule's max_size is not committed") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    with_peer(fixture, [&](TestPeer& peer) {
        CHECK(replace(peer, fixture.at("small/file"), "nine byte") == EFBIG);
        CHECK(replace(peer, fixture.at("small/file"), "eight by") == 0);
    });
    CHECK(fixture.content("small/file") == "eight by");
    CHECK(fixture.names("small") == 1);
}

TEST_CASE(
    "put: where links are followed, the file that one leads to is replaced, and the record says which") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    write_file(fixture.at("follow/file"), "old");
    std::filesystem::create_symlink("file", fixture.at("follow/link"));
    std::filesystem::create_symlink(fixture.at("written/file"), fixture.at("follow/out"));
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    CHECK(replace(peer, fixture.at("follow/link"), "new") == 0);
    CHECK(fixture.content("follow/file") == "new");
    CHECK(std::filesystem::is_symlink(fixture.at("follow/link")));
    CHECK(begin_put(peer, fixture.at("follow/out")).answer.step == Step::decide);
    const auto records = opener.wait_for_event("request", 3);
    std::size_t led = 0;
    for (const auto& record : records)
        led += record.value("final_path", "") == fixture.at("follow/file") &&
               record.value("rule", "") == "follow";
    CHECK(led == 2);
}

TEST_CASE("put: nothing is left of one that is discarded, or whose session ends") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const std::uint64_t number = filled(peer, path, "new");
    CHECK(discard(peer, path, number).status == 0);
    CHECK(discard(peer, path, number).status == ESTALE);
    CHECK(commit(peer, path, number).status == ESTALE);
    // As many as may be, again and again: each session gives its own back.
    for (unsigned time = 0; time < 3; ++time) {
        TestPeer other(opener.socket());
        std::size_t begun = 0;
        const Deadline deadline = in_good_time();
        // The helpers of the session before may take a moment to end.
        while (begun < opener::most_lasting_helpers_of_user && milliseconds_until(deadline) > 0)
            begun += begin_put(other, path).answer.status == 0 ? 1U : 0U;
        CHECK(begun == opener::most_lasting_helpers_of_user);
        CHECK(begin_put(other, path).answer.status == EAGAIN);
    }
    CHECK(fixture.content("put/file") == "old");
    CHECK(fixture.names("put") == 1);
}

TEST_CASE("put: its number is of use to the session that made it alone, and for its path alone") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket()), other(opener.socket());
    const std::uint64_t number = filled(peer, path, "new");
    for (const Call call : {Call::commit, Call::discard}) {
        CHECK(ask_about(other, call, path, number).status == ESTALE);
        CHECK(ask_about(peer, call, fixture.at("put/made"), number).status == ESTALE);
        CHECK(ask_about(peer, call, path, number + 1).status == ESTALE);
        CHECK(ask_about(peer, call, path, 0).status == ESTALE);
        CHECK(ask_about(peer, call, fixture.at("elsewhere"), number).step == Step::decide);
    }
    CHECK(fixture.content("put/file") == "old");
    CHECK(commit(peer, path, number).status == 0);
    CHECK(fixture.content("put/file") == "new");
}

TEST_CASE("put: a worker that is killed before the commit leaves the old file and no other name") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    CHECK_THROWS(run_as(some_user, [&] {
        TestPeer peer(opener.socket());
        filled(peer, path, "new");
        ::kill(::getpid(), SIGKILL);
    }));
    opener.wait_for_event("session-end");
    CHECK(fixture.content("put/file") == "old");
    CHECK(fixture.names("put") == 1);
}

TEST_CASE(
    "put: a broker that is killed takes unfinished ones along, and the next one knows nothing of them") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const std::uint64_t number = filled(peer, path, "new");
    ::kill(opener.broker(), SIGKILL);
    opener.wait_for_event("start", 2);
    CHECK(commit(peer, path, number).status == ESTALE);
    CHECK(fixture.content("put/file") == "old");
    CHECK(fixture.names("put") == 1);
    CHECK(replace(peer, path, "new") == 0);
    CHECK(fixture.content("put/file") == "new");
}

TEST_CASE("put: another policy knows nothing of what was begun under the one before") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const std::uint64_t number = filled(peer, path, "new");
    const UniqueFd before = end_of(opener.broker());
    opener.process().signal(SIGHUP);
    // Nor does its broker live on for what nobody can commit.
    wait_readable(before.borrow());
    CHECK(commit(peer, path, number).status == ESTALE);
    CHECK(fixture.content("put/file") == "old");
    CHECK(replace(peer, path, "new") == 0);
    CHECK(opener.count_events("transfer-failed") == 0);
}

TEST_CASE("put: an opener that is not root's replaces that user's files") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root, to become somebody else");
    const TempDir directory(TempDir::Place::var_tmp);
    REQUIRE(::chown(directory.path().c_str(), some_user, some_user) == 0);
    write_file(directory / "mine", "old", {.mode = 0600, .uid = some_user, .gid = some_user});
    run_as(some_user, [&] {
        RunningOpener opener(directory, "version: 1\nrules:\n  - {name: all, allow: [modify], paths: [\"" +
                                            directory.path().string() + "/**\"]}\n");
        TestPeer peer(opener.socket());
        const int status = replace(peer, directory / "mine", "new");
        // linkat(2): before Linux 6.10 it takes CAP_DAC_READ_SEARCH to give an unnamed file its name.
        CHECK((status == 0 || (status == EOPNOTSUPP && !kernel_is_at_least(6, 10))));
        CHECK(read_file(directory / "mine") == (status == 0 ? "new" : "old"));
        CHECK(opener.stop() == 0);
    });
}

TEST_CASE("put: it, its commit and its discard are on record, each once and told apart") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    const std::string path = fixture.at("put/file");
    RunningOpener opener(fixture.directory(), fixture.policy());
    TestPeer peer(opener.socket());
    const Begun begun = begin_put(peer, path);
    const auto busy = commit(peer, path, begun.number);
    CHECK(busy.status == EBUSY);
    const auto discarded = discard(peer, path, begun.number);
    CHECK(discarded.status == 0);
    const auto records = opener.wait_for_event("request", 3);
    std::vector<nlohmann::json> decisions;
    for (const auto& record : records)
        if (record["event"] == "request") decisions.push_back(record);
    REQUIRE(decisions.size() == 3);
    for (const auto& decision : decisions) {
        CHECK(decision["path"] == path);
        CHECK(decision["rule"] == "put");
        CHECK(decision["operation"] == nlohmann::json{"write", "create", "truncate"});
    }
    CHECK(decisions[0]["seq"] == begun.answer.record);
    CHECK(decisions[0]["call"] == "put");
    CHECK(decisions[1]["seq"] == busy.record);
    CHECK(decisions[1]["call"] == "commit");
    CHECK(decisions[2]["seq"] == discarded.record);
    CHECK(decisions[2]["call"] == "discard");
}

TEST_CASE("put: worker put replaces a file by its input, makes one, and leaves one alone when told to") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    RunningOpener opener(fixture.directory(), fixture.policy());
    const std::string input(300'000, 'x');
    const auto worker_put = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), {worker_program(), "--socket", opener.socket(), "put"});
        return run({.arguments = std::move(arguments),
                    .identity = Identity{.uid = some_user, .gid = some_user},
                    .input = input});
    };
    CHECK(worker_put({fixture.at("put/file")}).status == 0);
    CHECK(fixture.content("put/file") == input);
    CHECK(worker_put({"--new", fixture.at("put/made")}).status == 0);
    CHECK(fixture.content("put/made") == input);
    write_file(fixture.at("put/made"), "mine");
    const Outcome kept = worker_put({"--new", fixture.at("put/made")});
    CHECK(kept.status == 1);
    CHECK(kept.err.find("it is there already") != std::string::npos);
    CHECK(fixture.content("put/made") == "mine");
    CHECK(worker_put({fixture.at("small/file")}).status == 1);
    CHECK_FALSE(std::filesystem::exists(fixture.at("small/file")));
    CHECK(fixture.names("put") == 2);
    CHECK(fixture.names("small") == 0);
}
