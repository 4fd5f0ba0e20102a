// JSON as common programs write it beyond the standard, made standard: NaN and infinities (Python),
// numbers beyond every type, halves of surrogate pairs (text that was cut at UTF-16 units).
#pragma once

#include <string>
#include <string_view>

namespace lockstep {

// `line` with 0 for every number, also NaN, Infinity and -Infinity, and `surrogate` (as "\ufffd")
// for every \uXXXX that is half a pair. All else stays, also what is no JSON, and every byte keeps
// its place.
std::string relaxed_json(std::string_view line, std::string_view surrogate);

}  // namespace lockstep
