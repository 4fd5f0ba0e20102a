// Documents -> tokens -> shards, a chunk at a time: memory does not grow with the text.
#include "data/prepare.h"

#include "core/error.h"
#include "data/prepared.h"
#include "data/shard.h"
#include "data/staging.h"
#include "data/text_input.h"
#include "data/tokenizer.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>

namespace lockstep {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 20;
constexpr std::int64_t kMaxUint16Vocab = 65536;

void check_options(const PrepareOptions& options) {
  if (options.out.empty()) fail(ExitCode::kUsage, "--out is empty; name a directory");
  if (!(options.val_fraction >= 0.0 && options.val_fraction < 1.0)) {
    fail(ExitCode::kUsage, "--val-fraction {}: must be at least 0 and below 1",
         options.val_fraction);
  }
  if (options.shard_tokens < 1) {
    fail(ExitCode::kUsage, "--shard-tokens {}: must be at least 1", options.shard_tokens);
  }
}

// The shards of one split, each of `limit` tokens but the last.
class ShardSeries {
 public:
  ShardSeries(const Staging& staging, std::string split, int bytes_per_token, std::int64_t limit)
      : staging_(staging),
        split_(std::move(split)),
        bytes_per_token_(bytes_per_token),
        limit_(limit) {}

  void append(std::span<const std::int32_t> tokens) {
    while (!tokens.empty()) {
      if (!writer_) open();
      const auto room = static_cast<std::size_t>(limit_ - writer_->tokens());
      const std::size_t count = std::min(room, tokens.size());
      writer_->append(tokens.first(count));
      tokens = tokens.subspan(count);
      tokens_ += static_cast<std::int64_t>(count);
      if (writer_->tokens() == limit_) finish();
    }
  }
  void finish() {
    if (writer_) writer_->close();
    writer_.reset();
  }
  std::int64_t tokens() const { return tokens_; }
  const std::vector<std::string>& names() const { return names_; }

 private:
  void open() {
    names_.push_back(shard_name(split_, static_cast<std::int64_t>(names_.size())));
    writer_ = std::make_unique<ShardWriter>(staging_.path(names_.back()), bytes_per_token_,
                                            /*with_mask=*/false);
  }

  const Staging& staging_;
  std::string split_;
  int bytes_per_token_;
  std::int64_t limit_;
  std::unique_ptr<ShardWriter> writer_;
  std::vector<std::string> names_;
  std::int64_t tokens_ = 0;
};

// Calls back about ten times a second, and whenever asked to.
class Progress {
 public:
  explicit Progress(const PrepareOptions& options) : callback_(options.on_progress) {}
  void now(std::int64_t done, std::int64_t total) {
    last_ = std::chrono::steady_clock::now();
    if (callback_) callback_(done, total);
  }
  void maybe(std::int64_t done, std::int64_t total) {
    if (std::chrono::steady_clock::now() - last_ >= std::chrono::milliseconds(100)) {
      now(done, total);
    }
  }

 private:
  const std::function<void(std::int64_t, std::int64_t)>& callback_;
  std::chrono::steady_clock::time_point last_;
};

// Reads documents and hands their tokens to the series they belong to.
class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, std::int64_t total, Progress& progress)
      : tokenizer_(tokenizer), total_(total), progress_(progress), chunk_(kChunkBytes) {}
  // Bytes [begin, end) of the document.
  void encode(ShardSeries& out, const TextInput& input, std::int64_t begin, std::int64_t end) {
    const OpenFile file = open_for_read(input.path, "a text file");
    while (begin < end) {
      const auto size = std::min(end - begin, static_cast<std::int64_t>(chunk_.size()));
      read_at(file.fd, chunk_.data(), static_cast<std::size_t>(size), begin, input.name);
      ids_.clear();
      tokenizer_.encode({chunk_.data(), static_cast<std::size_t>(size)}, ids_);
      out.append(ids_);
      begin += size;
      done_ += size;
      progress_.maybe(done_, total_);
    }
  }
  void end_document(ShardSeries& out) {
    const std::int32_t end = tokenizer_.end_of_text();
    if (end >= 0) out.append({&end, 1});
  }

 private:
  const Tokenizer& tokenizer_;
  std::int64_t total_;
  Progress& progress_;
  std::vector<char> chunk_;
  std::vector<std::int32_t> ids_;
  std::int64_t done_ = 0;
};

void spool_pipes(std::vector<TextInput>& inputs, const Staging& staging, Progress& progress) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].bytes >= 0) continue;
    spool(inputs[i], staging.path(fmt::format("spooled_{}", i)),
          [&](std::int64_t copied) { progress.maybe(copied, /*total=*/-1); });
  }
}

void encode_all(ShardSeries& train, ShardSeries& val, Encoder& encoder,
                const std::vector<TextInput>& inputs, double val_fraction) {
  if (inputs.size() == 1) {
    const TextInput& only = inputs.front();
    const std::int64_t cut = tail_begin(only, val_fraction);
    encoder.encode(train, only, 0, cut);
    encoder.encode(val, only, cut, only.bytes);
    encoder.end_document(cut < only.bytes ? val : train);
    return;
  }
  const std::vector<bool> held_out = choose_validation(inputs, val_fraction);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    ShardSeries& out = held_out[i] ? val : train;
    encoder.encode(out, inputs[i], 0, inputs[i].bytes);
    encoder.end_document(out);
  }
}

void save_tokenizer(const Staging& staging, const Tokenizer& tokenizer) {
  const std::string directory = staging.path(kTokenizerDirectory);
  std::error_code error;
  std::filesystem::create_directory(directory, error);
  if (error) fail_write(directory, error.value());
  tokenizer.save(directory);
  sync_directory(directory);
}

}  // namespace

PrepareResult prepare(const PrepareOptions& options) {
  check_options(options);
  const auto tokenizer = open_tokenizer(options.tokenizer);
  std::vector<TextInput> inputs = find_inputs(options.inputs);
  Staging staging(options.out, options.overwrite);
  Progress progress(options);
  spool_pipes(inputs, staging, progress);

  PrepareResult result;
  result.documents = static_cast<std::int64_t>(inputs.size());
  for (const TextInput& input : inputs) result.bytes += input.bytes;
  result.vocab = tokenizer->vocab_size();

  const int bytes_per_token = result.vocab <= kMaxUint16Vocab ? 2 : 4;
  ShardSeries train(staging, "train", bytes_per_token, options.shard_tokens);
  ShardSeries val(staging, "val", bytes_per_token, options.shard_tokens);
  progress.now(0, result.bytes);
  Encoder encoder(*tokenizer, result.bytes, progress);
  encode_all(train, val, encoder, inputs, options.val_fraction);
  train.finish();
  val.finish();
  save_tokenizer(staging, *tokenizer);
  progress.now(result.bytes, result.bytes);

  std::vector<std::string> names = train.names();
  names.insert(names.end(), val.names().begin(), val.names().end());
  for (const std::string& name : names) {
    result.shards.push_back((std::filesystem::path(options.out) / name).string());
  }
  names.emplace_back(kTokenizerDirectory);
  staging.publish(names);
  result.train_tokens = train.tokens();
  result.val_tokens = val.tokens();
  return result;
}

}  // namespace lockstep
