// A text that is nearly always empty, and then costs one null pointer: what every request carries from step to step,
// and only refusals, links and payloads fill in.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace fdbroker::opener {

class RareText {
  public:
    RareText() noexcept = default;
    RareText(std::string text) {  // NOLINT(google-explicit-constructor): it is that string
        if (!text.empty()) text_ = std::make_unique<std::string>(std::move(text));
    }
    RareText(std::string_view text)  // NOLINT(google-explicit-constructor)
        : RareText(std::string(text)) {}
    RareText(const char* text)  // NOLINT(google-explicit-constructor)
        : RareText(std::string(text)) {}
    RareText(const RareText& other) : RareText(other.view()) {}
    RareText(RareText&&) noexcept = default;
    RareText& operator=(const RareText& other) { return *this = RareText(other); }
    RareText& operator=(RareText&&) noexcept = default;
    ~RareText() = default;

    bool empty() const noexcept { return text_ == nullptr; }
    std::size_t size() const noexcept { return view().size(); }
    std::string_view view() const noexcept { return text_ ? std::string_view(*text_) : std::string_view(); }
    operator std::string_view() const noexcept { return view(); }  // NOLINT(google-explicit-constructor)
    void clear() noexcept { text_.reset(); }

  private:
    std::unique_ptr<const std::string> text_{};
};

}  // namespace fdbroker::opener
