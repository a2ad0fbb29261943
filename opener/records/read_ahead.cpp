// SPDX-License-Identifier: MIT
#include "opener/records/read_ahead.hpp"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

namespace fdbroker::records {

using proto::Result;

namespace {

class ReadAhead final : public ByteSource {
  public:
    explicit ReadAhead(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {
        for (Block& block : blocks_) block.bytes.resize(block_size);
        thread_ = std::jthread([this](const std::stop_token& stop) { fill(stop); });
    }
    ~ReadAhead() override {
        thread_.request_stop();
        changed_.notify_all();
    }

    Result<std::size_t> read(std::span<char> room) override {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return filled_ != taken_ || end_; });
        if (filled_ == taken_)
            return *end_ ? Result<std::size_t>(0) : Result<std::size_t>(std::unexpected(end_->error()));
        Block& block = blocks_[taken_ % blocks_.size()];
        consumed_ = block.consumed;
        lock.unlock();
        // The thread lets this block be until taken_ has gone on.
        const std::size_t size = std::min(room.size(), block.size - at_);
        std::memcpy(room.data(), block.bytes.data() + at_, size);
        at_ += size;
        if (at_ < block.size) return size;
        at_ = 0;
        lock.lock();
        ++taken_;
        changed_.notify_all();
        return size;
    }
    std::uint64_t consumed() const noexcept override { return consumed_; }

  private:
    static constexpr std::size_t block_size = std::size_t{1} << 20;
    struct Block {
        std::vector<char> bytes{};
        std::size_t size = 0;
        std::uint64_t consumed = 0;
    };

    void fill(const std::stop_token& stop) {
        for (;;) {
            std::unique_lock lock(mutex_);
            if (!changed_.wait(lock, stop, [&] { return filled_ - taken_ < blocks_.size(); })) return;
            Block& block = blocks_[filled_ % blocks_.size()];
            lock.unlock();
            const Result<std::size_t> size = source_->read(block.bytes);
            lock.lock();
            if (!size || *size == 0) {
                end_ = size;
                changed_.notify_all();
                return;
            }
            block.size = *size;
            block.consumed = source_->consumed();
            ++filled_;
            changed_.notify_all();
        }
    }

    std::unique_ptr<ByteSource> source_;  // the thread's alone
    std::mutex mutex_{};
    std::condition_variable_any changed_{};
    std::array<Block, 4> blocks_{};
    std::uint64_t filled_ = 0;  // blocks so far
    std::uint64_t taken_ = 0;
    std::optional<Result<std::size_t>> end_{};  // an error, or 0
    std::size_t at_ = 0;                        // in the block that is being taken
    std::uint64_t consumed_ = 0;
    std::jthread thread_{};  // the last member: ends first
};

}  // namespace

std::unique_ptr<ByteSource> read_ahead(std::unique_ptr<ByteSource> source) {
    return std::make_unique<ReadAhead>(std::move(source));
}

}  // namespace fdbroker::records
