// Opening a session, step by step: ranks, CPU share, device, communicator.
#include "app/session.h"

#include "app/cpu_share.h"
#include "app/gpu_choice.h"
#include "app/launcher.h"
#include "app/start_deadline.h"
#include "comm/agree.h"
#include "comm/gather.h"
#include "kernels/backend.h"

#include <mpi.h>

namespace lockstep {
namespace {

CpuShare take_cpu_share(const Placement& placement, int threads) {
  const Environment environment = process_environment();
  const bool keep = keeps_binding(environment);
  CpuShare share = plan_cpu_share({.cores = keep ? usable_cores() : launcher_cores(),
                                   .bound = bound_cpus(),
                                   .local_rank = placement.local_rank,
                                   .local_size = placement.local_size,
                                   .threads = threads,
                                   .keep_binding = keep,
                                   .granted = granted_cpus(environment, placement.local_size),
                                   .omp_threads = omp_threads(environment)});
  if (!share.bind_to.empty()) bind_to_cpus(share.bind_to);
  return share;
}

bool usable(const Backend& backend) { return backend.kernels != nullptr && backend.count() > 0; }

// run.device = auto: the first backend that every rank can use, the same on every rank.
const Backend& choose_backend(World& world, Log& log) {
  for (const Backend* backend : accelerators()) {
    const auto with_gpu = world.all_reduce({usable(*backend) ? 1 : 0}, ReduceOp::kSum)[0];
    if (with_gpu == world.size()) return *backend;
    if (with_gpu > 0) {
      log.info(
          "warning: only {} of {} ranks see a GPU, so all use the CPU; run.device={} makes this an "
          "error that names the rank",
          with_gpu, world.size(), backend->name);
    }
  }
  return kCpuBackend;
}

const Backend& named_backend(World& world, const std::string& device, Log& log) {
  if (device == "auto") return choose_backend(world, log);
  const Backend* backend = find_backend(device);
  agree(world, [&] {
    if (backend == nullptr) fail(ExitCode::kConfig, "run.device={} is not known", device);
    if (usable(*backend)) return;
    fail(ExitCode::kConfig, "run.device={}, but no GPU can be used: {}", device, backend->status());
  });
  return *backend;
}

// Collective: every rank learns what its node's ranks see, and so makes the same choice as they do.
int choose_gpu(World& world, const Backend& backend, bool share_gpu) {
  std::vector<std::string> mine;
  for (int i = 0; i < backend.count(); ++i) mine.push_back(backend.info(i).uuid);
  const std::vector<int> nodes = world.all_gather_values(world.placement().node);
  const std::vector<std::vector<std::string>> uuids = all_gather_packed(world, mine);
  std::vector<std::vector<std::string>> visible;  // by local rank: ranks of a node keep their order
  for (std::size_t rank = 0; rank < nodes.size(); ++rank) {
    if (nodes[rank] == world.placement().node) visible.push_back(uuids[rank]);
  }
  int ordinal = 0;
  agree(world, [&] {
    const Placement& placement = world.placement();
    ordinal = choose_gpus(visible, share_gpu,
                          placement.host)[static_cast<std::size_t>(placement.local_rank)];
  });
  return ordinal;
}

std::unique_ptr<Device> open_device(World& world, const RunOptions& run, bool share_gpu,
                                    int threads, Log& log) {
  const Backend& backend = named_backend(world, run.device, log);
  const bool cpu = &backend == &kCpuBackend;
  const int ordinal = cpu ? 0 : choose_gpu(world, backend, share_gpu);
  std::unique_ptr<Device> device;
  agree(world, [&] { device = backend.open(ordinal, threads); });
  return device;
}

void check_backend(CommBackend backend, int world_size, bool mpi_active, bool nccl) {
  if (backend == CommBackend::kSelf && world_size > 1) {
    fail(ExitCode::kConfig,
         "comm.backend=self is for one rank, but there are {}; use auto, mpi or nccl", world_size);
  }
  if (backend == CommBackend::kMpi && !mpi_active) {
    fail(ExitCode::kConfig,
         "comm.backend=mpi needs a launcher: start the program with mpirun or srun --mpi=pmix, or "
         "use comm.backend=auto");
  }
  if (backend == CommBackend::kNccl && !nccl) {
    fail(ExitCode::kConfig,
         "comm.backend=nccl moves GPU memory, but run.device is the CPU; use comm.backend=auto");
  }
}

std::unique_ptr<Communicator> open_communicator(const MpiSession& mpi, World& world, Device& device,
                                                const CommOptions& comm) {
  const bool nccl = device.info().nccl;
  CommBackend backend = comm.backend;
  if (backend == CommBackend::kAuto) {
    const bool built = nccl && !nccl_version().empty();
    backend = world.size() == 1 ? CommBackend::kSelf
              : built           ? CommBackend::kNccl
                                : CommBackend::kMpi;
  }
  agree(world, [&] { check_backend(backend, world.size(), mpi.active(), nccl); });
  if (backend == CommBackend::kSelf) return make_self_communicator();
  if (backend == CommBackend::kMpi) return make_mpi_communicator(comm.timeout_seconds);
  return make_nccl_communicator(
      world, device, {.share_gpu = comm.share_gpu, .timeout_seconds = comm.timeout_seconds});
}

// One ring and one protocol instead of NCCL's own choice by size; what the user has set stays.
void fix_nccl_choices() {
  setenv("NCCL_ALGO", "Ring", /*overwrite=*/0);
  setenv("NCCL_PROTO", "Simple", /*overwrite=*/0);
}

// Who is missing, once for each host; the exit code.
int report_no_start(double seconds) {
  const Environment environment = process_environment();
  const std::string who = describe_start(environment);
  if (!who.empty()) {
    fmt::print(stderr,
               "lockstep: rank {}: error: MPI did not start within {:g} s "
               "(comm.start_timeout_seconds): {}\n",
               launcher_rank(environment), seconds, who);
  }
  return static_cast<int>(ExitCode::kPeer);
}

}  // namespace

MpiSession::~MpiSession() {
  if (active_) MPI_Finalize();
}

void MpiSession::start(double timeout_seconds, std::function<int()> on_timeout) {
  if (active_) return;
  int size = 1;
  if (launched_by_mpi()) {
    const auto report = [&] {
      return on_timeout ? on_timeout() : report_no_start(timeout_seconds);
    };
    const StartDeadline deadline(timeout_seconds, report);
    int provided = MPI_THREAD_SINGLE;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    active_ = true;
    CHECK(provided >= MPI_THREAD_FUNNELED, "MPI offers thread level {}", provided);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
  }
  try {
    check_announced_tasks(process_environment(), size);
  } catch (const UserError&) {
    if (active_) MPI_Finalize();
    active_ = false;
    ended_ = true;
    throw;
  }
}

int MpiSession::rank() const {
  int rank = 0;
  if (active_) MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

void MpiSession::abort(int code) {
  if (active_) MPI_Abort(MPI_COMM_WORLD, code);
}

Session open_session(MpiSession& mpi, const RunOptions& run, const CommOptions& comm) {
  mpi.start(comm.start_timeout_seconds);
  Session session;
  session.world = mpi.active() ? make_mpi_world(comm.timeout_seconds) : make_self_world();
  agree(*session.world, [] {});  // a rank that failed before MPI was up says so here
  session.log = Log(session.world->rank());
  const CpuShare share = take_cpu_share(session.placement(), run.threads);
  session.threads = share.threads;
  session.threads_note = share.note;
  session.device = open_device(*session.world, run, comm.share_gpu, session.threads, session.log);
  if (run.deterministic) fix_nccl_choices();
  session.communicator = open_communicator(mpi, *session.world, *session.device, comm);
  return session;
}

std::vector<std::string> describe_ranks(Session& session) {
  const Placement& placement = session.placement();
  const DeviceInfo& info = session.device->info();
  const std::string device =
      info.uuid.empty() ? info.name
                        : fmt::format("GPU {} {} ({})", info.ordinal, info.name, info.uuid);
  const std::string& note = session.threads_note;
  return session.world->all_gather(fmt::format(
      "rank {}  {}  {}  {} thread{}{}", placement.rank, placement.host, device, session.threads,
      session.threads == 1 ? "" : "s", note.empty() ? "" : fmt::format(" ({})", note)));
}

}  // namespace lockstep
