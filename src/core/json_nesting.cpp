// One scan that knows strings, escapes and brackets.
#include "core/json_nesting.h"

#include "core/error.h"

namespace lockstep {

void check_json_nesting(std::string_view text, const std::string& origin) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t pos = 0; pos < text.size(); ++pos) {
    const char c = text[pos];
    if (in_string) {
      if (c == '\\') ++pos;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxJsonDepth) {
        fail(ExitCode::kData,
             "{}: JSON nested deeper than {} levels; no file of this kind is: fetch it again",
             origin, kMaxJsonDepth);
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

}  // namespace lockstep
