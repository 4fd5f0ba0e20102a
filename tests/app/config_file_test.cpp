// TOML files: values of every kind, and every mistake with its line and column.
#include "app/config.h"

#include "app/support.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include <unistd.h>

namespace lockstep {
namespace {

using test::catch_error;
using test::Caught;

// The message for a text that must be refused; every such error is a configuration error.
std::string refusal(const std::string& toml) {
  Options options;
  ConfigRegistry registry(options);
  const Caught caught = catch_error([&] { registry.load_text(toml, "x.toml"); });
  EXPECT_EQ(caught.code, ExitCode::kConfig) << toml;
  EXPECT_EQ(caught.message.find('\n'), std::string::npos) << caught.message;
  return caught.message;
}

TEST(ConfigFile, ReadsEveryKindOfValue) {
  Options options;
  ConfigRegistry registry(options);
  registry.load_text(
      "optimizer.lr = 1  # an integer is a number\n"
      "[model]\nattention_bias = true\nmlp_bias = \"false\"\n"
      "[data]\ntrain = [\"a.bin\", \"0.5:b,c.bin\"]\nval = \"v1.bin, v2.bin\"\n"
      "[train]\ntime_limit_minutes = 30\nepochs = 2.5\n"
      "[precision]\nloss_scale = 1024.0\n"
      "[comm]\noverlap = false\n[run]\nseed = 0xff\n",
      "x.toml");
  EXPECT_EQ(options.optimizer.lr, 1.0);
  EXPECT_EQ(options.model.attention_bias, "true");
  EXPECT_EQ(options.model.mlp_bias, "false");
  EXPECT_EQ(options.data.train, (std::vector<std::string>{"a.bin", "0.5:b,c.bin"}));
  EXPECT_EQ(options.data.val, (std::vector<std::string>{"v1.bin", "v2.bin"}));
  EXPECT_EQ(std::get<double>(options.train.time_limit_minutes), 30.0);
  EXPECT_EQ(options.train.epochs, 2.5);
  EXPECT_EQ(std::get<double>(options.precision.loss_scale), 1024.0);
  EXPECT_FALSE(options.comm.overlap);
  EXPECT_EQ(options.run.seed, 255u);
}

TEST(ConfigFile, RemembersWhereAValueCameFrom) {
  Options options;
  ConfigRegistry registry(options);
  registry.load_text("[optimizer]\n  lr = 1e-3\n", "x.toml");
  EXPECT_EQ(registry.source("optimizer.lr"), "x.toml:2:8");
  EXPECT_EQ(registry.source("optimizer.eps"), "");
}

TEST(ConfigFile, NamesUnknownKeysWithPlaceAndNearest) {
  EXPECT_EQ(refusal("[optimizer]\nlr = 1.0\nbeta3 = 0.9\n"),
            "x.toml:3:1: unknown key optimizer.beta3; did you mean optimizer.beta1?");
  EXPECT_EQ(refusal("[train]\n  lr = 1.0\n"),
            "x.toml:2:3: unknown key train.lr; did you mean optimizer.lr?");
  EXPECT_EQ(refusal("[optimiser]\nlr = 1.0\n"),
            "x.toml:1:2: unknown section [optimiser]; did you mean [optimizer]?");
  EXPECT_EQ(refusal("\nlr = 1.0\n"),
            "x.toml:2:1: key lr stands outside any [section]; did you mean optimizer.lr?");
}

TEST(ConfigFile, NamesTheFirstMistakeOfTheFile) {
  EXPECT_EQ(refusal("[train]\nstepz = 1\n[model]\nlayerz = 1\n").substr(0, 10), "x.toml:2:1");
  EXPECT_EQ(refusal("[train]\nzteps = 1\nstepz = 1\n").substr(0, 10), "x.toml:2:1");
}

TEST(ConfigFile, NamesWrongTypesAndWhatWasExpected) {
  EXPECT_EQ(refusal("[optimizer]\nlr = \"fast\"\n"),
            "x.toml:2:6: optimizer.lr: expected a number >= 0, got \"fast\"");
  EXPECT_EQ(refusal("[train]\nsteps = 2.0\n"),
            "x.toml:2:9: train.steps: expected a whole number >= 0, got 2.0");
  EXPECT_EQ(refusal("[comm]\noverlap = 1\n"),
            "x.toml:2:11: comm.overlap: expected true or false, got 1");
  EXPECT_EQ(refusal("[comm]\noverlap = \"true\"\n"),
            "x.toml:2:11: comm.overlap: expected true or false, got \"true\"");
  EXPECT_EQ(refusal("[run]\nname = 7\n"), "x.toml:2:8: run.name: expected text (UTF-8), got 7");
  EXPECT_EQ(refusal("[data]\ntrain = [\"a\", 1]\n"),
            "x.toml:2:9: data.train: expected a list of texts (UTF-8), got a list that is not all "
            "texts");
  EXPECT_EQ(refusal("[run]\nname = 2024-01-01\n"),
            "x.toml:2:8: run.name: expected text (UTF-8), got a date or time");
  EXPECT_EQ(refusal("[optimizer.lr]\nvalue = 1\n").substr(0, 7), "x.toml:");
}

TEST(ConfigFile, NamesValuesOutOfRange) {
  EXPECT_EQ(refusal("[optimizer]\nbeta2 = 1.01\n"),
            "x.toml:2:9: optimizer.beta2: expected a number >= 0 and < 1, got 1.01");
  EXPECT_EQ(refusal("[optimizer]\nlr = inf\n"),
            "x.toml:2:6: optimizer.lr: expected a number >= 0, got inf");
  EXPECT_EQ(refusal("[run]\nseed = -1\n"),
            "x.toml:2:8: run.seed: expected a whole number >= 0, got -1");
  EXPECT_EQ(refusal("[run]\ndevice = \"gpu\"\n"),
            "x.toml:2:10: run.device: expected one of auto, cpu, cuda, got \"gpu\"; did you mean "
            "cpu?");
  EXPECT_EQ(refusal("[model]\ntie_embeddings = \"maybe\"\n"),
            "x.toml:2:18: model.tie_embeddings: expected one of \"\", true, false, got \"maybe\"");
}

TEST(ConfigFile, NamesSyntaxErrorsWithPlace) {
  EXPECT_EQ(refusal("[train]\nsteps = \n").rfind("x.toml:2:", 0), 0u);
  EXPECT_EQ(refusal("[train\nsteps = 1\n").rfind("x.toml:1:", 0), 0u);
  EXPECT_EQ(refusal("[train]\nsteps = 1\nsteps = 2\n").rfind("x.toml:3:", 0), 0u);
  EXPECT_EQ(refusal("[train]\nsteps = 99999999999999999999\n").rfind("x.toml:2:", 0), 0u);
  EXPECT_EQ(refusal("[run]\nname = \"\xff\"\n").rfind("x.toml:2:", 0), 0u);
}

TEST(ConfigFile, ReadsFromDiskAndNamesWhatCannotBeRead) {
  Options options;
  ConfigRegistry registry(options);
  const std::string path =
      (std::filesystem::temp_directory_path() / ("lockstep_config_" + std::to_string(getpid())))
          .string();
  std::ofstream(path) << "[train]\nsteps = 7\n";
  registry.load_file(path);
  EXPECT_EQ(options.train.steps, 7);
  std::ofstream(path, std::ios::trunc) << "";
  registry.load_file(path);  // an empty file changes nothing
  EXPECT_EQ(options.train.steps, 7);
  std::filesystem::remove(path);
  const Caught missing = catch_error([&] { registry.load_file(path); });
  EXPECT_EQ(missing.code, ExitCode::kConfig);
  EXPECT_EQ(missing.message, path + ": cannot read the config file: No such file or directory");
  const Caught directory = catch_error([&] { registry.load_file("/"); });
  EXPECT_EQ(directory.code, ExitCode::kConfig);
  EXPECT_EQ(directory.message, "/: cannot read the config file: Is a directory");
}

}  // namespace
}  // namespace lockstep
