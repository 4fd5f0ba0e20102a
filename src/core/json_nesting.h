// A bound on the nesting of JSON that comes from files: parsers cope with any depth, but copying
// and printing what they made recurses.
#pragma once

#include <string>
#include <string_view>

namespace lockstep {

inline constexpr int kMaxJsonDepth = 64;

// Throws UserError(kData) naming `origin` when brackets outside strings nest deeper. The text need
// not be JSON; call it before parsing.
void check_json_nesting(std::string_view text, const std::string& origin);

}  // namespace lockstep
