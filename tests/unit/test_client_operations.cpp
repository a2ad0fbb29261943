// SPDX-License-Identifier: MIT
// The calls beside open: what goes over the wire, and what comes of the answer.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <string>
#include <vector>

#include "proto/payload.hpp"
#include "tests/support/descriptors.hpp"
#include "tests/unit/test_client_broker.hpp"

namespace fdbroker::test {
namespace {

using proto::Call;
using namespace std::string_literals;

// Makes one call; the broker sees `expected`, and answers with `payload`.
int ask_once(const Asked& expected, std::string_view payload,
             const std::function<long(fdbroker_handle*)>& call) {
    FakeBroker broker(after_hello([&](BrokerEnd& end) {
        const auto asked = end.receive_requests();
        CHECK(asked.size() == 1);
        CHECK(asked[0].call == expected.call);
        CHECK(asked[0].path == expected.path);
        CHECK(asked[0].flags == expected.flags);
        CHECK(asked[0].mode == expected.mode);
        CHECK(asked[0].payload == expected.payload);
        end.answer(asked[0], payload);
    }));
    const Client client = connect_to(broker);
    const long result = call(client.get());
    CHECK(broker.trouble() == "");
    return static_cast<int>(result);
}

Asked expected(Call call, std::string path, int flags = 0, mode_t mode = 0, std::string payload = "") {
    return {.id = 0, .flags = flags, .mode = mode, .path = std::move(path), .call = call, .payload = payload};
}

std::string number(std::uint64_t value) {
    const auto bytes = proto::number_payload(value);
    return {bytes.begin(), bytes.end()};
}

using Names = std::vector<std::string>;

int note_name(void* names, const fdbroker_entry* entry) {
    static_cast<Names*>(names)->push_back(entry->name + ":"s + std::to_string(entry->inode) + ":" +
                                          std::to_string(entry->type));
    return entry->name == "stop"s ? 4711 : 0;
}

}  // namespace

TEST_CASE("client: each call whose answer is only a status sends the request it was told") {
    CHECK(ask_once(expected(Call::mkdir, "/d", 0, 0750), "",
                   [](auto* broker) { return fdbroker_mkdir(broker, "/d", 0750); }) == 0);
    CHECK(ask_once(expected(Call::remove, "/d", AT_REMOVEDIR), "",
                   [](auto* broker) { return fdbroker_remove(broker, "/d", AT_REMOVEDIR); }) == 0);
    CHECK(ask_once(expected(Call::rename, "/a", 1, 0, "/b\0"s), "",
                   [](auto* broker) { return fdbroker_rename(broker, "/a", "/b", 1); }) == 0);
    CHECK(ask_once(expected(Call::symlink, "/l", 0, 0, "../t\0"s), "",
                   [](auto* broker) { return fdbroker_symlink(broker, "../t", "/l"); }) == 0);
    CHECK(ask_once(expected(Call::xattr_write, "/a", XATTR_CREATE, 0, "user.k\0v\0w"s), "", [](auto* broker) {
              return fdbroker_setxattr(broker, "/a", "user.k", "v\0w", 3, XATTR_CREATE);
          }) == 0);
    CHECK(ask_once(expected(Call::xattr_remove, "/a", 0, 0, "user.k\0"s), "",
                   [](auto* broker) { return fdbroker_removexattr(broker, "/a", "user.k"); }) == 0);
    CHECK(ask_once(expected(Call::commit, "/a", 1, 0, number(7)), "",
                   [](auto* broker) { return fdbroker_commit(broker, "/a", 7, 1); }) == 0);
    CHECK(ask_once(expected(Call::discard, "/a", 0, 0, number(7)), "",
                   [](auto* broker) { return fdbroker_discard(broker, "/a", 7); }) == 0);
}

TEST_CASE("client: setattr sends what is set and nothing else") {
    fdbroker_attributes attributes{};
    attributes.size = sizeof attributes;
    attributes.set = FDBROKER_SET_MODE;
    attributes.mode = 0600;
    attributes.access.tv_nsec = -1;  // not looked at
    const auto call = [&](auto* broker) { return fdbroker_setattr(broker, "/a", &attributes); };
    CHECK(ask_once(expected(Call::setattr, "/a", 1, 0600), "", call) == 0);
    attributes.set = FDBROKER_SET_TIMES;
    attributes.access = {.tv_sec = 5, .tv_nsec = 6};
    attributes.modification = {.tv_sec = 0, .tv_nsec = UTIME_OMIT};
    const auto times = proto::times_payload({{5, 6}, {0, UTIME_OMIT}});
    CHECK(ask_once(expected(Call::setattr, "/a", 2, 0, {times.begin(), times.end()}), "", call) == 0);
    attributes.set |= FDBROKER_SET_LINK;
    CHECK(ask_once(expected(Call::setattr, "/a", 6, 0, {times.begin(), times.end()}), "", call) == 0);
    FakeBroker broker(after_hello([](BrokerEnd&) {}));
    const Client client = connect_to(broker);
    attributes.modification.tv_nsec = 1000000000;
    CHECK(call(client.get()) == -EINVAL);
    attributes.set = 0;
    CHECK(call(client.get()) == -EINVAL);
    for (const unsigned set : {FDBROKER_SET_LINK, FDBROKER_SET_MODE | 8U}) {
        attributes.set = set;
        CHECK(call(client.get()) == -EINVAL);
    }
    attributes.set = FDBROKER_SET_MODE;
    attributes.size = 8;
    CHECK(call(client.get()) == -EINVAL);
}

TEST_CASE("client: a struct of a younger program is taken when what it adds is not set") {
    struct {
        fdbroker_attributes known;
        long younger;
    } attributes{};
    attributes.known.size = sizeof attributes;
    attributes.known.set = FDBROKER_SET_MODE;
    const auto call = [&](auto* broker) { return fdbroker_setattr(broker, "/a", &attributes.known); };
    CHECK(ask_once(expected(Call::setattr, "/a", 1), "", call) == 0);
    FakeBroker broker(after_hello([](BrokerEnd&) {}));
    const Client client = connect_to(broker);
    attributes.younger = 1;
    CHECK(call(client.get()) == -E2BIG);
}

TEST_CASE("client: stat tells what the broker does, and bytes that are no status end the connection") {
    const auto payload = proto::status_payload({.mask = STATX_BASIC_STATS,
                                                .links = 2,
                                                .uid = 30001,
                                                .mode = S_IFREG | 0640,
                                                .size = 1ull << 40,
                                                .modification = {.seconds = -1, .nanoseconds = 5}});
    struct statx status{};
    const auto call = [&](auto* broker) { return fdbroker_stat(broker, "/a", AT_SYMLINK_NOFOLLOW, &status); };
    const Asked asked = expected(Call::stat, "/a", AT_SYMLINK_NOFOLLOW);
    CHECK(ask_once(asked, {payload.data(), payload.size()}, call) == 0);
    CHECK(status.stx_size == 1ull << 40);
    CHECK(status.stx_mode == (S_IFREG | 0640));
    CHECK(status.stx_uid == 30001);
    CHECK(status.stx_nlink == 2);
    CHECK(status.stx_mtime.tv_sec == -1);
    CHECK(status.stx_mtime.tv_nsec == 5);
    CHECK(ask_once(asked, {payload.data(), payload.size() - 1}, call) == -EPROTO);
    CHECK(ask_once(asked, "", call) == -EPROTO);
}

TEST_CASE("client: list goes from page to page, and ends early when it is told to") {
    const auto page = [](const std::vector<std::string>& names, std::uint64_t next) {
        proto::DirectoryPageWriter writer(1000);
        for (const std::string& name : names)
            CHECK(writer.add({.inode = name.size(), .type = 8, .name = name}));
        writer.set_next(next);
        return writer.payload();
    };
    FakeBroker broker(after_hello([&](BrokerEnd& end) {
        const std::vector<std::string> pages{page({"a", "bb"}, 17), page({}, ~0ull), page({"c"}, 0),
                                             page({"stop", "never"}, 9), "short"};
        const std::vector<std::string> cursors{number(0), number(17), number(~0ull), number(0), number(0)};
        for (std::size_t index = 0; index < pages.size(); ++index) {
            const auto asked = end.receive_requests().at(0);
            CHECK(asked.call == Call::list);
            CHECK(asked.payload == cursors[index]);
            end.answer(asked, pages[index]);
        }
    }));
    const Client client = connect_to(broker);
    Names names;
    CHECK(fdbroker_list(client.get(), "/d", note_name, &names) == 0);
    CHECK(names == Names{"a:1:8", "bb:2:8", "c:1:8"});
    names.clear();
    CHECK(fdbroker_list(client.get(), "/d", note_name, &names) == 4711);
    CHECK(names == Names{"stop:4:8"});
    CHECK(fdbroker_list(client.get(), "/d", note_name, &names) == -EPROTO);
    CHECK(broker.trouble() == "");
}

TEST_CASE(
    "client: readlink and the extended attributes fill the caller's buffer, or say that it is too small") {
    char buffer[8] = "xxxxxxx";
    const Asked link = expected(Call::readlink, "/l");
    const auto read = [&](std::size_t size) {
        return [&buffer, size](auto* broker) { return fdbroker_readlink(broker, "/l", buffer, size); };
    };
    CHECK(ask_once(link, "target", read(7)) == 6);
    CHECK(buffer == "target"s);
    CHECK(ask_once(link, "target", read(6)) == -ERANGE);
    const Asked value = expected(Call::xattr_read, "/a", 0, 0, "user.k\0"s);
    const auto get = [&](std::size_t size) {
        return [&buffer, size](auto* broker) {
            return fdbroker_getxattr(broker, "/a", "user.k", size == 0 ? nullptr : buffer, size);
        };
    };
    CHECK(ask_once(value, "v\0w"s, get(3)) == 3);
    CHECK(std::string(buffer, 3) == "v\0w"s);
    CHECK(ask_once(value, "v\0w"s, get(0)) == 3);
    CHECK(ask_once(value, "v\0w"s, get(2)) == -ERANGE);
    CHECK(ask_once(expected(Call::xattr_list, "/a"), "user.k\0"s, [&](auto* broker) {
              return fdbroker_listxattr(broker, "/a", buffer, sizeof buffer);
          }) == 7);
}

TEST_CASE("client: put delivers a descriptor and its number, and one without the other ends the connection") {
    const auto before = DescriptorTable::now();
    const auto put_with = [](std::string payload, bool file, std::uint64_t& put) {
        FakeBroker broker(after_hello([&](BrokerEnd& end) {
            const auto asked = end.receive_requests().at(0);
            CHECK(asked.call == Call::put);
            CHECK(asked.mode == 0640);
            end.reply({{.id = asked.id, .has_descriptor = file, .payload = payload}}, {"temporary"});
        }));
        const Client client = connect_to(broker);
        const int result = fdbroker_put(client.get(), "/a", 0640, &put);
        const proto::UniqueFd closed(result);
        return result;
    };
    std::uint64_t put = 0;
    CHECK(put_with(number(77), true, put) >= 0);
    CHECK(put == 77);
    CHECK(put_with(number(77), false, put) == -EPROTO);
    CHECK(put_with("short", true, put) == -EPROTO);
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("client: a put that was given up is discarded when its answer comes") {
    const auto before = DescriptorTable::now();
    {
        FakeBroker broker(after_hello([](BrokerEnd& end) {
            const auto put = end.receive_requests().at(0);
            const auto other = end.receive_requests().at(0);
            const std::string payload = number(77);
            end.reply({{.id = put.id, .has_descriptor = true, .payload = payload}}, {"temporary"});
            end.answer(other);
            const auto asked = end.receive_requests().at(0);
            CHECK(asked.call == Call::discard);
            CHECK(asked.path == "/a");
            CHECK(asked.payload == payload);
        }));
        const Client client = connect_to(broker);
        std::uint64_t put = 0;
        REQUIRE(fdbroker_set_timeout(client.get(), 1) == 0);
        CHECK(fdbroker_put(client.get(), "/a", 0640, &put) == -ETIMEDOUT);
        REQUIRE(fdbroker_set_timeout(client.get(), 60000) == 0);
        CHECK(fdbroker_mkdir(client.get(), "/other", 0) == 0);
        CHECK(broker.trouble() == "");
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("client: a file that nobody asked for ends the connection, and does not stay open") {
    const auto before = DescriptorTable::now();
    {
        FakeBroker broker(after_hello([](BrokerEnd& end) { end.grant(end.receive_requests().at(0)); }));
        const Client client = connect_to(broker);
        CHECK(fdbroker_mkdir(client.get(), "/d", 0) == -EPROTO);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("client: a call that the broker does not serve is EOPNOTSUPP, and nothing is sent") {
    FakeBroker broker([](BrokerEnd& end) {
        end.answer_hello({.calls = 1});
        end.grant(end.receive_requests().at(0));
    });
    const Client client = connect_to(broker);
    CHECK(fdbroker_mkdir(client.get(), "/d", 0755) == -EOPNOTSUPP);
    CHECK(fdbroker_reason(client.get()) == "client: the broker does not serve that"s);
    const proto::UniqueFd file(fdbroker_open(client.get(), "/a", O_RDONLY, 0));
    CHECK(file);
    CHECK(broker.trouble() == "");
}

TEST_CASE("client: all or nothing keeps no file when one is refused, or does not fit") {
    const auto before = DescriptorTable::now();
    {
        FakeBroker broker(after_hello([](BrokerEnd& end) {
            const Bytes message = end.receive();
            CHECK(proto::read_header(message)->flags == 1);
            std::array<proto::Request, proto::max_requests> room;
            const auto refused = proto::read_requests(message, room);
            REQUIRE(refused.has_value());
            end.reply({{.id = (*refused)[0].id, .status = ECANCELED, .step = proto::Step::deliver},
                       {.id = (*refused)[1].id, .status = EACCES, .step = proto::Step::decide}},
                      {"", ""});
            const auto asked = end.receive_requests();
            end.reply(
                {{.id = asked[0].id, .has_descriptor = true}, {.id = asked[1].id, .has_descriptor = true}},
                {"/a", "/b"});
            end.receive();
        }));
        const Client client = connect_to(broker);
        std::array<fdbroker_request, 2> requests{request_for("/a"), request_for("/b")};
        std::array<int, 2> fds{};
        const auto open = [&] {
            return fdbroker_open_many_flags(client.get(), requests.data(), requests.size(), fds.data(),
                                            FDBROKER_ALL_OR_NOTHING);
        };
        CHECK(open() == 0);
        CHECK(fds == std::array{-ECANCELED, -EACCES});
        CHECK(open() == 0);
        CHECK(fds[0] >= 0);
        const proto::UniqueFd first(fds[0]);
        const proto::UniqueFd second(fds[1]);
        CHECK(content_of(fds[1]) == "/b");
        requests[0].path = nullptr;
        CHECK(open() == 0);
        CHECK(fds == std::array{-EFAULT, -ECANCELED});
        std::vector<fdbroker_request> many(254, request_for("/a"));
        std::vector<int> results(254);
        CHECK(fdbroker_open_many_flags(client.get(), many.data(), many.size(), results.data(),
                                       FDBROKER_ALL_OR_NOTHING) == -E2BIG);
        CHECK(fdbroker_open_many_flags(client.get(), many.data(), 1, results.data(), 2) == -EINVAL);
    }
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("client: NULL where something must be is EFAULT for every call") {
    FakeBroker broker(after_hello([](BrokerEnd&) {}));
    const Client client = connect_to(broker);
    fdbroker_handle* one = client.get();
    struct statx status{};
    std::uint64_t put = 0;
    char buffer[4];
    for (const long result : {long{fdbroker_stat(nullptr, "/a", 0, &status)},
                              long{fdbroker_stat(one, "/a", 0, nullptr)},
                              long{fdbroker_stat(one, nullptr, 0, &status)},
                              long{fdbroker_list(one, "/a", nullptr, nullptr)},
                              long{fdbroker_readlink(one, "/a", nullptr, 4)},
                              long{fdbroker_readlink(nullptr, "/a", buffer, 4)},
                              long{fdbroker_mkdir(nullptr, "/a", 0)},
                              long{fdbroker_mkdir(one, nullptr, 0)},
                              long{fdbroker_remove(nullptr, "/a", 0)},
                              long{fdbroker_rename(one, "/a", nullptr, 0)},
                              long{fdbroker_symlink(one, nullptr, "/a")},
                              long{fdbroker_setattr(one, "/a", nullptr)},
                              long{fdbroker_getxattr(one, "/a", nullptr, buffer, 4)},
                              long{fdbroker_getxattr(one, "/a", "user.k", nullptr, 4)},
                              long{fdbroker_listxattr(one, "/a", nullptr, 4)},
                              long{fdbroker_setxattr(one, "/a", "user.k", nullptr, 4, 0)},
                              long{fdbroker_removexattr(one, "/a", nullptr)},
                              long{fdbroker_put(one, "/a", 0, nullptr)},
                              long{fdbroker_put(nullptr, "/a", 0, &put)},
                              long{fdbroker_commit(nullptr, "/a", 0, 0)},
                              long{fdbroker_discard(nullptr, "/a", 0)},
                              long{fdbroker_watch(nullptr, "/a", FDBROKER_WATCH_CONTENT)},
                              long{fdbroker_watch(one, nullptr, FDBROKER_WATCH_CONTENT)},
                              long{fdbroker_submit(one, nullptr, 1)},
                              long{fdbroker_complete(one, nullptr, 1, 0)},
                              long{fdbroker_descriptor(nullptr)}})
        CHECK(result == -EFAULT);
}

namespace {

// The size of each entry's status, or minus the errno of why there is none.
std::vector<long> sizes_in(fdbroker_handle* broker, const char* path) {
    std::vector<long> sizes;
    fdbroker_dir* directory = nullptr;
    CHECK(fdbroker_opendir(broker, path, FDBROKER_DIR_STATUS, &directory) == 0);
    const fdbroker_entry* entry = nullptr;
    while (directory != nullptr && fdbroker_readdir(directory, &entry) > 0)
        sizes.push_back(entry->status != nullptr ? static_cast<long>(entry->status->stx_size)
                                                 : -long{entry->status_error});
    fdbroker_closedir(directory);
    return sizes;
}

}  // namespace

TEST_CASE("operations: entries come with their status in one round trip") {
    FakeBroker broker(after_hello([](BrokerEnd& end) {
        const Asked asked = end.receive_requests().at(0);
        CHECK(asked.call == Call::list);
        CHECK(asked.flags == static_cast<int>(proto::list_with_status));
        proto::DirectoryPageWriter page(4096, proto::PageKind::with_status);
        CHECK(page.add({.inode = 1, .type = 8, .name = "a", .status = {.size = 5}}));
        CHECK(page.add({.inode = 2, .type = 8, .name = "secret", .status_error = EACCES}));
        CHECK(page.add({.inode = 3, .type = 8, .name = "bcd", .status = {.size = 7}}));
        end.answer(asked, page.payload());
    }));
    const Client client = connect_to(broker);
    CHECK(sizes_in(client.get(), "/d") == std::vector<long>{5, -EACCES, 7});
    CHECK(broker.trouble() == "");
}

TEST_CASE("operations: a broker that gives no status with entries is asked for each") {
    FakeBroker broker(after_hello([](BrokerEnd& end) {
        end.refuse(end.receive_requests().at(0), EINVAL, proto::Step::parse);
        const Asked asked = end.receive_requests().at(0);
        CHECK(asked.flags == 0);
        proto::DirectoryPageWriter page(4096);
        CHECK(page.add({.inode = 1, .type = 8, .name = "a"}));
        end.answer(asked, page.payload());
        const Asked status = end.receive_requests().at(0);
        CHECK(status.path == "/a");
        const auto payload = proto::status_payload({.size = 9});
        end.answer(status, {payload.data(), payload.size()});
    }));
    const Client client = connect_to(broker);
    CHECK(sizes_in(client.get(), "/") == std::vector<long>{9});
    CHECK(broker.trouble() == "");
}

TEST_CASE("operations: a page whose status is cut short, or whose errno is none, ends the connection") {
    proto::DirectoryPageWriter page(4096, proto::PageKind::with_status);
    REQUIRE(page.add({.inode = 1, .type = 8, .name = "a"}));
    std::string wrong_errno = page.payload();
    wrong_errno[8 + 12 + 3] = 1;  // behind the cursor and the entry, 16,777,216
    for (const std::string& payload : {page.payload().substr(0, page.payload().size() - 4), wrong_errno,
                                       page.payload().substr(0, 8 + 12 + 2)}) {
        FakeBroker broker(
            after_hello([&payload](BrokerEnd& end) { end.answer(end.receive_requests().at(0), payload); }));
        const Client client = connect_to(broker);
        fdbroker_dir* directory = nullptr;
        const fdbroker_entry* entry = nullptr;
        REQUIRE(fdbroker_opendir(client.get(), "/d", FDBROKER_DIR_STATUS, &directory) == 0);
        CHECK(fdbroker_readdir(directory, &entry) == -EPROTO);
        fdbroker_closedir(directory);
    }
}

}  // namespace fdbroker::test
