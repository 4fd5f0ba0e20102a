// `lockstep plan`: what a configuration needs, from the configuration alone.
#include "app/commands.h"

#include "app/config.h"
#include "app/init_from.h"
#include "app/run_setup.h"
#include "core/error.h"
#include "nn/model_family.h"
#include "trainer/memory_plan.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <memory>
#include <string>

namespace lockstep {
namespace {

constexpr double kMib = 1024.0 * 1024.0;
constexpr double kGib = 1024.0 * kMib;

struct PlanArguments {
  std::string config;
  Options options;
  ConfigRegistry registry{options};
  int world = 1;
  double memory_gib = 80.0;
  bool json = false;
};

nlohmann::ordered_json to_json(const MemoryPlan& plan) {
  nlohmann::ordered_json bytes;
  for (int group = 0; group < kMemoryGroups; ++group) {
    bytes[std::string(name_of(static_cast<MemoryGroup>(group)))] =
        plan.bytes[static_cast<std::size_t>(group)];
  }
  bytes["total"] = plan.total;
  return {{"parameters", plan.parameters},
          {"flops_per_token", plan.flops_per_token},
          {"accumulation", plan.accumulation},
          {"largest_micro_batch", plan.largest_micro_batch},
          {"checkpoint_bytes", plan.checkpoint_bytes},
          {"bytes", bytes}};
}

void print_table(const PlanArguments& arguments, const Options& options, const MemoryPlan& plan) {
  const ModelConfig& model = options.model;
  fmt::print("{}: {}\n", model.architecture, sizes_text(model));
  for (const std::string& note : family_of(model).notes(model)) fmt::print("  {}\n", note);
  fmt::print("{:<22}{:>16}\n", "parameters", plan.parameters);
  fmt::print("{:<22}{:>16.4g}\n", "FLOPs per token", plan.flops_per_token);
  fmt::print("{:<22}{:>16}   = {} x {} x {} (micro-batch x accumulation x ranks)\n", "global batch",
             options.train.global_batch_size, options.train.micro_batch_size, plan.accumulation,
             arguments.world);
  fmt::print("{:<22}{:>12.1f} MiB, {}\n", "checkpoint",
             static_cast<double>(plan.checkpoint_bytes) / kMib, saving_text(options.checkpoint));
  fmt::print("memory of one rank, {}:\n", name_of(options.precision.dtype));
  for (int group = 0; group < kMemoryGroups; ++group) {
    fmt::print("  {:<20}{:>12.1f} MiB\n", name_of(static_cast<MemoryGroup>(group)),
               static_cast<double>(plan.bytes[static_cast<std::size_t>(group)]) / kMib);
  }
  fmt::print("  {:<20}{:>12.1f} MiB of {} GiB\n", "total", static_cast<double>(plan.total) / kMib,
             arguments.memory_gib);
  if (plan.largest_micro_batch > 0) {
    fmt::print("largest micro-batch that fits and divides the global batch: {}\n",
               plan.largest_micro_batch);
  } else {
    fmt::print("no micro-batch fits {} GiB\n", arguments.memory_gib);
  }
}

int run_plan(PlanArguments& arguments) {
  arguments.registry.load_file(arguments.config);
  arguments.registry.apply_command_line();
  Options& options = arguments.options;
  const std::unique_ptr<World> world = make_self_world();
  Log log(/*rank=*/0);
  open_init_from(options, *world, log);
  resolve(options.model, tokenizer_vocab(options.data));
  resolve_checkpoint(options.checkpoint);
  if (options.train.global_batch_size == 0) {
    options.train.global_batch_size = options.train.micro_batch_size * arguments.world;
  }
  const MemoryPlan plan =
      plan_memory(options, arguments.world, static_cast<std::size_t>(arguments.memory_gib * kGib));
  if (arguments.json) {
    fmt::print("{}\n",
               to_json(plan).dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  } else {
    print_table(arguments, options, plan);
  }
  return 0;
}

}  // namespace

Command add_plan_command(ProgramFlags& program) {
  CommandFlags flags =
      program.add_command("plan", "Parameters, memory and FLOPs of a configuration");
  auto arguments = std::make_shared<PlanArguments>();
  flags.add("CONFIG", &arguments->config, "configuration file (TOML)").required().called("");
  arguments->registry.add_options(flags);
  flags.add("--world", &arguments->world, "number of ranks to plan for")
      .called("INT")
      .positive()
      .shows_default();
  flags.add("--memory-gib", &arguments->memory_gib, "memory of one rank's device in GiB")
      .called("NUMBER")
      .positive()
      .shows_default();
  flags.add_switch("--json", &arguments->json, "print one JSON object");
  return {.flags = flags,
          .run = [arguments](MpiSession&) { return run_plan(*arguments); },
          .registry = &arguments->registry};
}

}  // namespace lockstep
