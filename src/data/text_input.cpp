// Naming, spooling, measuring and splitting of inputs.
#include "data/text_input.h"

#include "core/error.h"
#include "core/shell_quote.h"
#include "data/encoding.h"
#include "data/hash.h"
#include "files/input_file.h"
#include "files/staged.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numeric>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kChunk = std::size_t{1} << 20;
constexpr std::int64_t kCharacterBytes = 4;  // of the longest UTF-8 character
constexpr std::array<const char*, 9> kNotText = {".json", ".bz2", ".xz",  ".zip",    ".7z",
                                                 ".tar",  ".tgz", ".bin", ".parquet"};

// Sets format and compression from the name; false if it does not tell.
bool read_name(TextInput& input) {
  fs::path path(input.name);
  bool told = true;
  if (path.extension() == ".gz") {
    input.compression = Compression::kGzip;
  } else if (path.extension() == ".zst") {
    input.compression = Compression::kZstd;
  } else {
    told = false;
  }
  if (told) path.replace_extension();
  const std::string extension = path.extension().string();
  if (std::find(kNotText.begin(), kNotText.end(), extension) != kNotText.end()) {
    fail(ExitCode::kUsage,
         "{}: {} files are not read; give plain text or .jsonl (also .gz or .zst of them), or pipe "
         "it in as '-'",
         input.name, extension);
  }
  input.format = extension == ".jsonl" ? TextFormat::kLines : TextFormat::kText;
  return told || extension == ".jsonl" || extension == ".txt";
}

TextInput find_input(const std::string& name) {
  TextInput input;
  input.name = name;
  if (name == "-") {
    input.name = "standard input";
    input.format = TextFormat::kUndecided;
    input.pipe = InputStream::standard_input();
    return input;
  }
  const bool told = read_name(input);
  InputStream file(name, "a text file");
  if (file.size() < 0) {
    if (!told) input.format = TextFormat::kUndecided;
    input.pipe = std::move(file);
    return input;
  }
  input.path = name;
  input.stored = file.size();
  const bool plain_text =
      input.format == TextFormat::kText && input.compression == Compression::kNone;
  if (plain_text) input.bytes = file.size();
  return input;
}

std::string head_of(const TextInput& input, std::size_t size) {
  const auto source = open_bytes(input.path, input.name, input.compression);
  std::string head(size, '\0');
  std::size_t have = 0;
  while (have < size) {
    const std::size_t got = source->read(head.data() + have, size - have);
    if (got == 0) break;
    have += got;
  }
  head.resize(have);
  return head;
}

// "a/b.txt" -> "a/b.utf8.txt"
std::string utf8_name(const std::string& name) {
  const fs::path path(name);
  return (path.parent_path() / path.stem()).string() + ".utf8" + path.extension().string();
}

// Compression by magic, then JSON lines by the first byte of what is inside.
void decide_format(TextInput& input) {
  input.compression = compression_of(head_of(input, /*size=*/4));
  input.format =
      head_of(input, /*size=*/1).starts_with('{') ? TextFormat::kLines : TextFormat::kText;
}

// The cut of `bytes` of text, moved back to where the character at it begins. `around` holds the
// text from first_around on, as far as the cut.
struct Tail {
  std::int64_t cut = 0;
  std::int64_t around = 0;  // first byte that align() looks at
};

Tail tail_of(std::int64_t bytes, double fraction) {
  const double kept = std::floor(static_cast<double>(bytes) * (1 - fraction));
  const auto cut = std::clamp<std::int64_t>(static_cast<std::int64_t>(kept), 1, bytes - 1);
  return {cut, std::max<std::int64_t>(cut - kCharacterBytes, 0) + 1};
}

// `text` holds the bytes from tail.around to tail.cut.
std::int64_t align(const Tail& tail, std::string_view text) {
  for (std::int64_t at = tail.cut; at >= tail.around; --at) {
    const auto byte = static_cast<unsigned char>(text[static_cast<std::size_t>(at - tail.around)]);
    if ((byte & 0xc0u) != 0x80u) return at;  // no continuation byte: a character begins here
  }
  return tail.cut;  // no UTF-8
}

[[noreturn]] void fail_changed(const TextInput& text) {
  fail(ExitCode::kData, "{}: changed while being read; leave it alone and run again", text.name);
}

}  // namespace

std::vector<TextInput> find_inputs(const std::vector<std::string>& names) {
  if (names.empty()) {
    fail(ExitCode::kUsage, "no text given; name .txt or .jsonl files, or - for stdin");
  }
  if (std::count(names.begin(), names.end(), "-") > 1) {
    fail(ExitCode::kUsage, "'-' (standard input) is given more than once");
  }
  std::vector<TextInput> inputs;
  for (const std::string& name : names) inputs.push_back(find_input(name));
  return inputs;
}

