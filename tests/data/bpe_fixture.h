// A small byte-level BPE tokenizer.json made in one line, to be changed by the test.
#pragma once

#include "core/rng.h"
#include "data/byte_alphabet.h"
#include "data/pre_tokenizer.h"
#include "data/tokenizer.h"
#include "fixture.h"

#include <nlohmann/json.hpp>

#include <string>
#include <utility>
#include <vector>

namespace lockstep::test {

using nlohmann::json;

// The 256 bytes by value, then one token per merge ("t h", ...; in the alphabet).
inline json bpe_json(const std::vector<std::string>& merges, const std::string& name = "gpt2") {
  json vocab = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    const char value = static_cast<char>(byte);
    vocab[to_alphabet({&value, 1})] = byte;
  }
  for (std::string merge : merges) {
    merge.erase(merge.find(' '), 1);
    vocab[merge] = vocab.size();
  }
  return {{"version", "1.0"},
          {"added_tokens", json::array()},
          {"normalizer", json::parse(normalizer_json(name))},
          {"pre_tokenizer", json::parse(pre_tokenizer_json(name))},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

inline json added(const std::string& text, int id, bool special = true) {
  return {{"content", text}, {"id", id}, {"special", special}, {"normalized", !special}};
}

inline std::unique_ptr<Tokenizer> parse(const json& root, const std::string& config = "") {
  return parse_tokenizer(root.dump(), config, "tokenizer.json");
}

inline std::vector<std::int32_t> ids_of(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::int32_t> ids;
  tokenizer.encode(text, ids);
  return ids;
}

// A text of pieces that pre-tokenizers treat differently: spaces, digits, marks, Han, broken bytes.
inline std::string odd_text(std::uint64_t seed, int pieces) {
  static const std::vector<std::string> parts = {" ",
                                                 "  ",
                                                 "\n",
                                                 "\r\n",
                                                 "\t",
                                                 "\xc2\xa0",
                                                 "\xc2\x85",
                                                 "\xe2\x80\x8b",
                                                 "\xe1\xa0\x8e",
                                                 "the",
                                                 "Then",
                                                 "don't",
                                                 "'S",
                                                 "'ll",
                                                 "'\xc5\xbf",
                                                 "cafe",
                                                 "\xcc\x81",
                                                 "\xcc\xb8",
                                                 "=",
                                                 "12",
                                                 "1234567",
                                                 "\xc2\xbd",
                                                 "\xd9\xa4",
                                                 "!?",
                                                 "...",
                                                 "x_1",
                                                 "/*",
                                                 "\xe4\xb8\xad\xe6\x96\x87",
                                                 "\xe3\x82\xab",
                                                 "\xe3\x82\x99",
                                                 "\xea\xb0\x80",
                                                 "\xe1\x84\x80",
                                                 "\xe1\x85\xa1",
                                                 "\xe1\x86\xa8",
                                                 "\xe2\x84\xab",
                                                 "\xf0\x9f\x98\x80",
                                                 "\xe2\x80\x8d",
                                                 "\xff",
                                                 "\xe4\xb8",
                                                 "\x80",
                                                 "<tool>",
                                                 "<to",
                                                 "caf\xc3\xa9",
                                                 "[L]",
                                                 "[R]",
                                                 "<|e|>",
                                                 std::string(1, '\0'),
                                                 "\xc2\xad",
                                                 "\xe0\xa4\xb9\xe0\xa4\xbf"};
  std::string text;
  for (int i = 0; i < pieces; ++i) {
    text += parts[philox(seed, static_cast<std::uint64_t>(i))[0] % parts.size()];
  }
  return text;
}

}  // namespace lockstep::test
