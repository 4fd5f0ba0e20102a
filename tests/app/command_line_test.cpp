// The command line: precedence over the file, lists, --help with every key, and the answers to
// unknown commands, flags and keys.
#include "app/command_line.h"

#include "app/config.h"
#include "app/support.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

using test::catch_error;
using test::Caught;

// A program with one command that takes a configuration and one that does not.
struct Program {
  ProgramFlags flags{"lockstep", "test"};
  Options options;
  ConfigRegistry registry{options};
  std::string config, text;
  std::vector<std::string> files, data;
  bool json = false;
  std::vector<Command> commands;

  Program() {
    CommandFlags train = flags.add_command("train", "trains");
    train.add("CONFIG", &config, "file").required();
    registry.add_options(train);
    CommandFlags show = flags.add_command("show", "shows");
    show.add("--text", &text, "text");
    show.add_switch("--json", &json, "as JSON");
    show.add("FILE", &files, "files");
    show.add_list("--data", &data, "shards");
    commands = {{.flags = train, .run = {}, .registry = &registry}, {.flags = show, .run = {}}};
  }
  const Command* parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "lockstep");
    return parse_command_line(flags, commands, static_cast<int>(arguments.size()),
                              arguments.data());
  }
};

Caught refusal(const std::vector<const char*>& arguments) {
  return catch_error([&] { Program().parse(arguments); });
}

TEST(CommandLine, OverridesTheFile) {
  Program program;
  const Command* command =
      program.parse({"train", "--optimizer.lr=1e-3", "x.toml", "--train.steps", "5"});
  ASSERT_NE(command, nullptr);
  EXPECT_EQ(command->flags.name(), "train");
  EXPECT_EQ(program.config, "x.toml");
  program.registry.load_text("[optimizer]\nlr = 5.0\neps = 1e-6\n[train]\nsteps = 1\n", "x.toml");
  program.registry.apply_command_line();
  EXPECT_EQ(program.options.optimizer.lr, 1e-3);
  EXPECT_EQ(program.options.optimizer.eps, 1e-6);
  EXPECT_EQ(program.options.optimizer.beta1, 0.9);
  EXPECT_EQ(program.options.train.steps, 5);
  EXPECT_EQ(program.registry.source("optimizer.lr"), "command line");
  EXPECT_EQ(program.registry.source("optimizer.eps"), "x.toml:3:7");
}

