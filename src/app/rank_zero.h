// Long work that only rank 0 does, while the others wait for it and keep in touch: no deadline of
// the world passes, and a signal on any rank stops the work.
#pragma once

#include "app/session.h"

#include <functional>

namespace lockstep {

// Collective. `work` runs on rank 0 and calls the function it is given often; that one throws
// UserError(kInterrupted) once any rank has been asked to stop. What `work` throws is thrown on
// every rank, as agree() does.
void on_rank_zero(World& world, const std::function<void(const std::function<void()>& tick)>& work);

}  // namespace lockstep
