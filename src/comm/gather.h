// What every rank has, of any type that core/packed.h packs: lists of texts, of numbers, of plain
// structs, each rank's as long as it likes.
#pragma once

#include "comm/communicator.h"
#include "core/packed.h"

#include <string>
#include <vector>

namespace lockstep {

// Collective. Everyone receives everyone's value, by rank.
template <typename T>
std::vector<T> all_gather_packed(World& world, const T& mine) {
  Packer packer;
  packer.put(mine);
  std::vector<T> all;
  for (const std::string& bytes : world.all_gather(packer.bytes())) {
    Unpacker(bytes).get(all.emplace_back());
  }
  return all;
}

}  // namespace lockstep
