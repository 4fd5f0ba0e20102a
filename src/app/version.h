// The versions of this program and of everything it stands on, for --version, `doctor` and the log.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace lockstep {

// (name, version) in the order of printing; "lockstep" first.
std::vector<std::pair<std::string, std::string>> library_versions();
// The same as aligned lines.
std::vector<std::string> version_lines();

}  // namespace lockstep
