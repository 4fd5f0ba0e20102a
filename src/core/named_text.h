// A small file on its way through memory: a name, relative to the directory that it goes to, and
// all of its content.
#pragma once

#include <string>

namespace lockstep {

struct NamedText {
  std::string name;  // "tokenizer.json"
  std::string text;
};

}  // namespace lockstep
