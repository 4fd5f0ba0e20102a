// The registry: every field has a key, the dump reloads to the same bits, differences and
// suggestions name what they should.
#include "app/config.h"

#include "app/support.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>

namespace lockstep {
namespace {

using test::catch_error;
using test::Caught;

// Number of fields per section; a structured binding does not compile with any other number, so a
// field that is added to Options cannot be forgotten in the registry.
std::map<std::string, int> field_counts(const Options& o) {
  const auto& [run, model, data, train, optimizer, precision, comm, memory, checkpoint, eval, log] =
      o;
  [[maybe_unused]] const auto& [r1, r2, r3, r4, r5, r6] = run;
  [[maybe_unused]] const auto& [m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15,
                                m16, m17, m18, own_keys_of_families] = model;
  [[maybe_unused]] const auto& [d1, d2, d3, d4, d5] = data;
  [[maybe_unused]] const auto& [t1, t2, t3, t4, t5, t6, t7, t8] = train;
  [[maybe_unused]] const auto& [o1, o2, o3, o4, o5, o6, o7, o8, o9, o10, o11] = optimizer;
  [[maybe_unused]] const auto& [p1, p2, p3, p4, p5, p6] = precision;
  [[maybe_unused]] const auto& [c1, c2, c3, c4, c5, c6] = comm;
  [[maybe_unused]] const auto& [y1] = memory;
  [[maybe_unused]] const auto& [k1, k2, k3, k4, k5, k6, k7] = checkpoint;
  [[maybe_unused]] const auto& [e1, e2] = eval;
  [[maybe_unused]] const auto& [l1] = log;
  return {{"run", 6},        {"model", 18},    {"data", 5}, {"train", 8},
          {"optimizer", 11}, {"precision", 6}, {"comm", 6}, {"memory", 1},
          {"checkpoint", 7}, {"eval", 2},      {"log", 1}};
}

const void* address_of(const ConfigKey& key) {
  struct Address {
    const void* operator()(const void* target) const { return target; }
    const void* operator()(const Choice& choice) const { return choice.target; }
    const void* operator()(const ChoiceOrNumber& choice) const { return choice.target; }
  };
  return std::visit(Address{}, key.target);
}

TEST(Config, EveryFieldHasExactlyOneKey) {
  Options options;
  const ConfigRegistry registry(options);
  std::map<std::string, int> counts;
  std::set<const void*> addresses;
  std::set<std::string> names;
  for (const ConfigKey& key : registry.keys()) {
    ++counts[key.section];
    EXPECT_TRUE(addresses.insert(address_of(key)).second) << key.full();
    EXPECT_TRUE(names.insert(key.full()).second) << key.full();
    EXPECT_FALSE(key.description.empty()) << key.full();
    EXPECT_TRUE(key.source.empty()) << key.full();
  }
  EXPECT_EQ(counts, field_counts(options));
}

TEST(Config, DefaultsObeyTheirOwnRules) {
  Options options;
  ConfigRegistry registry(options);
  const std::string before = registry.dump();
  registry.load_text(before, "defaults.toml");
  EXPECT_EQ(registry.dump(), before);
}

// A value far from the default for every key; doubles whose shortest decimals are awkward.
void set_unusual(Options& o) {
  o.run = {.dir = "runs/a \"b\" \\c\t\x01\x7f/\u00e9",
           .name = "n",
           .seed = 9007199254740993u,
           .device = "cpu",
           .deterministic = true,
           .threads = 3};
  o.model.preset = "gpt2-124m";
  o.model.layers = 3;
  o.model.norm_eps = 0.1 + 0.2;
  o.model.attention_bias = "true";
  o.data.train = {"a,b.bin", "0.7:x/*.bin"};
  o.data.val = {};
  o.optimizer.clip_grad = 1.0 / 3.0;
  o.train.time_limit_minutes = 12.5;
  o.train.epochs = 1.7976931348623157e308;
  o.optimizer.lr = 1.1754943508222875e-38;
  o.optimizer.eps = 3.4028234663852886e38;
  o.optimizer.beta1 = 0.9999999403953552;
  o.optimizer.weight_decay = 123456789012345680.0;
  o.precision.loss_scale = 1024.0;
  o.comm.overlap = false;
  o.comm.bucket_mib = 1e-7;
  o.checkpoint.resume = "runs/old";
}

TEST(Config, DumpReloadsToTheSameBits) {
  Options options;
  set_unusual(options);
  const ConfigRegistry registry(options);
  Options loaded;
  ConfigRegistry loader(loaded);
  loader.load_text(registry.dump(), "dump.toml");
  EXPECT_TRUE(config_differences(options, loaded).empty());
  EXPECT_EQ(loader.dump(), registry.dump());
  EXPECT_EQ(loaded.run.dir, options.run.dir);
  EXPECT_EQ(loaded.run.seed, options.run.seed);
  EXPECT_EQ(loaded.data.train, options.data.train);
  for (std::size_t i = 0; i < registry.keys().size(); ++i) {
    const auto* before = std::get_if<double*>(&registry.keys()[i].target);
    if (before == nullptr) continue;
    const double after = *std::get<double*>(loader.keys()[i].target);
    EXPECT_EQ(std::bit_cast<std::uint64_t>(**before), std::bit_cast<std::uint64_t>(after))
        << registry.keys()[i].full();
  }
}

TEST(Config, RandomDoublesSurviveTheDump) {
  std::uint64_t bits = 0x9e3779b97f4a7c15u;
  for (int i = 0; i < 2000; ++i) {
    bits = bits * 6364136223846793005u + 1442695040888963407u;
    const double value = std::abs(std::bit_cast<double>(bits));
    if (!std::isfinite(value)) continue;
    Options options, loaded;
    options.train.epochs = value;
    ConfigRegistry registry(loaded);
    registry.load_text(
        "[train]\nepochs = " + to_toml(*ConfigRegistry(options).find("train.epochs")), "x.toml");
    ASSERT_EQ(std::bit_cast<std::uint64_t>(loaded.train.epochs),
              std::bit_cast<std::uint64_t>(value));
  }
}

TEST(Config, DumpListsSectionsInOrder) {
  Options options;
  const std::string dump = ConfigRegistry(options).dump();
  std::size_t last = 0;
  for (const char* section : {"[run]", "[model]", "[data]", "[train]", "[optimizer]", "[precision]",
                              "[comm]", "[memory]", "[checkpoint]", "[eval]", "[log]"}) {
    const std::size_t at = dump.find(section);
    ASSERT_NE(at, std::string::npos) << section;
    EXPECT_GE(at, last) << section;
    last = at;
  }
}

TEST(Config, DifferencesNameKeyOldAndNew) {
  Options before, after;
  after.optimizer.lr = 1e-3;
  after.data.train = {"x.bin"};
  const auto differences = config_differences(before, after);
  ASSERT_EQ(differences.size(), 2u);
  EXPECT_EQ(differences[0].key, "data.train");
  EXPECT_EQ(differences[0].before, "[]");
  EXPECT_EQ(differences[0].after, "[\"x.bin\"]");
  EXPECT_EQ(differences[1].key, "optimizer.lr");
  EXPECT_EQ(differences[1].before, "0.0003");
  EXPECT_EQ(differences[1].after, "0.001");
}

TEST(Config, SuggestionsNameTheNearestKey) {
  Options options;
  const ConfigRegistry registry(options);
  EXPECT_EQ(registry.suggestion("optimizer.lrr"), "; did you mean optimizer.lr?");
  EXPECT_EQ(registry.suggestion("train.lr"), "; did you mean optimizer.lr?");
  EXPECT_EQ(registry.suggestion("lr"), "; did you mean optimizer.lr?");
  EXPECT_EQ(registry.suggestion("trian.steps"), "; did you mean train.steps?");
  EXPECT_EQ(registry.suggestion("checkpoint.kep_last"), "; did you mean checkpoint.keep_last?");
  EXPECT_NE(registry.suggestion("log.qqqqqqqqqqqq").find("interval"), std::string::npos);
  EXPECT_NE(registry.suggestion("zzzzzzzzzz.qqqqqqqqqqq").find("sections are run, model"),
            std::string::npos);
}

// What fp32 or 32 bits cannot hold is refused where it is given, not used as infinity or 0.
TEST(Config, ValuesThatWouldBeNarrowedObeyTheNarrowRange) {
  Options options;
  const ConfigRegistry registry(options);
  const auto problem = [&](const char* name, const std::string& text) {
    const ConfigKey* key = registry.find(name);
    return assign(*key, value_from_text(*key, text)).value_or("");
  };
  EXPECT_EQ(problem("precision.loss_scale", "1e39"),
            "expected dynamic or a number > 0, got \"1e39\"; it is used as fp32, whose numbers are "
            "0 and 1.2e-38 to 3.4e+38");
  EXPECT_EQ(problem("precision.growth_interval", "4294967296"),
            "expected a whole number from 1 to 2147483647, got 4294967296");
  EXPECT_NE(problem("optimizer.beta1", "0.99999999999"), "");  // 1 in fp32
  for (const char* name :
       {"optimizer.lr", "optimizer.eps", "optimizer.weight_decay", "optimizer.clip_grad",
        "precision.initial_loss_scale", "precision.min_loss_scale", "model.rope_theta",
        "model.norm_eps", "model.init_std"}) {
    for (const char* text : {"1e39", "1e-39"}) {
      EXPECT_NE(problem(name, text).find("fp32"), std::string::npos) << name;
    }
    EXPECT_EQ(problem(name, "1e-7"), "") << name;
  }
  for (const char* name :
       {"model.layers", "model.hidden", "model.ffn", "model.vocab", "model.heads", "model.head_dim",
        "model.seq_len", "train.micro_batch_size", "train.global_batch_size", "train.max_skips",
        "eval.batches", "comm.bucket_mib", "comm.timeout_seconds", "checkpoint.interval_minutes"}) {
    EXPECT_NE(problem(name, "1000000000000000000"), "") << name;
  }
}

// What a key lets pass, the model's family takes too: one list of limits.
TEST(Config, SizesHaveTheLimitsOfTheModels) {
  Options options;
  const ConfigRegistry registry(options);
  using Limits = ModelLimits;
  for (const auto& [name, most] : {std::pair{"model.layers", Limits::kLayers},
                                   {"model.heads", Limits::kHeads},
                                   {"model.kv_heads", Limits::kHeads},
                                   {"model.head_dim", Limits::kHeadDim},
                                   {"model.hidden", Limits::kHidden},
                                   {"model.ffn", Limits::kFfn},
                                   {"model.vocab", Limits::kVocab},
                                   {"model.seq_len", Limits::kSeqLen}}) {
    const ConfigKey* key = registry.find(name);
    EXPECT_FALSE(assign(*key, most)) << name;
    EXPECT_EQ(assign(*key, most + 1),
              fmt::format("expected a whole number from 0 to {}, got {}", most, most + 1));
  }
}

// A word or a number is one value, whichever way it comes; what is dumped reads back.
TEST(Config, WordsOrNumbersAreParsedAtOnce) {
  Options options;
  const ConfigRegistry registry(options);
  const ConfigKey& scale = *registry.find("precision.loss_scale");
  const auto dumped = [&](const ConfigValue& value) {
    EXPECT_EQ(assign(scale, value), std::nullopt);
    return to_toml(scale);
  };
  EXPECT_EQ(to_toml(scale), "\"dynamic\"");
  for (const ConfigValue& value : {ConfigValue(1024.0), ConfigValue(std::int64_t{1024}),
                                   ConfigValue("1024"), ConfigValue("+1024.0")}) {
    EXPECT_EQ(dumped(value), "\"1024\"");
    EXPECT_EQ(std::get<double>(options.precision.loss_scale), 1024.0);
  }
  EXPECT_EQ(dumped("dynamic"), "\"dynamic\"");
  EXPECT_EQ(std::get<LossScale>(options.precision.loss_scale), LossScale::kDynamic);
  EXPECT_TRUE(assign(scale, true).has_value());
  EXPECT_EQ(to_toml(*registry.find("train.time_limit_minutes")), "\"\"");
}

TEST(Config, TextValuesObeyTypeAndRange) {
  Options options;
  const ConfigRegistry registry(options);
  const auto problem = [&](const char* name, const std::string& text) {
    const ConfigKey* key = registry.find(name);
    return assign(*key, value_from_text(*key, text)).value_or("");
  };
  EXPECT_EQ(problem("optimizer.lr", "fast"), "expected a number >= 0, got \"fast\"");
  EXPECT_EQ(problem("optimizer.lr", "-1"), "expected a number >= 0, got -1");
  EXPECT_EQ(problem("optimizer.lr", "nan"), "expected a number >= 0, got nan");
  EXPECT_EQ(problem("optimizer.beta1", "1.5"), "expected a number >= 0 and < 1, got 1.5");
  EXPECT_EQ(problem("train.steps", "1.5"), "expected a whole number >= 0, got \"1.5\"");
  EXPECT_EQ(problem("train.steps", "10x"), "expected a whole number >= 0, got \"10x\"");
  EXPECT_EQ(problem("train.steps", ""), "expected a whole number >= 0, got \"\"");
  EXPECT_EQ(problem("train.micro_batch_size", "0"),
            "expected a whole number from 1 to 65535, got 0");
  EXPECT_EQ(problem("run.threads", "3000000000"), "expected a whole number >= 0, got 3000000000");
  EXPECT_EQ(problem("comm.overlap", "yes"), "expected true or false, got \"yes\"");
  EXPECT_EQ(problem("precision.dtype", "bf61"),
            "expected one of fp32, bf16, fp16, got \"bf61\"; did you mean bf16?");
  EXPECT_EQ(problem("precision.loss_scale", "-2"), "expected dynamic or a number > 0, got \"-2\"");
  EXPECT_EQ(problem("run.name", "\xff"), "expected text (UTF-8), got \"\xff\"");
  EXPECT_EQ(options.optimizer.lr, 3e-4) << "a refused value must not be stored";
  EXPECT_EQ(problem("optimizer.lr", "+1e-3"), "");
  EXPECT_EQ(options.optimizer.lr, 1e-3);
  EXPECT_EQ(problem("data.train", " a.bin, b.bin,,c d.bin "), "");
  EXPECT_EQ(options.data.train, (std::vector<std::string>{"a.bin", "b.bin", "c d.bin"}));
  EXPECT_EQ(problem("train.time_limit_minutes", "90"), "");
  EXPECT_EQ(problem("train.time_limit_minutes", "auto"), "");
  EXPECT_EQ(problem("train.time_limit_minutes", ""), "");
  EXPECT_EQ(problem("train.time_limit_minutes", "soon"),
            "expected \"\", auto or a number > 0 and <= 1000000000, got \"soon\"");
}

}  // namespace
}  // namespace lockstep
