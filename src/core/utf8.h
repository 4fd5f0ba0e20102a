// UTF-8 as text that may be damaged: strict decoding of one character (no overlong forms, no
// surrogates), and where valid and invalid stretches end.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lockstep {

struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 0;  // 0: no valid character starts here
};

CodePoint decode_utf8(std::string_view text, std::size_t pos);
void append_utf8(std::string& text, char32_t value);

// Bytes from `from` on that are valid.
std::size_t valid_stretch(std::string_view text, std::size_t from);
// Bytes from `from` on at which no valid character starts.
std::size_t invalid_stretch(std::string_view text, std::size_t from);

}  // namespace lockstep
