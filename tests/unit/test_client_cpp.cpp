// SPDX-License-Identifier: MIT
// fdbroker.hpp as a program uses it: by the installed headers and the shared library alone, against the library's fake.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fdbroker.hpp>
#include <string>
#include <type_traits>
#include <vector>

#define REQUIRE(condition)                                                       \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            return 1;                                                            \
        }                                                                        \
    } while (0)

namespace {

static_assert(!std::is_copy_constructible_v<fdb::File> && std::is_nothrow_move_constructible_v<fdb::File>);
static_assert(!std::is_copy_constructible_v<fdb::Broker> && std::is_move_constructible_v<fdb::Broker>);
static_assert(!std::is_copy_constructible_v<fdb::Put> && std::is_move_constructible_v<fdb::Put>);

std::string content(const fdb::Result<fdb::File>& file) {
    std::array<char, 100> text;
    if (!file) return "none";
    const ssize_t size = ::pread(file->get(), text.data(), text.size(), 0);
    return {text.data(), static_cast<std::size_t>(size < 0 ? 0 : size)};
}

std::string content_of_pipe(const fdb::File& file) {
    std::array<char, 100> text;
    const ssize_t size = ::read(file.get(), text.data(), text.size());
    return {text.data(), static_cast<std::size_t>(size < 0 ? 0 : size)};
}

int next_descriptor() {
    const int next = ::dup(0);
    ::close(next);
    return next;
}

int open_files(fdb::Broker& broker) {
    fdb::File kept;
    {
        auto file = broker.open("/srv/a", O_RDONLY);
        REQUIRE(content(file) == "hello");
        kept = std::move(*file);
        REQUIRE(!*file);
    }
    REQUIRE(::fcntl(kept.get(), F_GETFD) != -1);
    const int number = kept.get();
    kept.close();
    REQUIRE(::fcntl(number, F_GETFD) == -1);
    const auto absent = broker.open("/srv/absent", O_RDONLY);
    REQUIRE(!absent && absent.error().code == ENOENT);
    REQUIRE(absent.error().message() == "No such file or directory: resolve: No such file or directory");
    const std::vector<fdb::Request> requests{{.path = "/srv/a"}, {.path = "/srv/absent"}};
    const auto each = broker.open_many(requests);
    REQUIRE(each && content((*each)[0]) == "hello" && (*each)[1].error().code == ENOENT);
    const auto whole = broker.open_many(requests, FDBROKER_ALL_OR_NOTHING);
    REQUIRE(whole && (*whole)[0].error().code == ECANCELED && (*whole)[1].error().code == ENOENT);
    return 0;
}

int change_files(fdb::Broker& broker) {
    REQUIRE(broker.mkdir("/srv/d"));
    REQUIRE(broker.symlink("a", "/srv/d/l") && *broker.readlink("/srv/d/l") == "a");
    REQUIRE(broker.rename("/srv/d/l", "/srv/d/m"));
    const auto entries = broker.list("/srv/d");
    REQUIRE(entries && entries->size() == 1 && entries->front().name == "m");
    REQUIRE(!broker.remove("/srv/d", AT_REMOVEDIR));
    REQUIRE(broker.remove("/srv/d/m") && broker.remove("/srv/d", AT_REMOVEDIR));
    REQUIRE(broker.set_mode("/srv/a", 0600) && broker.set_times("/srv/a", {1, 0}, {2, 0}));
    REQUIRE(broker.set_times("/srv/a", {1, 0}, {2, 0}, AT_SYMLINK_NOFOLLOW));
    const auto status = broker.stat("/srv/a");
    REQUIRE(status && status->stx_size == 5 && status->stx_mtime.tv_sec == 2);
    REQUIRE((status->stx_mode & 0777) == 0600);
    return 0;
}

int use_posix_calls(fdb::Broker& broker) {
    REQUIRE(broker.access("/srv/a", R_OK) && broker.access("/srv/x", F_OK).error().code == ENOENT);
    REQUIRE(broker.mkdir("/srv/d") && broker.symlink("../a", "/srv/d/l"));
    REQUIRE(*broker.realpath("/srv//d/l") == "/srv/a" && !broker.realpath("/srv/x"));
    const auto posix = broker.stat_posix("/srv/a");
    REQUIRE(posix && posix->st_size == 5 && S_ISREG(posix->st_mode));
    REQUIRE(S_ISLNK(broker.stat_posix("/srv/d/l", AT_SYMLINK_NOFOLLOW)->st_mode));
    const auto entries = broker.list("/srv/d", FDBROKER_DIR_STATUS);
    REQUIRE(entries && entries->size() == 1 && S_ISLNK(entries->front().status->stx_mode));
    REQUIRE(!broker.list("/srv/d")->front().status && !broker.list("/srv/x"));
    REQUIRE(broker.set_directory("/srv") && content(broker.open("d/../a", O_RDONLY)) == "hello");
    REQUIRE(broker.set_directory("/") && broker.remove("srv/d/l") && broker.remove("srv/d/", AT_REMOVEDIR));
    REQUIRE(*fdb::normalize("/srv", "./d//..") == "/srv" && fdb::normalize({}, "d").error().code == ENOENT);
    const auto stream = broker.fopen("/srv/a", "r");
    REQUIRE(stream && std::fgetc(stream->get()) == 'h');
    const auto absent = broker.fopen("/srv/x", "r");
    REQUIRE(!absent && absent.error().code == ENOENT && !absent.error().reason.empty());
    return 0;
}

int put_files(fdb::Broker& broker) {
    for (const bool commits : {false, true}) {
        auto put = broker.put("/srv/p", 0644);
        REQUIRE(put && ::write(put->get(), "new", 3) == 3);
        if (commits) REQUIRE(put->commit());
    }
    REQUIRE(content(broker.open("/srv/p", O_RDONLY)) == "new");
    {
        auto put = broker.put("/srv/p", 0644);
        REQUIRE(put && ::write(put->get(), "other", 5) == 5);
    }
    REQUIRE(content(broker.open("/srv/p", O_RDONLY)) == "new");
    return 0;
}

int watch_files(fdb::Broker& broker) {
    const auto watch = broker.watch("/srv/w", FDBROKER_WATCH_REPLACED);
    REQUIRE(watch && broker.open("/srv/w", O_WRONLY | O_CREAT, 0600));
    REQUIRE(content_of_pipe(*watch) == std::string(1, FDBROKER_WATCH_REPLACED));
    const auto refused = broker.watch("/srv/w", 0);
    REQUIRE(!refused && refused.error().code == EINVAL);
    const std::vector<fdb::Request> requests{
        {.path = "/srv/w", .flags = FDBROKER_WATCH_CONTENT, .call = FDBROKER_CALL_WATCH}};
    REQUIRE(broker.submit(requests));
    const auto done = broker.complete(std::chrono::seconds(60));
    REQUIRE(done && done->size() == 1 && done->front().result && *done->front().result);
    return 0;
}

int complete_requests(fdb::Broker& broker) {
    const std::vector<fdb::Request> requests{
        {.path = "/srv/a", .tag = 1},
        {.path = "/srv/a", .call = FDBROKER_CALL_STAT, .tag = 2},
        {.path = "/srv/absent", .tag = 3},
    };
    const auto descriptor = broker.descriptor();
    const auto taken = broker.submit(requests);
    REQUIRE(descriptor && taken && *taken == 3);
    std::size_t seen = 0;
    while (seen < requests.size()) {
        pollfd waited{.fd = *descriptor, .events = POLLIN, .revents = 0};
        REQUIRE(::poll(&waited, 1, 60000) == 1);
        const auto done = broker.complete(std::chrono::milliseconds(0));
        REQUIRE(done);
        for (const fdb::Completion& one : *done) {
            ++seen;
            if (one.tag == 1) REQUIRE(content(one.result) == "hello");
            if (one.tag == 2) REQUIRE(one.result && !*one.result && one.data.size() == sizeof(struct statx));
            if (one.tag == 3) REQUIRE(!one.result && one.result.error().code == ENOENT);
        }
    }
    return 0;
}

// C would see what is before the NUL.
int name_other_files(fdb::Broker& broker) {
    const std::string nul("/srv/a\0b", 8);
    const auto is_refused = [](const auto& result) {
        return !result && result.error().code == EINVAL &&
               result.error().reason == "client: a NUL inside a text";
    };
    const std::vector<fdb::Request> first{{.path = nul}};
    const std::vector<fdb::Request> second{{.path = "/a", .call = FDBROKER_CALL_RENAME, .second = nul}};
    REQUIRE(is_refused(broker.open(nul, O_RDONLY)) && is_refused(broker.open_many(first)));
    REQUIRE(is_refused(broker.submit(first)) && is_refused(broker.submit(second)));
    REQUIRE(is_refused(broker.stat(nul)) && is_refused(broker.list(nul)) && is_refused(broker.readlink(nul)));
    REQUIRE(is_refused(broker.mkdir(nul)) && is_refused(broker.remove(nul)) && is_refused(broker.put(nul)));
    REQUIRE(is_refused(broker.rename("/srv/a", nul)) && is_refused(broker.rename(nul, "/srv/b")));
    REQUIRE(is_refused(broker.symlink(nul, "/srv/b")) && is_refused(broker.set_mode(nul, 0600)));
    REQUIRE(is_refused(broker.getxattr("/srv/a", nul)) && is_refused(broker.listxattr(nul)));
    REQUIRE(is_refused(broker.setxattr("/srv/a", nul, "")) && is_refused(broker.removexattr("/srv/a", nul)));
    REQUIRE(is_refused(fdb::Broker::connect(nul)));
    REQUIRE(is_refused(broker.access(nul, 0)) && is_refused(broker.realpath(nul)));
    REQUIRE(is_refused(broker.stat_posix(nul)) && is_refused(broker.set_directory(nul)));
    REQUIRE(is_refused(broker.fopen(nul, "r")) && is_refused(fdb::normalize("/", nul)));
    return 0;
}

// As an int of milliseconds they would be 0, or negative.
int wait_for_long(fdb::Broker& broker) {
    for (const auto time : {std::chrono::milliseconds(1LL << 32), std::chrono::milliseconds::max()}) {
        broker.set_timeout(time);
        REQUIRE(content(broker.open("/srv/a", O_RDONLY)) == "hello");
        const std::vector<fdb::Request> requests{{.path = "/srv/a", .timeout = time}};
        REQUIRE(broker.submit(requests));
        const auto done = broker.complete(time);
        REQUIRE(done && done->size() == 1 && content(done->front().result) == "hello");
    }
    return 0;
}

}  // namespace

