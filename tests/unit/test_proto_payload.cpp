// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "proto/payload.hpp"

namespace fdbroker::proto {
namespace {

template <typename Array>
std::string bytes(const Array& array) {
    return {array.data(), array.size()};
}

std::vector<DirectoryEntry> entries_of(DirectoryPageReader& page) {
    std::vector<DirectoryEntry> entries;
    while (const auto entry = page.entry()) entries.push_back(*entry);
    return entries;
}

}  // namespace

TEST_CASE("payload: every call takes the payload that it needs and no other") {
    const std::string text("name\0", 5);
    const std::string eight(8, 'n');
    const std::string times(times_size, '\0');
    const std::string attribute("user.k\0value", 12);
    struct Row {
        Call call;
        std::vector<std::string> taken;
        std::vector<std::string> refused;
    };
    const std::string longest_path = std::string(max_path_length, 'p') + '\0';
    const std::string longest_name = std::string(max_xattr_name, 'p') + '\0';
    const std::vector<Row> rows = {
        {Call::open, {""}, {text, eight}},
        {Call::stat, {""}, {text, eight}},
        {Call::list, {eight}, {"", text, eight + "n"}},
        {Call::readlink, {""}, {text, eight}},
        {Call::mkdir, {""}, {text, eight}},
        {Call::remove, {""}, {text, eight}},
        {Call::rename, {text, std::string(1, '\0'), longest_path}, {"", "name", "x" + longest_path}},
        {Call::symlink, {text, longest_path}, {"", "name", "x" + longest_path}},
        {Call::setattr, {"", times}, {text, eight, times + '\0'}},
        {Call::xattr_read,
         {text, longest_name},
         {"", "name", std::string(1, '\0'), text + '\0', "x" + longest_name}},
        {Call::xattr_list, {""}, {text, eight}},
        {Call::xattr_write,
         {attribute, text, attribute + '\0'},
         {"", "name", '\0' + attribute, "x" + longest_name}},
        {Call::xattr_remove, {text, longest_name}, {"", "name", std::string(1, '\0'), text + '\0'}},
        {Call::put, {""}, {text, eight}},
        {Call::commit, {eight}, {"", text}},
        {Call::discard, {eight}, {"", text}},
        {Call::watch, {""}, {text, eight}},
    };
    REQUIRE(rows.size() == call_count);
    for (const Row& row : rows) {
        CAPTURE(to_string(row.call));
        for (const std::string& payload : row.taken) CHECK(fits_call(row.call, payload));
        for (const std::string& payload : row.refused) CHECK_FALSE(fits_call(row.call, payload));
    }
    CHECK_FALSE(fits_call(static_cast<Call>(call_count), ""));
    CHECK(to_string(static_cast<Call>(call_count)) == "unknown");
}

TEST_CASE("payload: a text keeps its NUL behind it in memory") {
    const std::string payload(text_payload("target"));
    CHECK(payload.size() == 7);
    CHECK(read_text(payload) == "target");
    CHECK(read_text(payload).data()[6] == '\0');
}

TEST_CASE("payload: a status comes back as it was written, and no other size is read") {
    const Status status{.mask = 1,
                        .block_size = 2,
                        .attributes = 3,
                        .links = 4,
                        .uid = 5,
                        .gid = 6,
                        .mode = 0100644,
                        .inode = 8,
                        .size = 1ULL << 40,
                        .blocks = 10,
                        .attributes_mask = 11,
                        .access = {12, 13},
                        .birth = {-14, 15},
                        .change = {16, 17},
                        .modification = {18, 999999999},
                        .rdev_major = 20,
                        .rdev_minor = 21,
                        .dev_major = 22,
                        .dev_minor = 23};
    const std::string payload = bytes(status_payload(status));
    CHECK(read_status(payload) == status);
    CHECK_FALSE(read_status(payload.substr(1)));
    CHECK_FALSE(read_status(payload + '\0'));
}

TEST_CASE("payload: times come back as they were written; a reserved field is refused") {
    const Times times{.access = {-1, 999999999}, .modification = {1700000000, 0x3fffffff}};
    std::string payload = bytes(times_payload(times));
    CHECK(read_times(payload) == times);
    for (const std::size_t at : {12U, 15U, 28U, 31U}) {
        std::string changed = payload;
        changed[at] = 1;
        CHECK_FALSE(read_times(changed));
    }
}

TEST_CASE("payload: an attribute's value may hold anything, or nothing") {
    const std::string value("v\0w", 3);
    const std::string payload = attribute_payload("user.k", value);
    REQUIRE(read_attribute(payload));
    CHECK(read_attribute(payload)->name == "user.k");
    CHECK(read_attribute(payload)->value == value);
    CHECK(read_attribute(attribute_payload("user.k", ""))->value.empty());
}

TEST_CASE("payload: a page holds entries with names of every length, and its cursor") {
    for (std::size_t length = 1; length <= max_entry_name; ++length) {
        CAPTURE(length);
        const std::string name(length, 'n');
        DirectoryPageWriter writer(65536);
        REQUIRE(writer.add({.inode = 1ULL << 63, .type = 8, .name = name}));
        REQUIRE(writer.add({.inode = 2, .type = 4, .name = "b"}));
        writer.set_next(77);
        DirectoryPageReader page(writer.payload());
        CHECK(page.next_cursor() == 77);
        const auto entries = entries_of(page);
        CHECK(page.ok());
        REQUIRE(entries.size() == 2);
        CHECK(entries[0].inode == 1ULL << 63);
        CHECK(entries[0].type == 8);
        CHECK(entries[0].name == name);
        CHECK(entries[1].name == "b");
    }
    DirectoryPageWriter writer(65536);
    CHECK_FALSE(writer.add({.name = ""}));
    CHECK_FALSE(writer.add({.name = std::string(max_entry_name + 1, 'n')}));
}

TEST_CASE("payload: a page takes no more than its room") {
    for (std::size_t room = 8; room < 60; ++room) {
        DirectoryPageWriter writer(room);
        std::size_t count = 0;
        while (writer.add({.name = "abcd"})) ++count;
        CHECK(count == (room - 8) / 16);
        CHECK(writer.payload().size() == 8 + 16 * count);
    }
}

TEST_CASE("payload: a page that is cut short, or whose bytes are not as described, is told from its end") {
    DirectoryPageWriter writer(65536);
    REQUIRE(writer.add({.inode = 1, .type = 8, .name = "abc"}));
    REQUIRE(writer.add({.inode = 2, .type = 4, .name = "bd"}));
    const std::string page = writer.payload();
    for (std::size_t size = 0; size <= page.size(); ++size) {
        CAPTURE(size);
        DirectoryPageReader reader(std::string_view(page).substr(0, size));
        const std::size_t read = entries_of(reader).size();
        CHECK(reader.ok() == (size == 8 || size == 24 || size == 40));
        CHECK(read == (size < 24 ? 0 : size < 40 ? 1 : 2));
    }
    const auto broken = [&page](std::size_t at, char value) {
        std::string changed = page;
        changed[at] = value;
        DirectoryPageReader reader(changed);
        entries_of(reader);
        return !reader.ok();
    };
    CHECK(broken(17, 0));                       // a name of no length
    CHECK(broken(18, '/'));                     // a slash in a name
    CHECK(broken(19, 0));                       // a NUL in a name
    CHECK(broken(21, 'x'));                     // no NUL behind it
    CHECK(broken(23, 'x'));                     // padding
    CHECK(broken(33, static_cast<char>(255)));  // longer than the page
}

}  // namespace fdbroker::proto
