// Rank r of W hashes shards r, r + W, ...; outcomes travel as "code text", digests as text.
#include "trainer/verified_checkpoint.h"

namespace lockstep {
namespace {

constexpr char kSeparator = '\n';

// What one rank reports: its exit code, then the digest it sees or what is wrong.
std::string outcome_of(std::unique_ptr<CheckpointReader>& reader, const std::string& path,
                       const World& world, const Progress& progress) {
  const auto outcome = [](ExitCode code, const std::string& text) {
    return fmt::format("{} {}", static_cast<int>(code), text);
  };
  try {
    reader = std::make_unique<CheckpointReader>(path);
    reader->verify_files(world.rank(), world.size(), progress);
    return outcome(ExitCode::kDone, reader->digest());
  } catch (const UserError& error) {
    return outcome(error.code(), error.what());
  }
}

}  // namespace

VerifiedCheckpoint open_verified(const std::string& path, World& world, const Progress& progress) {
  VerifiedCheckpoint opened;
  const std::vector<std::string> outcomes =
      world.all_gather(outcome_of(opened.reader, path, world, progress));
  const auto refuse = [&](std::size_t rank, ExitCode code, const std::string& cause) {
    if (opened.code != ExitCode::kDone) return;
    opened.code = code;
    opened.cause = rank == 0 ? cause : fmt::format("rank {}: {}", rank, cause);
  };
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
    const std::size_t space = outcomes[rank].find(' ');
    const auto code = static_cast<ExitCode>(std::stoi(outcomes[rank].substr(0, space)));
    if (code != ExitCode::kDone) refuse(rank, code, outcomes[rank].substr(space + 1));
  }
  for (std::size_t rank = 1; rank < outcomes.size(); ++rank) {
    if (outcomes[rank] == outcomes[0]) continue;
    refuse(
        rank, ExitCode::kData,
        fmt::format("{}: another checkpoint than rank 0 sees there; put it on a file system that "
                    "all nodes share",
                    path));
  }
  if (opened.code != ExitCode::kDone) {
    opened.reader.reset();
  } else {
    opened.reader->trust_files();
  }
  return opened;
}

std::vector<CheckpointEntry> list_together(const std::string& checkpoints, World& world) {
  std::string listing;
  std::string failure;
  if (world.rank() == 0) {
    try {
      for (const CheckpointEntry& entry : list_checkpoints(checkpoints)) {
        listing += fmt::format("{} {}{}", entry.step, entry.path, kSeparator);
      }
    } catch (const UserError& error) {
      failure = error.what();
    }
  }
  failure = world.broadcast(failure, 0);
  if (!failure.empty()) fail_together(ExitCode::kIo, "{}", failure);
  listing = world.broadcast(listing, 0);
  std::vector<CheckpointEntry> entries;
  for (std::size_t begin = 0; begin < listing.size();) {
    const std::size_t end = listing.find(kSeparator, begin);
    const std::size_t space = listing.find(' ', begin);
    entries.push_back({listing.substr(space + 1, end - space - 1),
                       std::stoll(listing.substr(begin, space - begin))});
    begin = end + 1;
  }
  return entries;
}

std::unique_ptr<CheckpointReader> newest_valid_checkpoint(const std::string& checkpoints,
                                                          World& world, Log& log) {
  const std::vector<CheckpointEntry> entries = list_together(checkpoints, world);
  for (const CheckpointEntry& entry : entries) {
    VerifiedCheckpoint opened = open_verified(entry.path, world);
    if (opened.reader != nullptr) return std::move(opened.reader);
    if (log.rank() == 0) log.warn("{} is skipped: {}", entry.path, opened.cause);
  }
  if (entries.empty()) return nullptr;
  fail_together(
      ExitCode::kData,
      "{}: no checkpoint here is whole; restore one from a backup, or start over with another "
      "run.dir",
      checkpoints);
}

}  // namespace lockstep
