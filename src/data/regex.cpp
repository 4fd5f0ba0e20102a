// The PCRE2 wrapper: compiled once, run by its JIT where there is one, with bounded steps so that a
// pattern that backtracks without end is an error instead of a hang.
#include "data/regex.h"

#include "core/error.h"
#include "data/json_checks.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cstdint>

namespace lockstep {
namespace {

constexpr std::size_t kMaxPattern = 16 << 10;
constexpr std::uint32_t kMaxSteps = 20'000'000;
constexpr std::size_t kJitStackFirst = 32 << 10;
constexpr std::size_t kJitStackMost = 4 << 20;

std::string pcre2_text(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct RegexScratch::State {
  State()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(kJitStackFirst, kJitStackMost, nullptr)) {
    CHECK(data != nullptr && context != nullptr, "no memory for a regular expression");
    pcre2_set_match_limit(context, kMaxSteps);
    pcre2_set_heap_limit(context, 1 << 16);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~State() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;
};

RegexScratch::RegexScratch() : state_(std::make_unique<State>()) {}
RegexScratch::~RegexScratch() = default;

struct Regex::State {
  ~State() { pcre2_code_free(code); }
  std::string pattern;
  std::string origin;
  pcre2_code* code = nullptr;
  bool jit = false;
};

Regex::Regex(std::string_view pattern, std::string origin) : state_(std::make_unique<State>()) {
  if (pattern.size() > kMaxPattern) {
    fail(ExitCode::kData, "{}: a regular expression of {} bytes is too long; at most {}", origin,
         pattern.size(), kMaxPattern);
  }
  const std::string translated = translate_regex(pattern, origin);
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  state_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                               PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                               &error, &offset, context.get());
  if (state_->code == nullptr) {
    fail(ExitCode::kData, "{}: the regular expression '{}' is not understood: {}", origin,
         shown(pattern), pcre2_text(error));
  }
  state_->jit = pcre2_jit_compile(state_->code, PCRE2_JIT_COMPLETE) == 0;
  state_->pattern = pattern;
  state_->origin = std::move(origin);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

bool Regex::find(std::size_t& start, std::size_t& end, RegexScratch& scratch, std::string_view text,
                 std::size_t from) const {
  RegexScratch::State& run = *scratch.state_;
  const auto match = state_->jit && run.stack != nullptr ? &pcre2_jit_match : &pcre2_match;
  const int found = match(state_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                          from, PCRE2_NO_UTF_CHECK, run.data, run.context);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) {
    fail(ExitCode::kData,
         "{}: the regular expression '{}' takes too many steps on this text ({}); use another "
         "tokenizer",
         state_->origin, shown(state_->pattern), pcre2_text(found));
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(run.data);
  start = range[0];
  end = range[1];
  CHECK(start >= from && end >= start && end <= text.size(), "match {}..{}", start, end);
  return true;
}

}  // namespace lockstep