void spool(TextInput& input, const std::string& path, const OnBytes& on_bytes) {
  StagedFile copy(path);
  std::vector<char> chunk(kChunk);
  std::int64_t bytes = 0;
  while (true) {
    const std::size_t got = input.pipe.read(chunk, input.name);
    if (got == 0) break;
    copy.append(std::as_bytes(std::span(chunk).first(got)));
    bytes += static_cast<std::int64_t>(got);
    on_bytes(bytes);
  }
  copy.publish();
  input.pipe = InputStream();
  input.path = path;
  input.stored = bytes;
  if (input.format == TextFormat::kUndecided) decide_format(input);
  if (input.format == TextFormat::kText && input.compression == Compression::kNone) {
    input.bytes = bytes;
  }
}

void measure(TextInput& input, const OnBytes& on_bytes) {
  const auto source = open_bytes(input.path, input.name, input.compression);
  std::vector<char> chunk(kChunk);
  std::int64_t bytes = 0;
  while (const std::size_t got = source->read(chunk.data(), chunk.size())) {
    bytes += static_cast<std::int64_t>(got);
    on_bytes(source->position());
  }
  input.bytes = bytes;
}

std::int64_t drop_empty(std::vector<TextInput>& inputs) {
  const std::string first = inputs.empty() ? "" : inputs.front().name;
  const auto dropped = std::erase_if(
      inputs, [](const TextInput& input) { return input.stored == 0 || input.bytes == 0; });
  if (inputs.empty()) fail(ExitCode::kData, "{}: empty; there is no text to prepare", first);
  return static_cast<std::int64_t>(dropped);
}

void require_utf8(const TextInput& input) {
  const std::string_view encoding = guess_encoding(head_of(input, kEncodingSample));
  if (encoding == "UTF-8") return;
  const bool file = input.compression == Compression::kNone && input.name == input.path;
  const std::string command =
      !file ? fmt::format("iconv -f {} -t UTF-8", encoding)
            : fmt::format("iconv -f {} -t UTF-8 {} > {}", encoding, shell_path(input.name),
                          shell_path(utf8_name(input.name)));
  const bool lines = input.format == TextFormat::kLines;
  fail(ExitCode::kData, "{}: not UTF-8 but {}; convert it with `{}`{}", input.name,
       encoding == "WINDOWS-1252" ? "Latin-1, Windows-1252 or the like" : encoding, command,
       lines ? "" : ", or take its bytes as they are with --tokenizer byte");
}

std::uint64_t document_hash(std::string_view head, std::int64_t bytes) {
  Hash128 hash;
  hash.add(bytes);
  hash.add(head.substr(0, static_cast<std::size_t>(kHashedBytes)));
  return hash.low();
}

std::uint64_t document_hash(const TextInput& text) {
  const std::int64_t size = std::min(text.bytes, kHashedBytes);
  return document_hash(head_of(text, static_cast<std::size_t>(size)), text.bytes);
}

std::vector<bool> choose_validation(const std::vector<TextInput>& texts, double fraction) {
  std::vector<bool> chosen(texts.size(), false);
  if (texts.size() < 2 || fraction <= 0.0) return chosen;
  std::vector<std::uint64_t> hashes;
  for (const TextInput& text : texts) hashes.push_back(document_hash(text));
  std::vector<std::size_t> order(texts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return hashes[a] < hashes[b]; });

  double total = 0.0;
  for (const TextInput& text : texts) total += static_cast<double>(text.bytes);
  double missing = total * fraction;  // bytes that validation still lacks
  std::size_t count = 0;
  for (const std::size_t i : order) {
    const auto bytes = static_cast<double>(texts[i].bytes);
    if (std::abs(missing - bytes) >= missing || count + 1 == texts.size()) continue;
    chosen[i] = true;
    missing -= bytes;
    ++count;
  }
  if (count == 0) {  // all are longer than twice the wish: the shortest comes nearest
    chosen[*std::min_element(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return texts[a].bytes < texts[b].bytes;
    })] = true;
  }
  return chosen;
}

std::int64_t tail_begin(const TextInput& text, double fraction, const OnBytes& on_bytes) {
  if (fraction <= 0.0 || text.bytes < 2) return text.bytes;
  const Tail tail = tail_of(text.bytes, fraction);
  std::string around(static_cast<std::size_t>(tail.cut - tail.around) + 1, '\0');
  if (text.compression == Compression::kNone) {
    InputFile(text.path, "a text file")
        .read(std::as_writable_bytes(std::span(around)), tail.around);
    return align(tail, around);
  }
  const auto source = open_bytes(text.path, text.name, text.compression);
  if (!skip_bytes(*source, tail.around, on_bytes)) fail_changed(text);
  for (char& byte : around) {
    if (source->read(&byte, 1) == 0) fail_changed(text);
  }
  return align(tail, around);
}

std::int64_t tail_begin(std::string_view text, double fraction) {
  const auto bytes = static_cast<std::int64_t>(text.size());
  if (fraction <= 0.0 || bytes < 2) return bytes;
  const Tail tail = tail_of(bytes, fraction);
  return align(tail, text.substr(static_cast<std::size_t>(tail.around)));
}

}  // namespace lockstep
