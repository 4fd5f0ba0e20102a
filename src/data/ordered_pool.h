// Work for several threads whose results come back in the order in which it was given: what is made
// of them does not depend on the number of threads. The caller's own thread gives and takes.
#pragma once

#include "core/error.h"

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

namespace lockstep {

template <typename In, typename Out>
class OrderedPool {
 public:
  // `work` runs on the threads; what it throws is thrown again by take().
  OrderedPool(int threads, std::function<Out(In&)> work) : work_(std::move(work)) {
    for (int i = 0; i < threads; ++i) start();
  }
  // Abandons what no thread has begun.
  ~OrderedPool() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  OrderedPool(const OrderedPool&) = delete;
  OrderedPool& operator=(const OrderedPool&) = delete;

  // `weight`: bytes that the job holds, for weight().
  void give(In in, std::size_t weight) {
    auto job = std::make_shared<Job>();
    job->in.emplace(std::move(in));
    job->weight = weight;
    weight_ += weight;
    order_.push_back(job);
    {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(std::move(job));
    }
    wake_.notify_one();
  }
  // Jobs given and not yet taken, and their bytes.
  std::size_t size() const { return order_.size(); }
  std::size_t weight() const { return weight_; }
  // The result of the oldest job, once it is there.
  Out take() {
    CHECK(!order_.empty());
    const std::shared_ptr<Job> job = std::move(order_.front());
    order_.pop_front();
    weight_ -= job->weight;
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [&] { return job->done; });
    if (job->error) std::rethrow_exception(job->error);
    return std::move(*job->out);
  }

 private:
  struct Job {
    std::optional<In> in;
    std::optional<Out> out;
    std::exception_ptr error;
    std::size_t weight = 0;
    bool done = false;
  };

  // Where the system allows no more threads, those that run must do.
  void start() {
    try {
      threads_.emplace_back([this] { run(); });
    } catch (const std::system_error& error) {
      if (threads_.empty()) fail(ExitCode::kIo, "cannot start a thread: {}", error.what());
    }
  }
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      const std::shared_ptr<Job> job = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      try {
        job->out.emplace(work_(*job->in));
      } catch (...) {
        job->error = std::current_exception();
      }
      job->in.reset();
      lock.lock();
      job->done = true;
      finished_.notify_one();
    }
  }

  std::function<Out(In&)> work_;
  std::deque<std::shared_ptr<Job>> order_;  // the caller's
  std::size_t weight_ = 0;
  std::mutex mutex_;  // guards what follows, and `done` of each job
  std::condition_variable wake_;
  std::condition_variable finished_;
  std::deque<std::shared_ptr<Job>> waiting_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;  // last: they use all of the above
};

}  // namespace lockstep
