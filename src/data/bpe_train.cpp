// Pieces are counted in tables of the threads that add text, joined at the end, and merged through
// a heap of pair counts: a merge visits only the words that hold its pair. Ties go to the pair with
// the smaller ids, so the result is a function of the counts alone.
#include "data/bpe_train.h"

#include "core/error.h"
#include "core/utf8.h"
#include "data/bpe_file.h"
#include "data/byte_alphabet.h"
#include "data/json_checks.h"
#include "data/text_splitter.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

namespace lockstep {
namespace {

constexpr std::size_t kBytes = 256;
constexpr std::int64_t kMaxVocab = 1 << 24;
// Longer pieces are counted in parts: merging within a word costs its length.
constexpr std::size_t kMaxWord = 1024;
constexpr std::int64_t kProgressEvery = 256;

struct ViewHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>()(text);
  }
};
using Counts = std::unordered_map<std::string, std::int64_t, ViewHash, std::equal_to<>>;

using Pair = std::pair<std::int32_t, std::int32_t>;
struct PairHash {
  std::size_t operator()(const Pair& pair) const {
    const std::uint64_t both =
        static_cast<std::uint64_t>(pair.first) << 32 | static_cast<std::uint32_t>(pair.second);
    return both * 0x9e3779b97f4a7c15ULL >> 16;
  }
};

struct Word {
  std::vector<std::int32_t> ids;
  std::int64_t count = 0;
};

struct Candidate {
  std::int64_t count = 0;
  Pair pair;
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

// The words and where their pairs are.
class Merger {
 public:
  explicit Merger(std::vector<Word> words) : words_(std::move(words)) {
    for (std::size_t word = 0; word < words_.size(); ++word) {
      count_pairs(word, +1);
      list_pairs(word, kAnyId);
    }
    push_touched();
  }

  // The most frequent pair; false if there is none left.
  bool next(Pair& pair) {
    while (!heap_.empty()) {
      const Candidate top = heap_.top();
      heap_.pop();
      const auto found = stats_.find(top.pair);
      const std::int64_t now = found == stats_.end() ? 0 : found->second.count;
      pair = top.pair;
      if (now > 0 && now == top.count) return true;
      if (now > 0 && now < top.count) heap_.push({now, top.pair});
    }
    return false;
  }

  void merge(const Pair& pair, std::int32_t id) {
    const std::vector<std::uint32_t> places = std::move(stats_[pair].words);
    for (const std::uint32_t word : places) {
      if (!holds(words_[word].ids, pair)) continue;
      count_pairs(word, -1);
      replace(words_[word].ids, pair, id);
      count_pairs(word, +1);
      list_pairs(word, id);
    }
    stats_.erase(pair);
    push_touched();
  }

 private:
  static constexpr std::int32_t kAnyId = -1;
  struct Stat {
    std::int64_t count = 0;
    std::vector<std::uint32_t> words;  // all that hold the pair; some may have lost it
  };

  void count_pairs(std::size_t word, int sign) {
    const Word& now = words_[word];
    for (std::size_t i = 0; i + 1 < now.ids.size(); ++i) {
      stats_[{now.ids[i], now.ids[i + 1]}].count += sign * now.count;
    }
  }

  // Notes the word at its pairs with `id`.
  void list_pairs(std::size_t word, std::int32_t id) {
    const std::vector<std::int32_t>& ids = words_[word].ids;
    const auto place = static_cast<std::uint32_t>(word);
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      if (id != kAnyId && ids[i] != id && ids[i + 1] != id) continue;
      const Pair pair{ids[i], ids[i + 1]};
      Stat& stat = stats_[pair];
      if (!stat.words.empty() && stat.words.back() == place) continue;
      stat.words.push_back(place);
      touched_.push_back(pair);
    }
  }

  static bool holds(const std::vector<std::int32_t>& ids, const Pair& pair) {
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      if (ids[i] == pair.first && ids[i + 1] == pair.second) return true;
    }
    return false;
  }

  static void replace(std::vector<std::int32_t>& ids, const Pair& pair, std::int32_t id) {
    std::size_t out = 0;
    for (std::size_t i = 0; i < ids.size(); ++out) {
      const bool here = i + 1 < ids.size() && ids[i] == pair.first && ids[i + 1] == pair.second;
      ids[out] = here ? id : ids[i];
      i += here ? 2 : 1;
    }
    ids.resize(out);
  }

  void push_touched() {
    std::sort(touched_.begin(), touched_.end());
    touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
    for (const Pair& pair : touched_) heap_.push({stats_[pair].count, pair});
    touched_.clear();
  }

  std::vector<Word> words_;
  std::unordered_map<Pair, Stat, PairHash> stats_;
  std::priority_queue<Candidate> heap_;
  std::vector<Pair> touched_;
};

// What one call of add() needs; kept for the next one.
struct Counter : SplitSink {
  void piece(std::string_view bytes) override {
    for (std::size_t pos = 0; pos < bytes.size(); pos += kMaxWord) {
      const std::string_view part = bytes.substr(pos, kMaxWord);
      const auto found = counts.find(part);
      if (found != counts.end()) {
        ++found->second;
      } else {
        counts.emplace(part, 1);
      }
    }
  }
  void token(std::int32_t /*id*/) override {}

  SplitScratch scratch;
  Counts counts;
};

