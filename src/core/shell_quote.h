// Words for command lines that a message proposes: what is printed can be pasted into a shell and
// means the same there, whatever characters a path holds.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

// `word` as one word of a POSIX shell, quoted only where it must be and always on one line (control
// characters as $'\n', which bash, zsh and ksh read).
std::string shell_word(std::string_view word);

// A path as an argument of its own: as shell_word(), and never taken for a flag.
std::string shell_path(std::string_view path);

// `path` as one item of a comma-separated list (--data.train=A,B): what split_list() reads back.
std::string list_item(std::string_view path);

// The items of a comma-separated list: spaces around them are dropped, empty ones left out, and
// "\," is a comma inside an item.
std::vector<std::string> split_list(std::string_view text);

}  // namespace lockstep
