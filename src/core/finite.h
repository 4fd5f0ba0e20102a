// Are all of these numbers? The one check of weights that come from files, on their way in or out,
// and its one message.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace lockstep {

// The position of the first NaN or magnitude of at least `limit`; values.size() if there is none.
std::size_t first_beyond(std::span<const float> values, float limit);

// The position of the first NaN or infinity; values.size() if there is none.
std::size_t first_not_finite(std::span<const float> values);

// Throws UserError(kData) naming `origin` (a file, a run) and the tensor unless all are finite.
void require_finite(std::span<const float> values, const std::string& origin,
                    const std::string& tensor);

}  // namespace lockstep
