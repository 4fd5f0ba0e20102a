// The alphabet in which byte-level vocabularies write bytes: each byte is one printable character,
// so that a token is always valid text. Printable Latin-1 stands for itself, the other 68 bytes are
// U+0100 and up in order (GPT-2's choice, which all byte-level tokenizer.json files share).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace lockstep {

std::string to_alphabet(std::string_view bytes);

// Appends the bytes that `text` stands for; false, with nothing appended, if one of its characters
// is not in the alphabet.
bool from_alphabet(std::string& bytes, std::string_view text);

// The 256 bytes in the order of their characters: the order of a trained vocabulary's first ids.
std::array<std::uint8_t, 256> alphabet_order();

}  // namespace lockstep
