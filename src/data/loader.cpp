// The reading-ahead thread: a ring of batches, one being used and `depth` filled or being filled.
// Legend: A accumulation, B micro-batch size, T sequence length, W world size.
#include "data/loader.h"

#include "core/error.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

namespace lockstep {
namespace {

Batch make_batch(std::int64_t rows, std::int64_t seq_len) {
  const auto count = static_cast<std::size_t>(rows * seq_len);
  return {std::vector<std::int32_t>(count, 0), std::vector<std::int32_t>(count, -1)};
}

}  // namespace

struct TrainLoader::State {
  State(const Dataset& dataset_, const Options& options_);
  ~State();

  // Global sample at which this rank's n-th micro-batch begins.
  std::int64_t first_sample_of(std::int64_t n) const;
  void fill(Batch& batch, std::int64_t n) const;
  void run();  // the thread

  const Dataset& dataset;
  const Options options;
  std::vector<Batch> ring;

  std::mutex mutex;
  std::condition_variable changed;
  std::int64_t filled = 0;  // micro-batches the thread has completed
  std::int64_t taken = 0;   // calls of next(): the last taken one is still in use
  bool stopping = false;
  std::exception_ptr error;
  double wait_ms = 0.0;

  std::thread thread;  // last: starts when everything above exists
};

TrainLoader::State::State(const Dataset& dataset_, const Options& options_)
    : dataset(dataset_),
      options(options_),
      ring(static_cast<std::size_t>(options.depth) + 1,
           make_batch(options.micro_batch, dataset.seq_len())),
      thread([this] { run(); }) {}

TrainLoader::State::~State() {
  {
    const std::lock_guard lock(mutex);
    stopping = true;
  }
  changed.notify_all();
  thread.join();
}

std::int64_t TrainLoader::State::first_sample_of(std::int64_t n) const {
  const std::int64_t step = options.overfit ? 0 : n / options.accumulation;
  const std::int64_t origin = options.overfit ? 0 : options.first_sample;
  const std::int64_t micro =
      (step * options.world + options.rank) * options.accumulation + n % options.accumulation;
  return origin + micro * options.micro_batch;
}

void TrainLoader::State::fill(Batch& batch, std::int64_t n) const {
  const std::int64_t first = first_sample_of(n);
  for (std::int64_t row = 0; row < options.micro_batch; ++row) {
    const std::int64_t offset = row * dataset.seq_len();
    dataset.train_sample(first + row, batch.inputs.data() + offset, batch.targets.data() + offset);
  }
}

void TrainLoader::State::run() {
  const auto slots = static_cast<std::int64_t>(ring.size());
  std::unique_lock lock(mutex);
  while (true) {
    // Batch taken - 1 is in use, so the ring has room for slots - 1 more.
    changed.wait(lock, [&] { return stopping || filled - taken < slots - 1; });
    if (stopping) return;
    const std::int64_t n = filled;
    lock.unlock();
    std::exception_ptr thrown;
    try {
      fill(ring[static_cast<std::size_t>(n % slots)], n);
    } catch (...) {
      thrown = std::current_exception();
    }
    lock.lock();
    if (thrown) {
      error = thrown;
    } else {
      ++filled;
    }
    changed.notify_all();
    if (thrown) return;
  }
}

TrainLoader::TrainLoader(const Dataset& dataset, const Options& options) {
  CHECK(options.micro_batch > 0 && options.accumulation > 0 && options.depth > 0,
        "micro_batch {} accumulation {} depth {}", options.micro_batch, options.accumulation,
        options.depth);
  CHECK(options.rank >= 0 && options.rank < options.world, "rank {} of {}", options.rank,
        options.world);
  CHECK(options.first_sample >= 0, "first_sample {}", options.first_sample);
  state_ = std::make_unique<State>(dataset, options);
}
TrainLoader::~TrainLoader() = default;

const Batch& TrainLoader::next() {
  State& state = *state_;
  const auto start = std::chrono::steady_clock::now();
  std::unique_lock lock(state.mutex);
  state.changed.wait(lock, [&] { return state.filled > state.taken || state.error; });
  const auto waited = std::chrono::steady_clock::now() - start;
  state.wait_ms += std::chrono::duration<double, std::milli>(waited).count();
  if (state.filled == state.taken) std::rethrow_exception(state.error);
  const std::int64_t n = state.taken++;
  state.changed.notify_all();
  return state.ring[static_cast<std::size_t>(n % static_cast<std::int64_t>(state.ring.size()))];
}

double TrainLoader::wait_ms() const {
  const std::lock_guard lock(state_->mutex);
  return state_->wait_ms;
}

Batch eval_batch(const Dataset& dataset, std::int64_t first, std::int64_t count,
                 std::int64_t micro_batch, std::int64_t seq_len) {
  CHECK(seq_len == dataset.seq_len(), "seq_len {} of a dataset of {}", seq_len, dataset.seq_len());
  CHECK(count >= 0 && count <= micro_batch, "{} of {} rows", count, micro_batch);
  Batch batch = make_batch(micro_batch, seq_len);
  for (std::int64_t row = 0; row < count; ++row) {
    const std::int64_t offset = row * seq_len;
    dataset.file_sample(first + row, batch.inputs.data() + offset, batch.targets.data() + offset);
  }
  return batch;
}

}  // namespace lockstep
