// Texts in other encodings than UTF-8, told by their first bytes: a byte-level vocabulary would
// take them without complaint and learn nothing but their bytes.
#pragma once

#include <cstddef>
#include <string_view>

namespace lockstep {

// How many bytes of a file are enough to tell.
inline constexpr std::size_t kEncodingSample = std::size_t{64} << 10;

// iconv's name of the encoding: "UTF-8" where nothing speaks against it, "UTF-16" and "UTF-32" by
// the byte order mark, "UTF-16LE" and "UTF-16BE" by zero bytes, "WINDOWS-1252" (as good as any of
// its kin) by the share of bytes that are no UTF-8. `sample` may end inside a character; a few
// damaged characters in UTF-8 do not count.
std::string_view guess_encoding(std::string_view sample);

}  // namespace lockstep
