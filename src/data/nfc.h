// Unicode's normalization form C, done only where it can matter: text is cut into segments that do
// not interact, and a segment of one character is already normal.
#pragma once

#include <string>
#include <string_view>

namespace lockstep {

// True for characters that never combine with what stands before them and are normal themselves, so
// that text may be normalized in two halves if the second begins with one. Not all such characters.
bool starts_segment(char32_t character);

// `text` (valid UTF-8) in form C: a view of it if nothing changes, else of `buffer`.
std::string_view nfc(std::string_view text, std::string& buffer);

}  // namespace lockstep
