// Nothing is collected: each part of a text is handed on as soon as its end is known.
#include "data/text_splitter.h"

#include "core/utf8.h"
#include "data/nfc.h"

namespace lockstep {
namespace {

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// The start of the character before `pos`, if it is a valid one; else `pos`.
std::size_t previous(std::string_view text, std::size_t pos) {
  std::size_t start = pos;
  while (start > 0 && pos - start < 4) {
    --start;
    if (!is_continuation(text[start])) break;
  }
  return decode_utf8(text, start).bytes == pos - start ? start : pos;
}

bool starts_segment_at(std::string_view text, std::size_t pos) {
  const CodePoint point = decode_utf8(text, pos);
  return point.bytes > 0 && starts_segment(point.value);
}

// A place to start (or end) a window around a cut from which normalization does not look further
// back: the nearest one at or before `pos`, or `limit`.
std::size_t segment_before(std::string_view text, std::size_t pos, std::size_t limit) {
  while (pos > limit && !starts_segment_at(text, pos)) --pos;
  return pos;
}

void append_normalized(std::string& out, std::string_view text) {
  std::string buffer;
  for (std::size_t pos = 0; pos < text.size();) {
    const std::size_t valid = valid_stretch(text, pos);
    out += nfc(text.substr(pos, valid), buffer);
    const std::size_t invalid = invalid_stretch(text, pos + valid);
    out += text.substr(pos + valid, invalid);
    pos += valid + invalid;
  }
}

}  // namespace

TextSplitter::TextSplitter(PreTokenizer pre_tokenizer, bool normalizes,
                           const std::vector<AddedToken>& added, const std::string& origin)
    : pre_tokenizer_(std::move(pre_tokenizer)), normalizes_(normalizes) {
  std::vector<AddedToken> plain;
  std::vector<AddedToken> normalized;
  std::string buffer;
  for (const AddedToken& token : added) {
    if (!token.normalized) {
      plain.push_back(token);
      continue;
    }
    normalized.push_back(token);
    if (normalizes) normalized.back().text = std::string(nfc(token.text, buffer));
  }
  tokens_ = TokenMatcher(std::move(plain));
  normalized_tokens_ = TokenMatcher(std::move(normalized));
  const std::string boundary = pre_tokenizer_boundary(pre_tokenizer_.name());
  if (!boundary.empty()) boundary_.emplace(boundary, origin);
}

void TextSplitter::split(std::string_view text, SplitScratch& scratch, SplitSink& sink) const {
  tokens_.find(scratch.matches, text);
  std::size_t done = 0;
  for (const TokenMatch& match : scratch.matches) {
    split_section(text.substr(done, match.start - done), scratch, sink);
    sink.token(match.id);
    done = match.end;
  }
  split_section(text.substr(done), scratch, sink);
}

void TextSplitter::split_section(std::string_view section, SplitScratch& scratch,
                                 SplitSink& sink) const {
  for (std::size_t pos = 0; pos < section.size();) {
    const std::size_t valid = valid_stretch(section, pos);
    if (valid > 0) split_valid(section.substr(pos, valid), scratch, sink);
    pos += valid;
    const std::size_t invalid = invalid_stretch(section, pos);
    if (invalid > 0) sink.piece(section.substr(pos, invalid));
    pos += invalid;
  }
}

void TextSplitter::split_valid(std::string_view text, SplitScratch& scratch,
                               SplitSink& sink) const {
  if (normalizes_) text = nfc(text, scratch.normalized);
  if (normalized_tokens_.empty()) return pre_tokenizer_.split(text, scratch.regex, sink);
  normalized_tokens_.find(scratch.normalized_matches, text);
  std::size_t done = 0;
  for (const TokenMatch& match : scratch.normalized_matches) {
    pre_tokenizer_.split(text.substr(done, match.start - done), scratch.regex, sink);
    sink.token(match.id);
    done = match.end;
  }
  pre_tokenizer_.split(text.substr(done), scratch.regex, sink);
}

std::size_t TextSplitter::safe_cut(std::string_view text) const {
  if (!boundary_) return 0;
  RegexScratch scratch;
  for (std::size_t pos = text.size(); pos > 0; --pos) {
    if (may_cut(text, pos, scratch)) return pos;
  }
  return 0;
}

bool TextSplitter::may_cut(std::string_view text, std::size_t pos, RegexScratch& scratch) const {
  const CodePoint right = decode_utf8(text, pos);
  if (right.bytes == 0 || (normalizes_ && !starts_segment(right.value))) return false;
  const std::size_t left = previous(text, pos);
  if (left == pos) return false;
  std::size_t start = 0;
  std::size_t end = 0;
  const std::string_view both = text.substr(left, pos + right.bytes - left);
  return boundary_->find(start, end, scratch, both, 0) && !token_touches(text, pos);
}

bool TextSplitter::token_touches(std::string_view text, std::size_t pos) const {
  if (tokens_.touches(text, pos)) return true;
  if (!normalizes_ || normalized_tokens_.empty()) return normalized_tokens_.touches(text, pos);
  // A token's characters may stand decomposed in the text, at a few times its length.
  const std::size_t reach = normalized_tokens_.longest() * 4 + 64;
  const std::size_t from = segment_before(text, pos > reach ? pos - reach : 0, 0);
  const std::size_t far = text.size() - pos > reach ? pos + reach : text.size();
  const std::size_t to = segment_before(text, far, pos);
  std::string window;
  append_normalized(window, text.substr(from, pos - from));
  const std::size_t at = window.size();
  append_normalized(window, text.substr(pos, to - pos));
  return normalized_tokens_.touches(window, at);
}

}  // namespace lockstep
