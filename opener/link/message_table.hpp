// SPDX-License-Identifier: MIT
// The table of an end of the link: type of message × phases that allow it × handler, as in OpenSSH's monitor. The table is
// the state machine: every type of a direction has exactly one row, or the table does not compile.
//
// A message that the phase does not allow is dropped. It crossed the one that ended its phase, or comes from a broker that
// was taken over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

template <typename Phase>
class PhaseSet {
  public:
    constexpr PhaseSet(std::initializer_list<Phase> phases) noexcept {
        for (const Phase phase : phases) bits_ |= bit(phase);
    }
    constexpr bool has(Phase phase) const noexcept { return (bits_ & bit(phase)) != 0; }

  private:
    static constexpr std::uint32_t bit(Phase phase) noexcept {
        return std::uint32_t{1} << static_cast<unsigned>(phase);
    }
    std::uint32_t bits_ = 0;
};

template <typename MessageType, typename Phase, typename HandlerType>
struct MessageRow {
    using Message = MessageType;
    using Handler = HandlerType;
    PhaseSet<Phase> allowed;
    Handler handler;
};

// A row. `handler` is called with the table's owner, and with the message and the attached descriptor as far as it takes
// them.
template <typename Message, typename Phase, typename Handler>
constexpr MessageRow<Message, Phase, Handler> on(std::initializer_list<Phase> allowed, Handler handler) {
    return {PhaseSet<Phase>(allowed), handler};
}

template <typename... Rows>
class MessageTable {
  public:
    constexpr explicit MessageTable(Rows... rows) : rows_(rows...) {}

    // False: the phase does not allow the message.
    template <typename Direction, typename Phase, typename Owner>
    bool dispatch(const Direction& message, proto::UniqueFd attached, Phase phase, Owner& owner) const {
        static_assert(std::variant_size_v<Direction> == sizeof...(Rows));
        return std::visit(
            [&]<typename Message>(const Message& each) {
                constexpr std::size_t at = index_of<Message>();
                static_assert(at < sizeof...(Rows), "a message without a row");
                const auto& row = std::get<at>(rows_);
                if (!row.allowed.has(phase)) return false;
                using Handler = typename std::remove_cvref_t<decltype(row)>::Handler;
                if constexpr (std::is_invocable_v<Handler, Owner&, const Message&, proto::UniqueFd>)
                    std::invoke(row.handler, owner, each, std::move(attached));
                else if constexpr (std::is_invocable_v<Handler, Owner&, const Message&>)
                    std::invoke(row.handler, owner, each);
                else
                    std::invoke(row.handler, owner);
                return true;
            },
            message);
    }

  private:
    template <typename Message>
    static constexpr std::size_t index_of() noexcept {
        std::size_t index = 0;
        static_cast<void>(((std::is_same_v<Message, typename Rows::Message> || (++index, false)) || ...));
        return index;
    }
    std::tuple<Rows...> rows_;
};

}  // namespace fdbroker::opener
