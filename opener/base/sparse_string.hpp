// SPDX-License-Identifier: MIT
// A text that is nearly always empty, and then costs one null pointer: what every request carries from step to step,
// and only refusals, links and payloads fill in.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace fdbroker::opener {

class SparseString {
  public:
    SparseString() noexcept = default;
    SparseString(std::string text) {  // NOLINT(google-explicit-constructor): it is that string
        if (!text.empty()) text_ = std::make_unique<std::string>(std::move(text));
    }
    SparseString(std::string_view text)  // NOLINT(google-explicit-constructor)
        : SparseString(std::string(text)) {}
    SparseString(const char* text)  // NOLINT(google-explicit-constructor)
        : SparseString(std::string(text)) {}
    SparseString(const SparseString& other) : SparseString(other.view()) {}
    SparseString(SparseString&&) noexcept = default;
    SparseString& operator=(const SparseString& other) { return *this = SparseString(other); }
    SparseString& operator=(SparseString&&) noexcept = default;
    ~SparseString() = default;

    bool empty() const noexcept { return text_ == nullptr; }
    std::size_t size() const noexcept { return view().size(); }
    std::string_view view() const noexcept { return text_ ? std::string_view(*text_) : std::string_view(); }
    operator std::string_view() const noexcept { return view(); }  // NOLINT(google-explicit-constructor)
    void clear() noexcept { text_.reset(); }

  private:
    std::unique_ptr<const std::string> text_{};
};

}  // namespace fdbroker::opener
