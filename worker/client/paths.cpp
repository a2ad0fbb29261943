// SPDX-License-Identifier: MIT
#include "worker/client/paths.hpp"

#include <cerrno>
#include <cstring>

#include "proto/message.hpp"
#include "proto/payload.hpp"

namespace fdbroker::worker {
namespace {

bool is_dots(std::string_view name) {
    return name == "." || name == "..";
}

}  // namespace

WrittenPath read_path(const char* path) noexcept {
    WrittenPath read;
    const char* at = path;
    if (*at == '\0') {
        read.error = ENOENT;
        return read;
    }
    read.is_relative = *at != '/';
    if (!read.is_relative) ++at;
    bool canonical = !read.is_relative;
    std::string_view name;
    for (;;) {
        const char* end = ::strchrnul(at, '/');
        name = {at, static_cast<std::size_t>(end - at)};
        if (name.size() > proto::max_entry_name) {
            read.error = ENAMETOOLONG;
            return read;
        }
        if (name.size() <= 2 && (name.empty() || is_dots(name))) canonical = false;
        at = end;
        if (*at == '\0') break;
        ++at;
    }
    read.text = {path, static_cast<std::size_t>(at - path)};
    if (read.text.size() > proto::max_path_length) read.error = ENAMETOOLONG;
    read.is_canonical = canonical || read.text == "/";
    read.is_directory = !read.is_canonical && names_directory(read.text);
    return read;
}

bool names_directory(std::string_view path) noexcept {
    if (path.empty() || (path.back() != '/' && path.back() != '.')) return false;
    return path != "/" && (path.back() == '/' || is_dots(path.substr(path.rfind('/') + 1)));
}

std::string canonical_path(std::string_view base, std::string_view path) {
    std::string made;
    if (!path.starts_with('/') && base != "/") made = base;
    while (!path.empty()) {
        const std::size_t slash = path.find('/');
        const std::string_view name = path.substr(0, slash);
        path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
        if (name.empty() || name == ".") continue;
        if (name == "..")
            made.resize(made.empty() ? 0 : made.rfind('/'));
        else
            made.append(1, '/').append(name);
    }
    return made.empty() ? "/" : made;
}

}  // namespace fdbroker::worker
