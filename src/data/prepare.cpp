// Documents -> tokens -> shards, a piece at a time: memory does not grow with the text. This thread
// reads and writes, the others encode; pieces are written in the order in which they were read.
#include "data/prepare.h"

#include "core/error.h"
#include "data/document_encoder.h"
#include "data/ordered_pool.h"
#include "data/prepare_tokenizer.h"
#include "data/prepared.h"
#include "data/staging.h"
#include "files/durable.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <thread>

namespace lockstep {
namespace {

constexpr std::int64_t kMaxUint16Vocab = 65536;
constexpr int kMaxThreads = 1024;

void check_options(const PrepareOptions& options) {
  if (options.out.empty()) fail(ExitCode::kUsage, "--out is empty; name a directory");
  if (!(options.val_fraction >= 0.0 && options.val_fraction < 1.0)) {
    fail(ExitCode::kUsage, "--val-fraction {}: must be at least 0 and below 1",
         options.val_fraction);
  }
  if (options.shard_tokens < 1) {
    fail(ExitCode::kUsage, "--shard-tokens {}: must be at least 1", options.shard_tokens);
  }
  if (options.threads < 0 || options.threads > kMaxThreads) {
    fail(ExitCode::kUsage, "--threads {}: must be between 1 and {}, or 0 for all cores",
         options.threads, kMaxThreads);
  }
  if (options.text_field.empty()) {
    fail(ExitCode::kUsage, "--text-field is empty; name the member that holds the text");
  }
}

int threads_of(const PrepareOptions& options) {
  if (options.threads > 0) return options.threads;
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads);
}

// Bytes of files that are done, reported about ten times a second.
class Progress {
 public:
  explicit Progress(const PrepareOptions& options) : callback_(options.on_progress) {}
  void begin(std::int64_t total) {
    total_ = total;
    now();
  }
  void add(std::int64_t bytes) {
    done_ += bytes;
    poll();
  }
  // Reports what is known already; gives the callback an occasion to throw.
  void poll() {
    if (std::chrono::steady_clock::now() - last_ >= std::chrono::milliseconds(100)) now();
  }
  void spooled(std::int64_t bytes) {
    done_ = bytes;
    poll();
    done_ = 0;
  }
  void finish() {
    done_ = total_;
    now();
  }

 private:
  void now() {
    last_ = std::chrono::steady_clock::now();
    if (callback_) callback_(std::min(done_, total_ < 0 ? done_ : total_), total_);
  }

  const std::function<void(std::int64_t, std::int64_t)>& callback_;
  std::chrono::steady_clock::time_point last_;
  std::int64_t done_ = 0;
  std::int64_t total_ = -1;
};

void spool_pipes(std::vector<TextInput>& inputs, const Staging& staging, Progress& progress) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].stored >= 0) continue;
    spool(inputs[i], staging.path(fmt::format("spooled_{}", i)),
          [&](std::int64_t copied) { progress.spooled(copied); });
  }
}

bool needs_measure(const TextInput& input) {
  return input.format == TextFormat::kText && input.bytes < 0;
}

std::int64_t bytes_to_read(const std::vector<TextInput>& inputs, int passes) {
  std::int64_t bytes = 0;
  for (const TextInput& input : inputs) {
    bytes += input.stored * (passes + (needs_measure(input) ? 1 : 0));
  }
  return bytes;
}

void measure_texts(std::vector<TextInput>& inputs, Progress& progress) {
  for (TextInput& input : inputs) {
    if (!needs_measure(input)) continue;
    std::int64_t before = 0;
    measure(input, [&](std::int64_t read) { progress.add(read - std::exchange(before, read)); });
  }
}

// One pass over the corpus: `work` runs on the threads, `use` here, in order.
class Pass {
 public:
  using Work = std::function<EncodedPiece(CorpusJob&)>;
  using Use = std::function<void(const EncodedPiece&)>;
  Pass(const std::vector<TextInput>& inputs, Progress& progress, int threads, Work work, Use use)
      : inputs_(inputs),
        progress_(progress),
        most_jobs_(2 * static_cast<std::size_t>(threads)),
        use_(std::move(use)),
        pool_(threads, std::move(work)) {}

  void run(CorpusReader& reader) {
    CorpusJob job;
    while (next(reader, job)) {
      const std::size_t weight = job.piece.bytes.size();
      while (pool_.size() > most_jobs_ || pool_.weight() + weight > kLargestPiece) {
        if (pool_.size() == 0) break;
        take();
      }
      pool_.give(std::move(job), weight);
    }
    take_all();
    if (documents_ > 0) return;
    fail(ExitCode::kData, "{}: no document in it: every line is blank or its text is empty",
         inputs_.front().name);
  }

 private:
  // What is wrong earlier in the corpus is reported first, at any number of threads.
  bool next(CorpusReader& reader, CorpusJob& job) {
    try {
      return reader.next(job);
    } catch (const UserError&) {
      take_all();
      throw;
    }
  }
  void take_all() {
    while (pool_.size() > 0) take();
  }
  void take() {
    const EncodedPiece piece = pool_.take();
    documents_ += piece.documents;
    use_(piece);
    progress_.add(piece.stored);
  }