TEST(CommandLine, ListsAreCommaSeparatedOrRepeated) {
  Program program;
  program.parse({"train", "--data.train=a,b", "--data.train", "c", "--data.val=[x]", "x.toml"});
  program.registry.apply_command_line();
  EXPECT_EQ(program.options.data.train, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(program.options.data.val, (std::vector<std::string>{"[x]"}));
  EXPECT_EQ(program.config, "x.toml");
}

TEST(CommandLine, ListsOfCommandsAreAsThoseOfKeys) {
  Program program;
  program.parse({"show", "file", "--data=a, b", "--data", "c\\,d", "0.7:e"});
  EXPECT_EQ(program.data, (std::vector<std::string>{"a", "b", "c,d", "0.7:e"}));
  EXPECT_EQ(program.files, std::vector<std::string>{"file"});
}

TEST(CommandLine, BehindTwoDashesNothingIsAFlag) {
  Program program;
  program.parse({"show", "--json", "--", "-x.txt", "--text", "-"});
  EXPECT_TRUE(program.json);
  EXPECT_EQ(program.files, (std::vector<std::string>{"-x.txt", "--text", "-"}));
  EXPECT_NE(refusal({"train", "x.toml", "--", "-y"}).message.find("unexpected argument \"-y\""),
            std::string::npos);
  EXPECT_NE(refusal({"train", "--lr", "x.toml", "--"}).message.find("unknown flag --lr"),
            std::string::npos);
}

TEST(CommandLine, TheLastOfARepeatedKeyCounts) {
  Program program;
  program.parse({"train", "x.toml", "--train.steps=1", "--train.steps=2", "--comm.overlap=false"});
  program.registry.apply_command_line();
  EXPECT_EQ(program.options.train.steps, 2);
  EXPECT_FALSE(program.options.comm.overlap);
}

TEST(CommandLine, TakesEmptyAndNegativeValuesAsValues) {
  Program program;
  program.parse({"train", "--run.name=", "x.toml", "--optimizer.lr", "-1"});
  EXPECT_EQ(program.config, "x.toml");
  const Caught caught = catch_error([&] { program.registry.apply_command_line(); });
  EXPECT_EQ(caught.code, ExitCode::kConfig);
  EXPECT_EQ(caught.message, "--optimizer.lr=-1: expected a number >= 0, got -1");
  Program other;
  other.parse({"show", "--text=", "--json"});
  EXPECT_EQ(other.text, "");
  EXPECT_TRUE(other.json);
}

TEST(CommandLine, AnUnknownKeyIsAConfigurationError) {
  const Caught key = refusal({"train", "x.toml", "--optimizer.lrr=1"});
  EXPECT_EQ(key.code, ExitCode::kConfig);
  EXPECT_EQ(key.message, "--optimizer.lrr: unknown key; did you mean optimizer.lr?");
  const Caught section = refusal({"train", "x.toml", "--trian.steps", "1"});
  EXPECT_EQ(section.code, ExitCode::kConfig);
  EXPECT_EQ(section.message, "--trian.steps: unknown key; did you mean train.steps?");
}

TEST(CommandLine, AnUnknownFlagIsAUsageError) {
  const Caught flag = refusal({"show", "--jsno"});
  EXPECT_EQ(flag.code, ExitCode::kUsage);
  EXPECT_EQ(flag.message, "unknown flag --jsno of lockstep show; did you mean --json?");
  const Caught bare = refusal({"train", "x.toml", "--lr=1"});
  EXPECT_EQ(bare.code, ExitCode::kUsage);
  EXPECT_EQ(bare.message, "unknown flag --lr of lockstep train; did you mean --optimizer.lr?");
  const Caught key = refusal({"show", "--train.steps=3"});
  EXPECT_EQ(key.code, ExitCode::kUsage);
  EXPECT_EQ(
      key.message,
      "unknown flag --train.steps of lockstep show; this command takes no configuration keys");
  const Caught extra = refusal({"train", "x.toml", "y.toml"});
  EXPECT_EQ(extra.code, ExitCode::kUsage);
  EXPECT_EQ(extra.message, "unexpected argument \"y.toml\"; see lockstep train --help");
  const Caught root = refusal({"--verson"});
  EXPECT_EQ(root.code, ExitCode::kUsage);
  EXPECT_EQ(root.message, "unknown flag --verson; did you mean --version?");
}

TEST(CommandLine, AnUnknownCommandNamesTheNearest) {
  const Caught near = refusal({"trian", "x.toml"});
  EXPECT_EQ(near.code, ExitCode::kUsage);
  EXPECT_EQ(near.message, "unknown command trian; did you mean train?");
  EXPECT_EQ(refusal({"trian", "--help"}).message, near.message);
  EXPECT_EQ(refusal({"qqqqqq"}).message, "unknown command qqqqqq; the commands are train, show");
  EXPECT_EQ(refusal({}).message, "no command given; the commands are train, show");
}

TEST(CommandLine, AMissingArgumentNamesItAndTheHelp) {
  const Caught missing = refusal({"train"});
  EXPECT_EQ(missing.code, ExitCode::kUsage);
  EXPECT_EQ(missing.message, "CONFIG is required; see lockstep train --help");
  // The unknown flag is the cause, the missing argument only its consequence.
  EXPECT_EQ(refusal({"train", "--confg=x.toml"}).code, ExitCode::kUsage);
  EXPECT_NE(refusal({"train", "--confg=x.toml"}).message.find("--confg"), std::string::npos);
  const Caught valueless = refusal({"train", "x.toml", "--train.steps"});
  EXPECT_EQ(valueless.code, ExitCode::kUsage);
  EXPECT_NE(valueless.message.find("--train.steps"), std::string::npos);
}

TEST(CommandLine, HelpListsEveryKeyWithItsDefault) {
  Program program;
  testing::internal::CaptureStdout();
  EXPECT_EQ(program.parse({"train", "--help"}), nullptr);
  const std::string help = testing::internal::GetCapturedStdout();
  for (const ConfigKey& key : program.registry.keys()) {
    const std::size_t at = help.find("--" + key.full() + " ");
    ASSERT_NE(at, std::string::npos) << key.full();
    const std::size_t end = std::min(help.find("\n  --", at), help.size());
    EXPECT_NE(help.substr(at, end - at).find("(default " + key.default_value + ")"),
              std::string::npos)
        << help.substr(at, end - at);
  }
  for (const std::string& section : program.registry.sections()) {
    EXPECT_NE(help.find("\n[" + section + "]:"), std::string::npos) << section;
  }
}

TEST(CommandLine, OtherRanksPrintNoHelp) {
  ASSERT_EQ(setenv("OMPI_COMM_WORLD_RANK", "1", /*overwrite=*/1), 0);
  testing::internal::CaptureStdout();
  EXPECT_EQ(Program().parse({"train", "--help"}), nullptr);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  unsetenv("OMPI_COMM_WORLD_RANK");
}

}  // namespace
}  // namespace lockstep