int main() {
    const auto nobody = fdb::Broker::connect("/nonexistent/socket");
    REQUIRE(!nobody && nobody.error().code == ENOENT);
    const int before = next_descriptor();
    {
        auto fake = fdb::Fake::make();
        REQUIRE(fake && fake->file("/srv/a", "hello"));
        auto broker = fake->connect();
        REQUIRE(broker);
        broker->set_timeout(std::chrono::seconds(60));
        REQUIRE(open_files(*broker) == 0);
        REQUIRE(use_posix_calls(*broker) == 0);
        REQUIRE(change_files(*broker) == 0);
        REQUIRE(put_files(*broker) == 0);
        REQUIRE(watch_files(*broker) == 0);
        REQUIRE(complete_requests(*broker) == 0);
        REQUIRE(name_other_files(*broker) == 0);
        REQUIRE(wait_for_long(*broker) == 0);
        fake->fail("/srv/a", EIO, "the disk is gone", 1);
        const auto failed = broker->open("/srv/a", O_RDONLY);
        REQUIRE(!failed && failed.error().reason == "decide: the disk is gone");
    }
    REQUIRE(next_descriptor() == before);
    const auto confined = fdb::confine(FDBROKER_CONFINE_BEST_EFFORT);
    REQUIRE(confined && ::open("/dev/null", O_RDONLY) == -1);
    return 0;
}
