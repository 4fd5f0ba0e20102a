// What every communicator checks before it moves anything: one definition of a legal call, so that
// self, mpi and nccl refuse the same arguments with the same words.
#pragma once

#include "comm/communicator.h"

namespace lockstep {

// out.count * size == in.count, one dtype, one device. `call` names the collective.
void check_scatter(const TypedSpan& out, const TypedSpan& in, int size, std::string_view call);
void check_gather(const TypedSpan& out, const TypedSpan& in, int size, std::string_view call);
void check_span(const TypedSpan& span, std::string_view call);

}  // namespace lockstep