  const std::vector<TextInput>& inputs_;
  Progress& progress_;
  std::size_t most_jobs_;
  Use use_;
  std::int64_t documents_ = 0;
  OrderedPool<CorpusJob, EncodedPiece> pool_;
};

void save_tokenizer(const Staging& staging, const Tokenizer& tokenizer) {
  const std::string directory = staging.path(kTokenizerDirectory);
  make_directories(directory);
  tokenizer.save(directory);
  sync_directory(directory);
}

void describe_tokenizer(PrepareResult& result, const Tokenizer& tokenizer) {
  result.vocab = tokenizer.vocab_size();
  const std::int32_t end = tokenizer.end_of_text();
  if (end >= 0) result.end_of_text = tokenizer.decode({end});
  result.prefix = tokenizer.decode(tokenizer.prefix_tokens());
}

// The steps of one run, over what they share.
class Preparation {
 public:
  Preparation(const PrepareOptions& options, int threads, std::vector<TextInput> inputs)
      : options_(options),
        threads_(threads),
        progress_(options),
        inputs_(std::move(inputs)),
        staging_(options.out, options.overwrite) {}

  PrepareResult run(PrepareTokenizer source) {
    spool_pipes(inputs_, staging_, progress_);
    empty_files_ = drop_empty(inputs_);
    require_encoding(source);
    progress_.begin(bytes_to_read(inputs_, source.trainer ? 2 : 1));
    measure_texts(inputs_, progress_);
    empty_files_ += drop_empty(inputs_);
    split_ = choose_split(inputs_, options_.val_fraction, options_.text_field,
                          [&](std::int64_t) { progress_.poll(); });
    if (source.trainer) source.tokenizer = train(*source.trainer);
    return encode(*source.tokenizer);
  }

 private:
  // Bytes are bytes, but JSON is UTF-8 always.
  void require_encoding(const PrepareTokenizer& source) const {
    const bool bytes = source.tokenizer != nullptr && source.tokenizer->name() == "byte";
    for (const TextInput& input : inputs_) {
      if (!bytes || input.format == TextFormat::kLines) require_utf8(input);
    }
  }

  std::unique_ptr<Tokenizer> train(BpeTrainer& trainer) {
    const DocumentEncoder documents(inputs_, split_, options_.text_field);
    CorpusReader reader(inputs_, split_,
                        [&](std::string_view text) { return trainer.safe_cut(text); });
    Pass pass(
        inputs_, progress_, threads_,
        [&](CorpusJob& job) {
          return documents.visit(job, [&](std::string_view text) { trainer.add(text); });
        },
        [](const EncodedPiece&) {});
    pass.run(reader);
    const std::string model = trainer.finish([&](std::int64_t, std::int64_t) { progress_.poll(); });
    return parse_tokenizer(model, trainer.config_text(), options_.tokenizer);
  }

  PrepareResult encode(const Tokenizer& tokenizer) {
    const int bytes_per_token = tokenizer.vocab_size() <= kMaxUint16Vocab ? 2 : 4;
    ShardSeries train(staging_, "train", bytes_per_token, options_.shard_tokens);
    ShardSeries val(staging_, "val", bytes_per_token, options_.shard_tokens);
    PrepareResult result;
    describe_tokenizer(result, tokenizer);
    result.empty_documents = empty_files_;
    const DocumentEncoder documents(inputs_, split_, options_.text_field);
    CorpusReader reader(inputs_, split_,
                        [&](std::string_view text) { return tokenizer.safe_cut(text); });
    Pass pass(
        inputs_, progress_, threads_,
        [&](CorpusJob& job) { return documents.encode(job, tokenizer); },
        [&](const EncodedPiece& piece) {
          train.append(piece.train);
          val.append(piece.val);
          result.documents += piece.documents;
          result.empty_documents += piece.empty_documents;
          result.replaced += piece.replaced;
          result.bytes += piece.bytes;
        });
    pass.run(reader);
    result.dropped_bytes = tokenizer.dropped_bytes();
    train.finish();
    val.finish();
    save_tokenizer(staging_, tokenizer);
    progress_.finish();
    publish(result, train, val);
    return result;
  }

  void publish(PrepareResult& result, const ShardSeries& train, const ShardSeries& val) {
    std::vector<std::string> names;
    for (const ShardSeries* series : {&train, &val}) {
      for (const std::string& name : series->names()) names.push_back(name);
      for (const std::string& name : series->shard_names()) {
        result.shards.push_back((std::filesystem::path(options_.out) / name).string());
      }
    }
    names.emplace_back(kTokenizerDirectory);
    staging_.publish(names);
    result.train_tokens = train.tokens();
    result.val_tokens = val.tokens();
    result.masked_tokens = train.masked() + val.masked();
  }

  const PrepareOptions& options_;
  int threads_;
  Progress progress_;
  std::vector<TextInput> inputs_;
  Staging staging_;
  Split split_;
  std::int64_t empty_files_ = 0;
};

}  // namespace

PrepareResult prepare(const PrepareOptions& options) {
  check_options(options);
  const int threads = threads_of(options);
  PrepareTokenizer source = open_prepare_tokenizer(options);
  Preparation preparation(options, threads, find_inputs(options.inputs));
  return preparation.run(std::move(source));
}

}  // namespace lockstep
