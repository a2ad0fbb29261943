// SPDX-License-Identifier: MIT
#include "worker/run/broker_link.hpp"

#include <cerrno>
#include <utility>

namespace fdbroker::worker {

bool BrokerLink::Awaiter::await_suspend(std::coroutine_handle<> asker) {
    asker_ = asker;
    return link_.send(*this);
}

bool BrokerLink::send(Awaiter& awaiter) {
    if (is_over_) {
        give_up(awaiter);
        return false;
    }
    const Submission submission{.ask = awaiter.ask_, .tag = next_tag_};
    const int taken = connection_.submit({&submission, 1});
    if (taken == 1) {
        waiting_.emplace(next_tag_++, &awaiter);
    } else if (taken == -EAGAIN) {
        unsent_.push_back(&awaiter);
    } else {
        is_over_ = true;
        give_up(awaiter);
        return false;
    }
    return true;
}

void BrokerLink::give_up(Awaiter& awaiter) {
    awaiter.reply_.result = -EIO;
    awaiter.reply_.reason = "client: the connection to the opener is over";
    observer_(awaiter.ask_, awaiter.reply_);
}

void BrokerLink::serve() {
    // All: the socket tells nothing of what has been received and is not fetched.
    const int came = connection_.complete(Outstanding::most, 0);
    if (came < 0) is_over_ = true;
    waits_for_room_ = has_unsent();
    // A resumed coroutine may ask anew, which changes the tables and the completions.
    std::vector<Awaiter*> answered;
    for (Completion& completion : connection_.completions()) {
        const auto found = waiting_.find(completion.tag);
        if (found == waiting_.end()) continue;
        Awaiter& awaiter = *found->second;
        waiting_.erase(found);
        awaiter.reply_ = std::move(completion);
        if (awaiter.reply_.result == -ECONNRESET) awaiter.reply_.result = -EIO;
        observer_(awaiter.ask_, awaiter.reply_);
        answered.push_back(&awaiter);
    }
    for (Awaiter* awaiter : std::exchange(unsent_, {}))
        if (!send(*awaiter)) answered.push_back(awaiter);
    for (Awaiter* awaiter : answered) awaiter->asker_.resume();
}

}  // namespace fdbroker::worker
