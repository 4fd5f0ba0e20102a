// Saved as a meta.json with type and vocab; for Hugging Face's library as a BPE vocabulary of the
// 256 bytes, in order and without merges.
#include "data/byte_tokenizer.h"

#include "core/error.h"
#include "data/bpe_file.h"
#include "data/byte_alphabet.h"
#include "data/json_checks.h"
#include "data/tokenizer_files.h"
#include "files/input_file.h"

#include <nlohmann/json.hpp>

namespace lockstep {
namespace {

using nlohmann::json;

constexpr std::int64_t kVocab = 256;
constexpr std::int64_t kMetaLimit = 1 << 20;
constexpr const char* kWholeText =
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})";

class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer() {
    for (int byte = 0; byte < kVocab; ++byte) {
      const char value = static_cast<char>(byte);
      table_.entries.push_back({to_alphabet({&value, 1}), TokenTable::Kind::kNormal});
    }
    table_.pre_tokenizer = "gpt2";  // any would do: without merges all give the same ids
  }
  std::string_view name() const override { return "byte"; }
  std::int64_t vocab_size() const override { return kVocab; }
  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override {
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    ids.insert(ids.end(), bytes, bytes + text.size());
  }
  std::string decode(const std::vector<std::int32_t>& ids) const override {
    std::string text;
    for (const std::int32_t id : ids) {
      if (id >= 0 && id < kVocab) {
        text += static_cast<char>(id);
      } else {
        text += "\xef\xbf\xbd";  // U+FFFD: a model with a larger vocabulary may sample such an id
      }
    }
    return text;
  }
  std::size_t safe_cut(std::string_view text) const override { return text.size(); }
  std::int32_t end_of_text() const override { return -1; }
  const TokenTable& table() const override { return table_; }
  std::vector<NamedText> files() const override {
    const json meta = {{"type", name()}, {"vocab", vocab_size()}};
    return {{kTokenizerMetaFile, meta.dump(2) + "\n"}};
  }
  std::vector<NamedText> hugging_face_files() const override {
    return {
        {kTokenizerJson, compose_tokenizer(table_, kWholeText, "null", /*ignore_merges=*/false)},
        {kTokenizerConfig, compose_config(table_)},
        {kSpecialTokens, compose_special_tokens(table_)}};
  }

 private:
  TokenTable table_;
};

json read_meta(const std::string& path) {
  const std::string text = InputFile(path, "a tokenizer's meta.json").text(kMetaLimit);
  json meta = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!meta.is_object() || !meta.contains("type") || !meta["type"].is_string() ||
      !meta.contains("vocab") || !meta["vocab"].is_number_integer()) {
    fail(ExitCode::kData,
         "{}: not JSON with a string \"type\" and an integer \"vocab\"; "
         "run `lockstep prepare` again",
         path);
  }
  return meta;
}

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

std::unique_ptr<Tokenizer> open_byte_tokenizer(const std::string& path) {
  const json meta = read_meta(path);
  const auto type = meta["type"].get<std::string>();
  const auto vocab = meta["vocab"].get<std::int64_t>();
  if (type != "byte") {
    fail(ExitCode::kData, "{}: tokenizer type '{}' is not understood; known: byte", path,
         shown(type));
  }
  if (vocab != kVocab) {
    fail(ExitCode::kData,
         "{}: vocab {} of a byte tokenizer; it has {}: run `lockstep prepare` again", path, vocab,
         kVocab);
  }
  return make_byte_tokenizer();
}

}  // namespace lockstep
