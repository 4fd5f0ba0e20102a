// Added tokens (most of them special): found in the text itself, before it is cut into pieces, from
// left to right and the longest of those that start at the same place.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

struct AddedToken {
  std::string text;
  std::int32_t id = 0;
  bool single_word = false;  // not where a letter, digit or mark touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool normalized = false;   // looked for in normalized text
  bool special = false;
};

struct TokenMatch {
  std::size_t start = 0;  // with the white space that it takes along
  std::size_t end = 0;
  std::int32_t id = 0;
};

class TokenMatcher {
 public:
  TokenMatcher() = default;
  explicit TokenMatcher(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }
  // All matches in `text`, in order, in `matches`, which is cleared.
  void find(std::vector<TokenMatch>& matches, std::string_view text) const;
  // True if a token, or the beginning of one at the end of `text`, reaches over or touches `pos`.
  bool touches(std::string_view text, std::size_t pos) const;
  std::size_t longest() const { return longest_; }

 private:
  // The longest token that starts at `pos`, or null. `open`: set if a longer one might, were there
  // more text.
  const AddedToken* longest_at(bool& open, std::string_view text, std::size_t pos) const;
  std::size_t next_candidate(std::string_view text, std::size_t pos) const;

  std::vector<AddedToken> tokens_;          // sorted by text
  std::array<std::uint32_t, 257> first_{};  // first_[b]: tokens before those that begin with byte b
  std::size_t longest_ = 0;
  int only_first_ = -1;  // the one byte all of them begin with, or -1
};

}  // namespace lockstep
