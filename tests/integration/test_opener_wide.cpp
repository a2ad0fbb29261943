// SPDX-License-Identifier: MIT
// More directories than can be bound one by one: the one above them is bound, and requests are decided as finely as before.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/verdict.hpp"

using namespace fdbroker;
using namespace fdbroker::test;

namespace {

constexpr int tenant_count = 4200;

// Tenants, each with a directory and a separate rule, and a neighbour that no rule names.
class Tenants {
  public:
    Tenants() {
        make_directory(directory_ / "t", {.mode = 0700});
        for (const char* name : {"7", "8", "neighbour"}) {
            make_directory(at(name));
            write_file(at(name) / "file", name, {.mode = 0600});
        }
    }
    std::filesystem::path at(const std::string& name) const { return directory_ / "t" / name; }
    const TempDir& directory() const { return directory_; }
    std::string control() const { return directory_ / "control.sock"; }

    std::string policy() const {
        std::string text = "version: 1\nrules:\n";
        for (int tenant = 0; tenant < tenant_count; ++tenant)
            text += "  - {name: t" + std::to_string(tenant) + ", allow: [read, mkdir], paths: [\"" +
                    at(std::to_string(tenant)).string() + "/**\"], files: {same_mount: true}}\n";
        return text;
    }

  private:
    TempDir directory_{TempDir::Place::var_tmp};
};

std::string output(std::vector<std::string> arguments) {
    const Outcome outcome = run({.arguments = std::move(arguments)});
    return outcome.out + outcome.err;
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("wide: each of thousands of directories is served, and nothing beside them") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Tenants tenants;
    const RunningOpener opener(tenants.directory(), tenants.policy());
    TestPeer peer(opener.socket());
    CHECK(peer.open(tenants.at("7/file")).content() == "7");
    CHECK(peer.open(tenants.at("8/file")).content() == "8");
    CHECK(peer.open(tenants.at("neighbour/file")).status == EACCES);
    CHECK(peer.open(tenants.at("9/file")).status == ENOENT);
    // The directory appears, and no other generation has to follow.
    make_directory(tenants.at("9"));
    write_file(tenants.at("9/file"), "9");
    CHECK(peer.open(tenants.at("9/file")).content() == "9");
    CHECK(peer.call({.call = proto::Call::mkdir, .mode = 0755, .path = tenants.at("9/d").string()}).status ==
          0);
    CHECK(peer.call({.call = proto::Call::mkdir, .mode = 0755, .path = tenants.at("10").string()}).status ==
          EACCES);

    const std::string told = tenants.at("").parent_path().string();
    const std::string width = "bound for 4200 directories that rules name, up to 1 level below it";
    CHECK(contains(output({openerctl_program(), "--control", tenants.control(), "status"}),
                   told + ": " + width));
    CHECK(contains(output({openerctl_program(), "policy", "check", "--lint", opener.policy().string()}),
                   told + " is bound, wider than the rules: " + width + " [wide-directory]"));
    CHECK(contains(
        output({opener_program(), "--check", "--control", "none", "--policy", opener.policy().string()}),
        "directory " + told + ": writable, nosuid, nodev, noexec; wider than the rules: " + width));
}

TEST_CASE("wide: conditions hold of the directory that the rule names, not of the one that is bound") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    FDBROKER_SKIP_UNLESS(can_make_mount_namespace(), "needs mount namespaces");
    const Tenants tenants;
    run_in_mount_namespace([&] {
        // A mount over a rule's directory is that directory; a mount below it is another one.
        make_directory(tenants.at("11"));
        REQUIRE(::mount("tmpfs", tenants.at("11").c_str(), "tmpfs", 0, nullptr) == 0);
        write_file(tenants.at("11/file"), "mounted");
        make_directory(tenants.at("8/below"));
        REQUIRE(::mount("tmpfs", tenants.at("8/below").c_str(), "tmpfs", 0, nullptr) == 0);
        write_file(tenants.at("8/below/file"), "below");
        std::filesystem::create_directory_symlink("7", tenants.at("12"));
        std::filesystem::create_symlink("../neighbour/file", tenants.at("7/link"));
        const RunningOpener opener(tenants.directory(), tenants.policy());
        TestPeer peer(opener.socket());
        CHECK(peer.open(tenants.at("11/file")).content() == "mounted");
        CHECK(peer.open(tenants.at("8/below/file")).status == EXDEV);
        CHECK(peer.open(tenants.at("12/file")).status == ELOOP);
        CHECK(peer.open(tenants.at("7/link")).status == ELOOP);
    });
}

TEST_CASE("wide: more links than one are refused where the rule's own directory is not root's") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Tenants tenants;
    std::string policy = tenants.policy();
    for (std::size_t at = 0; (at = policy.find(", mkdir", at)) != std::string::npos;) policy.erase(at, 7);
    REQUIRE(::chown(tenants.at("8").c_str(), some_user, some_user) == 0);
    for (const char* name : {"7", "8"})
        std::filesystem::create_hard_link(tenants.at(name) / "file", tenants.at(name) / "second");
    const RunningOpener opener(tenants.directory(), policy);
    TestPeer peer(opener.socket());
    CHECK(peer.open(tenants.at("8/file")).status == EACCES);
    std::ifstream setting("/proc/sys/fs/protected_hardlinks");
    int is_set = 0;
    if ((setting >> is_set) && is_set != 0) CHECK(peer.open(tenants.at("7/file")).status == 0);
}
