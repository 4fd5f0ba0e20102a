// The tokens are a sorted list; the candidates at a position are a range of it that narrows with
// every further byte. Few positions have a candidate at all.
#include "data/added_tokens.h"

#include "core/error.h"
#include "core/utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>

namespace lockstep {
namespace {

bool is_space(char32_t c) {
  const bool control = (c >= 9 && c <= 13) || c == 0x85;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return control || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

bool is_word(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return c == 0x200c || c == 0x200d;
  }
}

// The character that ends at `pos`; bytes 0 if there is none.
CodePoint before(std::string_view text, std::size_t pos) {
  for (std::size_t back = 1; back <= 4 && back <= pos; ++back) {
    const CodePoint point = decode_utf8(text, pos - back);
    if (point.bytes == back) return point;
  }
  return {};
}

bool touches_word(std::string_view text, std::size_t start, std::size_t end) {
  const CodePoint left = before(text, start);
  const CodePoint right = decode_utf8(text, end);
  return (left.bytes > 0 && is_word(left.value)) || (right.bytes > 0 && is_word(right.value));
}

}  // namespace

TokenMatcher::TokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.text < b.text; });
  std::size_t firsts = 0;
  std::size_t next = 0;
  for (int byte = 0; byte < 256; ++byte) {
    first_[static_cast<std::size_t>(byte)] = static_cast<std::uint32_t>(next);
    const std::size_t begin = next;
    while (next < tokens_.size() && static_cast<unsigned char>(tokens_[next].text[0]) == byte) {
      longest_ = std::max(longest_, tokens_[next].text.size());
      ++next;
    }
    if (next == begin) continue;
    only_first_ = byte;
    ++firsts;
  }
  first_[256] = static_cast<std::uint32_t>(next);
  if (firsts != 1) only_first_ = -1;
}

std::size_t TokenMatcher::next_candidate(std::string_view text, std::size_t pos) const {
  if (pos >= text.size()) return text.size();
  if (only_first_ >= 0) {
    const void* found = std::memchr(text.data() + pos, only_first_, text.size() - pos);
    return found == nullptr
               ? text.size()
               : static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
  }
  for (; pos < text.size(); ++pos) {
    const auto byte = static_cast<unsigned char>(text[pos]);
    if (first_[byte] != first_[byte + 1U]) break;
  }
  return pos;
}

const AddedToken* TokenMatcher::longest_at(bool& open, std::string_view text,
                                           std::size_t pos) const {
  const auto lead = static_cast<unsigned char>(text[pos]);
  auto low = tokens_.begin() + first_[lead];
  auto high = tokens_.begin() + first_[lead + 1U];
  const AddedToken* best = nullptr;
  open = false;
  for (std::size_t depth = 1; low != high; ++depth) {
    if (low->text.size() == depth) best = &*low++;
    if (low == high) break;
    if (pos + depth == text.size()) {
      open = true;
      break;
    }
    const auto byte = static_cast<unsigned char>(text[pos + depth]);
    const auto at = [depth](const AddedToken& token) {
      return static_cast<unsigned char>(token.text[depth]);
    };
    low = std::partition_point(low, high, [&](const AddedToken& t) { return at(t) < byte; });
    high = std::partition_point(low, high, [&](const AddedToken& t) { return at(t) == byte; });
  }
  return best;
}

void TokenMatcher::find(std::vector<TokenMatch>& matches, std::string_view text) const {
  matches.clear();
  if (tokens_.empty()) return;
  std::size_t done = 0;
  bool open = false;
  for (std::size_t pos = 0; (pos = next_candidate(text, pos)) < text.size();) {
    const AddedToken* token = longest_at(open, text, pos);
    if (token == nullptr) {
      ++pos;
      continue;
    }
    std::size_t start = pos;
    std::size_t end = pos + token->text.size();
    pos = end;
    if (token->single_word && touches_word(text, start, end)) continue;
    for (CodePoint c; token->lstrip && start > done; start -= c.bytes) {
      c = before(text, start);
      if (c.bytes == 0 || !is_space(c.value)) break;
    }
    for (CodePoint c; token->rstrip && end < text.size(); end += c.bytes) {
      c = decode_utf8(text, end);
      if (c.bytes == 0 || !is_space(c.value)) break;
    }
    start = std::max(start, done);
    end = std::max(end, start);
    matches.push_back({start, end, token->id});
    done = end;
  }
}

bool TokenMatcher::touches(std::string_view text, std::size_t pos) const {
  if (tokens_.empty()) return false;
  bool open = false;
  std::size_t from = pos > longest_ ? pos - longest_ : 0;
  while ((from = next_candidate(text, from)) < text.size() && from <= pos) {
    const AddedToken* token = longest_at(open, text, from);
    if (open || (token != nullptr && from + token->text.size() >= pos)) return true;
    ++from;
  }
  return false;
}

}  // namespace lockstep
