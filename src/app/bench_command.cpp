// `lockstep bench allreduce`: how fast the ranks of this job reduce messages of given sizes.
#include "app/commands.h"

#include "app/timed_all_reduce.h"
#include "kernels/backend.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <vector>

namespace lockstep {
namespace {

using Json = nlohmann::ordered_json;

struct BenchArguments {
  std::string what;
  std::vector<double> mib = {1.0, 4.0, 25.0, 100.0};
  int rounds = 20;
  std::string device = "auto";
  bool share_gpu = false;
  bool json = false;
};

int run_all_reduce(const BenchArguments& arguments, MpiSession& mpi) {
  RunOptions run;
  run.device = arguments.device;
  CommOptions comm;
  comm.share_gpu = arguments.share_gpu;
  Session session = open_session(mpi, run, comm);
  Json report = {{"backend", session.communicator->name()},
                 {"ranks", session.world->size()},
                 {"device", session.device->info().name},
                 {"sizes", Json::array()}};
  std::string table =
      fmt::format("{} ranks over {} on {}\n{:>10} {:>10} {:>10} {:>10} {:>12}\n",
                  session.world->size(), session.communicator->name(), session.device->info().name,
                  "MiB", "ms", "fastest", "slowest", "bus GB/s");
  for (const double mib : arguments.mib) {
    const auto bytes = static_cast<std::int64_t>(mib * (1 << 20));
    const AllReduceTiming timing = time_all_reduce(session, bytes, arguments.rounds);
    report["sizes"].push_back({{"bytes", timing.bytes},
                               {"ms", timing.ms},
                               {"min_ms", timing.min_ms},
                               {"max_ms", timing.max_ms},
                               {"gigabytes_per_second", timing.gigabytes_per_second},
                               {"bus_gigabytes_per_second", timing.bus_gigabytes_per_second}});
    table += fmt::format("{:>10.1f} {:>10.3f} {:>10.3f} {:>10.3f} {:>12.2f}\n", mib, timing.ms,
                         timing.min_ms, timing.max_ms, timing.bus_gigabytes_per_second);
  }
  if (session.world->rank() == 0)
    fmt::print("{}", arguments.json
                         ? report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"
                         : table);
  return 0;
}

}  // namespace

Command add_bench_command(ProgramFlags& program) {
  CommandFlags flags = program.add_command("bench", "Time what a run is made of");
  auto arguments = std::make_shared<BenchArguments>();
  flags
      .add("WHAT", &arguments->what,
           "allreduce: between the ranks of this job; start it under mpirun")
      .required()
      .one_of({"allreduce"});
  flags.add("--mib", &arguments->mib, "Message sizes in MiB, fp32")
      .comma_separated()
      .within(0.00001, 1048576.0)
      .shows_default();
  flags.add("--rounds", &arguments->rounds, "Rounds; the median is reported")
      .within(1, 1'000'000)
      .shows_default();
  flags.add("--device", &arguments->device, "auto, cpu or cuda")
      .one_of(device_names())
      .shows_default();
  flags.add_switch("--share-gpu", &arguments->share_gpu, "Let several ranks share a GPU");
  flags.add_switch("--json", &arguments->json, "One JSON object on standard output");
  return {.flags = flags,
          .run = [arguments](MpiSession& mpi) { return run_all_reduce(*arguments, mpi); }};
}

}  // namespace lockstep
