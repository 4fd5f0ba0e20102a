// Single quotes keep everything but themselves; only control characters need the $'...' form.
#include "core/shell_quote.h"

#include <fmt/core.h>

#include <algorithm>

namespace lockstep {
namespace {

constexpr std::string_view kPlain =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=:,@%";

bool is_control(char c) { return (c >= 0 && c < 0x20) || c == 0x7f; }

// The form $'...', in which a backslash starts an escape.
std::string escaped(std::string_view word) {
  std::string out = "$'";
  for (const char c : word) {
    if (is_control(c)) {
      out += fmt::format("\\{:03o}", static_cast<unsigned>(c));
    } else {
      if (c == '\'' || c == '\\') out += '\\';
      out += c;
    }
  }
  return out + "'";
}

}  // namespace

std::string shell_word(std::string_view word) {
  if (!word.empty() && word.find_first_not_of(kPlain) == word.npos) return std::string(word);
  if (std::any_of(word.begin(), word.end(), is_control)) return escaped(word);
  std::string out = "'";
  for (const char c : word) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

std::string shell_path(std::string_view path) {
  return shell_word(path.starts_with('-') ? "./" + std::string(path) : std::string(path));
}

std::string list_item(std::string_view path) {
  // "0.7:" in front would be a weight, and spaces at the ends would be dropped.
  const bool ambiguous =
      path.starts_with(' ') || path.substr(0, path.find('/')).find(':') != path.npos;
  std::string item = ambiguous ? "./" : "";
  for (const char c : path) {
    if (c == ',') item += '\\';
    item += c;
  }
  if (item.ends_with(' ')) item += '/';
  return item;
}

std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> items;
  std::string item;
  const auto finish = [&] {
    const std::size_t first = std::min(item.find_first_not_of(' '), item.size());
    const std::size_t last = item.find_last_not_of(' ');
    if (first < item.size()) items.push_back(item.substr(first, last + 1 - first));
    item.clear();
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, 2) == "\\,") {
      item += text[++i];
    } else if (text[i] == ',') {
      finish();
    } else {
      item += text[i];
    }
  }
  finish();
  return items;
}

}  // namespace lockstep