void check_options(const BpeTrainOptions& options) {
  const auto& names = pre_tokenizer_names();
  if (std::find(names.begin(), names.end(), options.pre_tokenizer) == names.end()) {
    const std::string near = nearest(options.pre_tokenizer, names);
    fail(ExitCode::kUsage, "unknown pre-tokenizer '{}'{}; known: gpt2, qwen2, llama3, deepseek",
         shown(options.pre_tokenizer), near.empty() ? "" : "; did you mean '" + near + "'?");
  }
  if (options.vocab < static_cast<std::int64_t>(kBytes) + 1 || options.vocab > kMaxVocab) {
    fail(ExitCode::kUsage,
         "a vocabulary of {} entries; give 257 (the bytes and the end-of-text token) to {}",
         options.vocab, kMaxVocab);
  }
  if (options.eos_token.empty() ||
      valid_stretch(options.eos_token, 0) != options.eos_token.size()) {
    fail(ExitCode::kUsage, "the end-of-text token of a vocabulary must be UTF-8 text, not empty");
  }
}

}  // namespace

struct BpeTrainer::State {
  explicit State(const BpeTrainOptions& given)
      : options(given),
        splitter(PreTokenizer(pre_tokenizer_json(given.pre_tokenizer), "pre-tokenizer"),
                 normalizer_json(given.pre_tokenizer) != "null", {eos()}, "pre-tokenizer") {}

  AddedToken eos() const {
    AddedToken token;
    token.text = options.eos_token;
    token.special = true;
    return token;
  }

  std::vector<Word> take_words();
  TokenTable first_table() const;

  BpeTrainOptions options;
  TextSplitter splitter;
  std::mutex mutex;
  std::vector<std::unique_ptr<Counter>> idle;
};

// All counted words in byte order, their bytes as the first ids.
std::vector<Word> BpeTrainer::State::take_words() {
  Counts all;
  for (const auto& counter : idle) {
    if (all.empty()) {
      all.swap(counter->counts);
      continue;
    }
    for (const auto& [text, count] : counter->counts) all[text] += count;
    counter->counts = {};
  }
  std::vector<std::pair<std::string_view, std::int64_t>> sorted(all.begin(), all.end());
  std::sort(sorted.begin(), sorted.end());
  const std::array<std::uint8_t, kBytes> order = alphabet_order();
  std::array<std::int32_t, kBytes> id_of_byte{};
  for (std::size_t id = 0; id < kBytes; ++id) id_of_byte[order[id]] = static_cast<std::int32_t>(id);
  std::vector<Word> words;
  words.reserve(sorted.size());
  for (const auto& [text, count] : sorted) {
    Word& word = words.emplace_back();
    word.count = count;
    for (const char byte : text) {
      word.ids.push_back(id_of_byte[static_cast<unsigned char>(byte)]);
    }
  }
  return words;
}

TokenTable BpeTrainer::State::first_table() const {
  TokenTable table;
  for (const std::uint8_t byte : alphabet_order()) {
    const char value = static_cast<char>(byte);
    table.entries.push_back({to_alphabet({&value, 1}), TokenTable::Kind::kNormal});
  }
  table.pre_tokenizer = options.pre_tokenizer;
  return table;
}

BpeTrainer::BpeTrainer(const BpeTrainOptions& options) {
  check_options(options);
  state_ = std::make_unique<State>(options);
}

BpeTrainer::~BpeTrainer() = default;

std::size_t BpeTrainer::safe_cut(std::string_view text) const {
  return state_->splitter.safe_cut(text);
}

void BpeTrainer::add(std::string_view text) {
  std::unique_ptr<Counter> counter;
  {
    const std::lock_guard lock(state_->mutex);
    if (!state_->idle.empty()) {
      counter = std::move(state_->idle.back());
      state_->idle.pop_back();
    }
  }
  if (counter == nullptr) counter = std::make_unique<Counter>();
  state_->splitter.split(text, counter->scratch, *counter);
  const std::lock_guard lock(state_->mutex);
  state_->idle.push_back(std::move(counter));
}

std::string BpeTrainer::finish(const std::function<void(std::int64_t, std::int64_t)>& on_progress) {
  const BpeTrainOptions& options = state_->options;
  TokenTable table = state_->first_table();
  std::unordered_map<std::string, std::int32_t> ids;  // two pairs may spell the same token
  Merger merger(state_->take_words());
  const auto last = static_cast<std::size_t>(options.vocab) - 1;
  const auto wanted = static_cast<std::int64_t>(last - kBytes);
  while (table.entries.size() < last) {
    const auto done = static_cast<std::int64_t>(table.entries.size() - kBytes);
    if (on_progress && done % kProgressEvery == 0) on_progress(done, wanted);
    Pair pair;
    if (!merger.next(pair)) {
      fail(ExitCode::kData,
           "the text allows a vocabulary of {} entries only, not {}; give more text or ask for "
           "fewer entries",
           table.entries.size() + 1, options.vocab);
    }
    const std::string left = table.entries[static_cast<std::size_t>(pair.first)].text;
    const std::string right = table.entries[static_cast<std::size_t>(pair.second)].text;
    const auto [known, is_new] =
        ids.try_emplace(left + right, static_cast<std::int32_t>(table.entries.size()));
    if (is_new) table.entries.push_back({left + right, TokenTable::Kind::kNormal});
    table.merges.emplace_back(left, right);
    merger.merge(pair, known->second);
  }
  if (on_progress) on_progress(wanted, wanted);
  if (ids_of(table).contains(options.eos_token)) {
    fail(ExitCode::kUsage, "the end-of-text token '{}' is also an ordinary token; name another",
         shown(options.eos_token));
  }
  table.entries.push_back({options.eos_token, TokenTable::Kind::kSpecial});
  return compose_tokenizer(table, pre_tokenizer_json(options.pre_tokenizer),
                           normalizer_json(options.pre_tokenizer), /*ignore_merges=*/false);
}

std::string BpeTrainer::config_text() const {
  TokenTable table;
  table.entries.push_back({state_->options.eos_token, TokenTable::Kind::kSpecial});
  table.eos = 0;
  return compose_config(table);
}

}  // namespace lockstep
