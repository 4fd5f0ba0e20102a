// How much room a disk has, asked before a long write begins.
#pragma once

#include <cstdint>
#include <string>

namespace lockstep {

// Bytes free to this user on the disk that holds `directory` (or its nearest existing parent);
// -1 if the system does not say.
std::int64_t free_bytes(const std::string& directory);
// Throws UserError(kIo) naming directory, bytes needed and bytes free.
void require_free_space(const std::string& directory, std::int64_t bytes);

// "1.7 GiB".
std::string bytes_text(std::int64_t bytes);

}  // namespace lockstep
