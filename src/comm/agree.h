// agree(): a step that may fail on some ranks only ends in the same way on all of them.
#pragma once

#include "comm/communicator.h"

#include <functional>

namespace lockstep {

// Collective: runs a step that can fail on some ranks only. If it failed anywhere, every rank
// throws the same CollectiveError, that of the lowest rank that failed ("rank 3: ..." unless it is
// rank 0). A lost peer (kPeer) is not gathered but thrown at once: there is nobody to agree with.
void agree(World& world, const std::function<void()>& step);

}  // namespace lockstep
