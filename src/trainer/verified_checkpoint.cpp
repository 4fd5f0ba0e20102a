// Rank r of W hashes shards r, r + W, ...; every rank hears every rank's outcome.
#include "trainer/verified_checkpoint.h"

#include "core/packed.h"

namespace lockstep {
namespace {

// What one rank reports.
struct Outcome {
  ExitCode code = ExitCode::kDone;
  std::string text;  // the digest that it sees, or what is wrong
};

Outcome outcome_of(std::unique_ptr<CheckpointReader>& reader, const std::string& path,
                   const World& world, const Progress& progress) {
  try {
    reader = std::make_unique<CheckpointReader>(path);
    reader->verify_files(world.rank(), world.size(), progress);
    return {ExitCode::kDone, reader->digest()};
  } catch (const UserError& error) {
    return {error.code(), error.what()};
  }
}

}  // namespace

VerifiedCheckpoint open_verified(const std::string& path, World& world, const Progress& progress) {
  VerifiedCheckpoint opened;
  const Outcome mine = outcome_of(opened.reader, path, world, progress);
  const std::vector<ExitCode> codes = world.all_gather_values(mine.code);
  const std::vector<std::string> texts = world.all_gather(mine.text);
  const auto refuse = [&](std::size_t rank, ExitCode code, const std::string& cause) {
    if (opened.code != ExitCode::kDone) return;
    opened.code = code;
    opened.cause = rank == 0 ? cause : fmt::format("rank {}: {}", rank, cause);
  };
  for (std::size_t rank = 0; rank < codes.size(); ++rank) {
    if (codes[rank] != ExitCode::kDone) refuse(rank, codes[rank], texts[rank]);
  }
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] == texts[0]) continue;
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
  std::vector<CheckpointEntry> entries;
  std::string failure;
  if (world.rank() == 0) {
    try {
      entries = list_checkpoints(checkpoints);
    } catch (const UserError& error) {
      failure = error.what();
    }
  }
  failure = world.broadcast(failure, 0);
  if (!failure.empty()) fail_together(ExitCode::kIo, "{}", failure);
  Packer packer;
  packer.put(static_cast<std::uint64_t>(entries.size()));
  for (const CheckpointEntry& entry : entries) {
    packer.put(entry.path);
    packer.put(entry.step);
  }
  const std::string bytes = world.broadcast(packer.bytes(), 0);
  Unpacker unpacker(bytes);
  std::uint64_t count = 0;
  unpacker.get(count);
  entries.resize(count);
  for (CheckpointEntry& entry : entries) {
    unpacker.get(entry.path);
    unpacker.get(entry.step);
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
