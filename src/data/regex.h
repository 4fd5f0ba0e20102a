// Regular expressions of tokenizer.json files. They are written for Oniguruma; ours run in PCRE2,
// so a pattern is rewritten where the two read it differently (what \s and \w hold, for instance)
// and refused where that is not done. Unicode's version is that of the libraries: a character that
// one of them does not know yet may be a letter for the other.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace lockstep {

// The PCRE2 pattern that matches what Oniguruma's does. Throws UserError(kData): "ORIGIN: what".
std::string translate_regex(std::string_view pattern, const std::string& origin);

// What one thread needs for matching; usable with any Regex.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
};

class Regex {
 public:
  // `origin` names the file in messages. Throws UserError(kData) for a pattern that is not
  // understood or too long.
  Regex(std::string_view pattern, std::string origin);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // The first match at or after `from` of `text`, which is valid UTF-8. Throws UserError(kData) if
  // the search takes too many steps.
  bool find(std::size_t& start, std::size_t& end, RegexScratch& scratch, std::string_view text,
            std::size_t from) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep
