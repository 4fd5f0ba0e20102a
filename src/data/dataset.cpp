// Sample index -> mixture slot -> (epoch, position) -> permuted sample -> shard window. Every arrow
// is a pure function, so a resumed run needs nothing but its counter.
// Legend: T sequence length.
#include "core/error.h"
#include "core/rng.h"
#include "data/hash.h"
#include "data/loader.h"
#include "data/mixture.h"

#include <algorithm>
#include <array>

namespace lockstep {
namespace {

// Shards [first, first + ends.size()) of the dataset, shuffled as one.
struct Component {
  std::string pattern;
  std::size_t first = 0;
  std::vector<std::int64_t> ends;  // ends[i]: samples in the shards up to and including the i-th
  std::int64_t samples() const { return ends.empty() ? 0 : ends.back(); }
};

struct Window {
  std::size_t shard = 0;
  std::int64_t begin = 0;  // first token
};

// Which of the component's samples comes at `ordinal` in its endless shuffled stream.
std::int64_t shuffled(std::int64_t ordinal, std::int64_t samples, std::size_t component,
                      std::uint64_t seed) {
  char name[48];
  const auto end =
      fmt::format_to_n(name, sizeof name, "epoch/{}/{}", ordinal / samples, component).out;
  return static_cast<std::int64_t>(permute(static_cast<std::uint64_t>(ordinal % samples),
                                           static_cast<std::uint64_t>(samples),
                                           key_from(seed, std::string_view(name, end))));
}

}  // namespace

struct Dataset::State {
  std::int64_t seq_len = 0;
  std::int64_t vocab = 0;
  std::uint64_t seed = 0;
  std::string split;
  std::vector<Shard> shards;
  std::vector<ShardInfo> infos;
  std::vector<Component> components;
  std::vector<std::int64_t> quotas;  // samples of each component per mixture block

