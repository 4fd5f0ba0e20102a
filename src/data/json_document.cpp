// An event parser that keeps the three members it looks for and passes over all others, however
// large or deep they are.
#include "data/json_document.h"

#include "core/error.h"
#include "data/json_relax.h"
#include "data/text_input.h"

#include <nlohmann/json.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace lockstep {
namespace {

using nlohmann::json;

constexpr std::size_t kNamesShown = 8;
constexpr std::size_t kNameLength = 40;

enum class Member { kText, kPrompt, kCompletion, kOther };

class DocumentEvents : public nlohmann::json_sax<json> {
 public:
  explicit DocumentEvents(const std::string& field) : field_(field) {}

  bool null() override { return other("null"); }
  bool boolean(bool) override { return other("a boolean"); }
  bool number_integer(number_integer_t) override { return other("a number"); }
  bool number_unsigned(number_unsigned_t) override { return other("a number"); }
  bool number_float(number_float_t, const string_t&) override { return other("a number"); }
  bool binary(binary_t&) override { return other("binary data"); }
  bool string(string_t& value) override {
    if (depth_ != 1) return other("a string");
    if (member_ != Member::kOther) slot() = std::move(value);
    wrong_[index()] = "";
    return true;
  }
  bool start_object(std::size_t) override {
    if (depth_ == 0) is_object_ = true;
    return start("an object");
  }
  bool start_array(std::size_t) override { return start("a list"); }
  bool end_object() override { return --depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool key(string_t& name) override {
    if (depth_ != 1) return true;
    member_ = member_of(name);
    if (names_.size() < kNamesShown) names_.push_back(name.substr(0, kNameLength));
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    error_at_ = static_cast<std::int64_t>(position);
    bad_utf8_ = std::string_view(error.what()).find("UTF-8") != std::string_view::npos;
    return false;
  }

  JsonDocument document(const std::string& where);
  [[noreturn]] void fail_syntax(const std::string& where) const;

 private:
  std::size_t index() const { return static_cast<std::size_t>(member_); }
  std::optional<std::string>& slot() { return values_[index()]; }
  Member member_of(const std::string& name) const {
    if (name == field_) return Member::kText;
    if (name == "prompt") return Member::kPrompt;
    return name == "completion" ? Member::kCompletion : Member::kOther;
  }
  bool other(const char* kind) {
    if (depth_ == 1) {
      slot().reset();
      wrong_[index()] = kind;
    }
    return true;
  }
  bool start(const char* kind) {
    other(kind);
    ++depth_;
    return true;
  }
  void check_types(const std::string& where) const;
  [[noreturn]] void fail_missing(const std::string& where) const;

  const std::string& field_;
  std::array<std::optional<std::string>, 4> values_;  // by Member
  std::array<std::string, 4> wrong_;                  // what stands there instead of a string
  std::vector<std::string> names_;                    // of the members, for messages
  Member member_ = Member::kOther;
  int depth_ = 0;
  bool is_object_ = false;
  bool bad_utf8_ = false;
  std::int64_t error_at_ = 0;
};

void DocumentEvents::fail_syntax(const std::string& where) const {
  if (bad_utf8_) {
    fail(ExitCode::kData, "{}: not UTF-8 near byte {} of the line; convert the file to UTF-8",
         where, error_at_);
  }
  fail(ExitCode::kData, "{}: not valid JSON at byte {} of the line; each line is one JSON object",
       where, error_at_);
}

void DocumentEvents::check_types(const std::string& where) const {
  const std::array<std::string, 3> names = {field_, "prompt", "completion"};
  const std::size_t last = values_[0] ? 1 : names.size();
  for (std::size_t i = 0; i < last; ++i) {
    if (wrong_[i].empty()) continue;
    fail(ExitCode::kData, "{}: \"{}\" is {}; it must be a string", where, names[i], wrong_[i]);
  }
}

void DocumentEvents::fail_missing(const std::string& where) const {
  for (const Member member : {Member::kPrompt, Member::kCompletion}) {
    const Member missing = member == Member::kPrompt ? Member::kCompletion : Member::kPrompt;
    if (!values_[static_cast<std::size_t>(member)]) continue;
    fail(ExitCode::kData, "{}: \"{}\" without \"{}\"; add it, or name the text with --text-field",
         where, member == Member::kPrompt ? "prompt" : "completion",
         missing == Member::kPrompt ? "prompt" : "completion");
  }
  std::string names;
  for (const std::string& name : names_) {  // a cut name may end inside a character
    names += names.empty() ? "" : ", ";
    names += json(name).dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
  }
  fail(ExitCode::kData,
       "{}: no \"{}\", and no \"prompt\" with \"completion\"; it has {}: name the text with "
       "--text-field",
       where, field_, names.empty() ? "nothing" : names);
}

JsonDocument DocumentEvents::document(const std::string& where) {
  if (!is_object_) {
    fail(ExitCode::kData, "{}: not a JSON object; each line is one, such as {{\"text\": \"...\"}}",
         where);
  }
  check_types(where);
  const auto at = [&](Member member) -> auto& { return values_[static_cast<std::size_t>(member)]; };
  if (at(Member::kText)) return {"", std::move(*at(Member::kText)), /*has_prompt=*/false};
  if (!at(Member::kPrompt) || !at(Member::kCompletion)) fail_missing(where);
  return {std::move(*at(Member::kPrompt)), std::move(*at(Member::kCompletion)), true};
}

}  // namespace

std::uint64_t JsonDocument::hash() const {
  if (prompt.empty()) return document_hash(text, bytes());
  const auto most = static_cast<std::size_t>(kHashedBytes);
  return document_hash(prompt.substr(0, most) + text.substr(0, most), bytes());
}

JsonDocument parse_document(std::string_view line, const std::string& field,
                            const std::string& where) {
  DocumentEvents strict(field);
  if (json::sax_parse(line.begin(), line.end(), &strict)) return strict.document(where);
  const auto relaxed = [&](std::string_view surrogate) {
    const std::string text = relaxed_json(line, surrogate);
    DocumentEvents events(field);
    if (!json::sax_parse(text.begin(), text.end(), &events)) events.fail_syntax(where);
    return events.document(where);
  };
  JsonDocument document = relaxed("\\ufffd");
  // U+FFFD has three bytes, a space has one: so many of them are in what is used.
  document.replaced = (document.bytes() - relaxed("\\u0020").bytes()) / 2;
  return document;
}

}  // namespace lockstep
