// The byte tokenizer, and the directory that remembers which tokenizer made a corpus: meta.json
// with type and vocab, beside whatever files that type needs.
#include "data/tokenizer.h"

#include "core/error.h"
#include "data/file.h"
#include "data/prepared.h"

#include <nlohmann/json.hpp>

#include <array>
#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kMetaFile = "meta.json";
constexpr std::int64_t kMetaLimit = 1 << 20;
constexpr std::array<std::string_view, 1> kKinds = {"byte"};

void write_meta(const std::string& directory, std::string_view type, std::int64_t vocab) {
  const std::string path = (fs::path(directory) / kMetaFile).string();
  const json meta = {{"type", type}, {"vocab", vocab}};
  const std::string text = meta.dump(2) + "\n";
  const Fd fd = create_file(path);
  write_all(fd, text.data(), text.size(), path);
  sync_file(fd, path);
}

class ByteTokenizer : public Tokenizer {
 public:
  static constexpr std::int64_t kVocab = 256;

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
  void save(const std::string& directory) const override {
    write_meta(directory, name(), vocab_size());
  }
  void save_hugging_face(const std::string& directory) const override { save(directory); }

 private:
  TokenTable table_;
};

json read_meta(const std::string& path) {
  const OpenFile file = open_for_read(path, "a tokenizer's meta.json");
  if (file.bytes < 0 || file.bytes > kMetaLimit) {
    fail(ExitCode::kData, "{}: {} bytes; no tokenizer's meta.json", path, file.bytes);
  }
  std::string text(static_cast<std::size_t>(file.bytes), '\0');
  read_at(file.fd, text.data(), text.size(), 0, path);
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

std::unique_ptr<Tokenizer> open_directory(const std::string& path) {
  const json meta = read_meta(path);
  const auto type = meta["type"].get<std::string>();
  const auto vocab = meta["vocab"].get<std::int64_t>();
  if (type != "byte") {
    fail(ExitCode::kData, "{}: tokenizer type '{}' is not understood; known: byte", path, type);
  }
  if (vocab != ByteTokenizer::kVocab) {
    fail(ExitCode::kData,
         "{}: vocab {} of a byte tokenizer; it has {}: run `lockstep prepare` again", path, vocab,
         ByteTokenizer::kVocab);
  }
  return std::make_unique<ByteTokenizer>();
}

[[noreturn]] void fail_unknown(const std::string& spec) {
  const std::string near = nearest(spec, kKinds);
  fail(ExitCode::kUsage,
       "unknown tokenizer '{}'{}; give byte, or the directory of a tokenizer or of `lockstep "
       "prepare`",
       spec, near.empty() ? "" : "; did you mean '" + near + "'?");
}

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& spec, const std::string& /*eos*/) {
  if (spec == "byte") return std::make_unique<ByteTokenizer>();
  std::error_code ignored;
  const fs::path path(spec);
  if (fs::is_directory(path, ignored)) {
    for (const fs::path& meta : {path / kMetaFile, path / kTokenizerDirectory / kMetaFile}) {
      if (fs::exists(meta, ignored)) return open_directory(meta.string());
    }
    fail(ExitCode::kData, "{}: no tokenizer here (neither {} nor {}/{}); name another directory",
         spec, kMetaFile, kTokenizerDirectory, kMetaFile);
  }
  if (fs::exists(path, ignored)) {
    fail(ExitCode::kData, "{}: not a tokenizer directory; give byte, or a directory with {}", spec,
         kMetaFile);
  }
  if (spec.find('/') != std::string::npos) {
    fail(ExitCode::kData, "{}: no such tokenizer directory", spec);
  }
  fail_unknown(spec);
}

}  // namespace lockstep