  void open(const std::vector<std::string>& patterns);
  void add_component(const std::string& pattern, const std::vector<std::string>& paths);
  void set_quotas(const std::vector<double>& weights);
  [[noreturn]] void fail_too_short(const Component& component) const;
  Window window(const Component& component, std::int64_t sample) const;
  void read(const Window& window, std::int32_t* inputs, std::int32_t* targets) const;
  void apply_mask(const Shard& shard, std::int64_t begin, std::int32_t* targets) const;
};

void Dataset::State::open(const std::vector<std::string>& patterns) {
  if (patterns.empty()) {
    fail(ExitCode::kConfig, "data.{} names nothing; give shards, globs or a prepare directory",
         split);
  }
  std::vector<double> weights;
  std::vector<std::string> paths;
  for (const std::string& pattern : patterns) {
    const WeightedPattern parsed = parse_pattern(pattern);
    if (parsed.weight > 0.0) weights.push_back(parsed.weight);
    paths.push_back(parsed.path);
  }
  if (!weights.empty() && weights.size() != patterns.size()) {
    fail(ExitCode::kConfig, "data.{}: {} of {} entries have a weight; give all or none a weight",
         split, weights.size(), patterns.size());
  }
  if (weights.empty()) {
    const std::size_t more = patterns.size() - 1;
    add_component(paths.front() + (more > 0 ? fmt::format(" (and {} more)", more) : ""),
                  find_shards(paths, split));
    weights = {1.0};
  } else {
    for (const std::string& path : paths) add_component(path, find_shards({path}, split));
  }
  set_quotas(weights);
}

void Dataset::State::add_component(const std::string& pattern,
                                   const std::vector<std::string>& paths) {
  Component component{pattern, shards.size(), {}};
  for (const std::string& path : paths) {
    shards.emplace_back(path);
    infos.push_back(shards.back().info());
    const std::int64_t tokens = std::max<std::int64_t>(infos.back().tokens - 1, 0);
    component.ends.push_back(component.samples() + tokens / seq_len);
  }
  if (component.samples() == 0) fail_too_short(component);
  components.push_back(std::move(component));
}

void Dataset::State::set_quotas(const std::vector<double>& weights) {
  quotas = mixture_quotas(weights);
  for (std::size_t i = 0; i < quotas.size(); ++i) {
    if (quotas[i] > 0) continue;
    fail(ExitCode::kConfig,
         "data.{}: the weight of '{}' gives it no sample in {}; raise it or leave the entry out",
         split, components[i].pattern, kMixtureBlock);
  }
}

void Dataset::State::fail_too_short(const Component& component) const {
  std::int64_t most = 0;
  for (std::size_t i = component.first; i < infos.size(); ++i) {
    most = std::max(most, infos[i].tokens);
  }
  fail(ExitCode::kData,
       "data.{}: {} is too short for one sample: {} tokens in its largest shard, {} needed "
       "(model.seq_len + 1); lower model.seq_len or bring more text",
       split, component.pattern, most, seq_len + 1);
}

Window Dataset::State::window(const Component& component, std::int64_t sample) const {
  const auto end = std::upper_bound(component.ends.begin(), component.ends.end(), sample);
  const auto shard = static_cast<std::size_t>(end - component.ends.begin());
  const std::int64_t before = shard == 0 ? 0 : component.ends[shard - 1];
  return {component.first + shard, (sample - before) * seq_len};
}

void Dataset::State::read(const Window& window, std::int32_t* inputs, std::int32_t* targets) const {
  const Shard& shard = shards[window.shard];
  const auto length = static_cast<std::size_t>(seq_len);
  shard.read(window.begin, {inputs, length}, vocab);
  std::copy(inputs + 1, inputs + length, targets);
  shard.read(window.begin + seq_len, {targets + length - 1, 1}, vocab);
  if (shard.info().has_mask) apply_mask(shard, window.begin + 1, targets);
}

void Dataset::State::apply_mask(const Shard& shard, std::int64_t begin,
                                std::int32_t* targets) const {
  std::array<std::uint8_t, 1024> mask;
  for (std::int64_t at = 0; at < seq_len; at += static_cast<std::int64_t>(mask.size())) {
    const std::int64_t count = std::min(seq_len - at, static_cast<std::int64_t>(mask.size()));
    shard.read_mask(begin + at, {mask.data(), static_cast<std::size_t>(count)});
    for (std::int64_t i = 0; i < count; ++i) {
      if (mask[static_cast<std::size_t>(i)] == 0) targets[at + i] = -1;
    }
  }
}

Dataset::Dataset(const std::vector<std::string>& patterns, const std::string& split,
                 std::int64_t seq_len, std::int64_t vocab, std::uint64_t seed)
    : state_(std::make_unique<State>()) {
  CHECK(seq_len > 0 && vocab > 0, "seq_len {} vocab {}", seq_len, vocab);
  state_->seq_len = seq_len;
  state_->vocab = vocab;
  state_->seed = seed;
  state_->split = split;
  state_->open(patterns);
}
Dataset::~Dataset() = default;
Dataset::Dataset(Dataset&&) noexcept = default;

std::int64_t Dataset::samples() const {
  std::int64_t total = 0;
  for (const Component& component : state_->components) total += component.samples();
  return total;
}

std::int64_t Dataset::tokens() const { return samples() * state_->seq_len; }

std::int64_t Dataset::seq_len() const { return state_->seq_len; }

const std::vector<ShardInfo>& Dataset::shards() const { return state_->infos; }

std::string Dataset::fingerprint() const {
  Hash128 hash;
  for (std::size_t i = 0; i < state_->components.size(); ++i) {
    const Component& component = state_->components[i];
    hash.add(state_->quotas[i]);  // the order of samples depends on them
    hash.add(static_cast<std::int64_t>(component.ends.size()));
    for (std::size_t shard = 0; shard < component.ends.size(); ++shard) {
      hash.add(state_->shards[component.first + shard].fingerprint());
    }
  }
  return hash.hex();
}

void Dataset::train_sample(std::int64_t index, std::int32_t* inputs, std::int32_t* targets) const {
  CHECK(index >= 0, "sample {}", index);
  const MixtureSlot slot = mixture_slot(index, state_->quotas, state_->seed);
  const Component& component = state_->components[slot.component];
  const std::int64_t sample =
      shuffled(slot.ordinal, component.samples(), slot.component, state_->seed);
  state_->read(state_->window(component, sample), inputs, targets);
}

void Dataset::file_sample(std::int64_t index, std::int32_t* inputs, std::int32_t* targets) const {
  CHECK(index >= 0 && index < samples(), "sample {} of {}", index, samples());
  std::size_t i = 0;
  while (index >= state_->components[i].samples()) index -= state_->components[i++].samples();
  state_->read(state_->window(state_->components[i], index), inputs, targets);
}

}  // namespace lockstep
