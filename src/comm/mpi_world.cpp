// World over MPI_COMM_WORLD: start-up, agreement and shut-down on the host side, and what the
// environment tells about the launcher before MPI is initialised.
#include "comm/communicator.h"
#include "comm/mpi_channel.h"
#include "core/process.h"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <numeric>

namespace lockstep {
namespace {

MPI_Op mpi_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum: return MPI_SUM;
    case ReduceOp::kMax: return MPI_MAX;
    case ReduceOp::kMin: return MPI_MIN;
  }
  return MPI_OP_NULL;
}

int byte_count(std::int64_t bytes) {
  CHECK(bytes >= 0 && bytes <= INT_MAX, "{} bytes of text in one message", bytes);
  return static_cast<int>(bytes);
}

class MpiWorld final : public World {
 public:
  explicit MpiWorld(double timeout_seconds) : channel_(timeout_seconds) { place(); }

  const Placement& placement() const override { return placement_; }
  std::uint64_t calls() const override { return channel_.waits(); }

  void barrier() override {
    MPI_Request request = MPI_REQUEST_NULL;
    channel_.check(MPI_Ibarrier(channel_.comm(), &request), "barrier");
    channel_.wait(request, "barrier");
  }

  std::string broadcast(const std::string& text, int root) override {
    std::int64_t length = static_cast<std::int64_t>(text.size());
    broadcast_bytes(&length, sizeof(length), root);
    std::string result = placement_.rank == root ? text : std::string();
    result.resize(static_cast<std::size_t>(length));
    broadcast_bytes(result.data(), length, root);
    return result;
  }

  std::vector<std::string> all_gather(const std::string& text) override;
  std::vector<std::int64_t> all_reduce(std::vector<std::int64_t> values, ReduceOp op) override;

 private:
  void place();
  void broadcast_bytes(void* data, std::int64_t bytes, int root) {
    MPI_Request request = MPI_REQUEST_NULL;
    channel_.check(MPI_Ibcast(data, byte_count(bytes), MPI_BYTE, root, channel_.comm(), &request),
                   "broadcast");
    channel_.wait(request, "broadcast");
  }

  MpiChannel channel_;
  Placement placement_;
};

// Nodes are numbered by their lowest rank. Which ranks share a host is MPI's own knowledge.
void MpiWorld::place() {
  placement_.rank = channel_.rank();
  placement_.size = channel_.size();
  placement_.host = host_name();

  MPI_Comm local = MPI_COMM_NULL;
  channel_.check(MPI_Comm_split_type(channel_.comm(), MPI_COMM_TYPE_SHARED, placement_.rank,
                                     MPI_INFO_NULL, &local),
                 "start-up");
  MPI_Comm_rank(local, &placement_.local_rank);
  MPI_Comm_size(local, &placement_.local_size);
  int leader = placement_.rank;
  const int code = MPI_Bcast(&leader, 1, MPI_INT, 0, local);
  MPI_Comm_free(&local);
  channel_.check(code, "start-up");

  std::vector<int> leaders = all_gather_values(leader);
  std::sort(leaders.begin(), leaders.end());
  leaders.erase(std::unique(leaders.begin(), leaders.end()), leaders.end());
  placement_.nodes = static_cast<int>(leaders.size());
  placement_.node =
      static_cast<int>(std::lower_bound(leaders.begin(), leaders.end(), leader) - leaders.begin());
}

std::vector<std::string> MpiWorld::all_gather(const std::string& text) {
  const auto ranks = static_cast<std::size_t>(channel_.size());
  const int length = byte_count(static_cast<std::int64_t>(text.size()));
  std::vector<int> lengths(ranks);
  MPI_Request request = MPI_REQUEST_NULL;
  channel_.check(
      MPI_Iallgather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, channel_.comm(), &request),
      "all_gather");
  channel_.wait(request, "all_gather");

  byte_count(std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}));
  std::vector<int> begins(ranks);
  std::exclusive_scan(lengths.begin(), lengths.end(), begins.begin(), 0);
  std::string all(static_cast<std::size_t>(begins.back() + lengths.back()), '\0');
  channel_.check(MPI_Iallgatherv(text.data(), length, MPI_BYTE, all.data(), lengths.data(),
                                 begins.data(), MPI_BYTE, channel_.comm(), &request),
                 "all_gather");
  channel_.wait(request, "all_gather");

  std::vector<std::string> texts;
  for (std::size_t r = 0; r < ranks; ++r) {
    texts.push_back(
        all.substr(static_cast<std::size_t>(begins[r]), static_cast<std::size_t>(lengths[r])));
  }
  return texts;
}

std::vector<std::int64_t> MpiWorld::all_reduce(std::vector<std::int64_t> values, ReduceOp op) {
  MPI_Request request = MPI_REQUEST_NULL;
  channel_.check(MPI_Iallreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()),
                                MPI_INT64_T, mpi_op(op), channel_.comm(), &request),
                 "all_reduce");
  channel_.wait(request, "all_reduce");
  return values;
}

bool is_set(const char* name) { return std::getenv(name) != nullptr; }

// A batch script's shell belongs to a job but to no step that was started with srun.
bool is_slurm_batch_shell() {
  constexpr std::string_view kBatchStep = "4294967291";
  const char* step = std::getenv("SLURM_STEP_ID");
  return is_set("SLURM_JOB_ID") && (step == nullptr || step == kBatchStep);
}

}  // namespace

std::unique_ptr<World> make_mpi_world(double timeout_seconds) {
  return std::make_unique<MpiWorld>(timeout_seconds);
}

std::string mpi_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  // Some versions count the closing zero byte in `length`.
  const std::string version(text, strnlen(text, static_cast<std::size_t>(length)));
  return version.substr(0, version.find('\n'));
}

bool launched_by_mpi() {
  if (is_set("OMPI_COMM_WORLD_SIZE") || is_set("MPI_LOCALRANKID")) return true;
  return (is_set("PMI_RANK") || is_set("PMIX_RANK")) && !is_slurm_batch_shell();
}

}  // namespace lockstep
