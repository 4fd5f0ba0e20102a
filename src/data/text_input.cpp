// Opening, spooling and splitting. A document is hashed by size and first 64 KiB, so the split does
// not depend on where files lie or how they are called.
#include "data/text_input.h"

#include "core/error.h"
#include "data/hash.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numeric>

namespace lockstep {
namespace {

constexpr std::int64_t kHashedBytes = std::int64_t{64} << 10;
constexpr std::size_t kSpoolChunk = std::size_t{1} << 20;
constexpr std::array<const char*, 9> kNotText = {".jsonl", ".json", ".gz",  ".zst",    ".bz2",
                                                 ".xz",    ".zip",  ".bin", ".parquet"};

[[noreturn]] void fail_empty(const std::string& name) {
  fail(ExitCode::kData, "{}: empty; there is no text to prepare", name);
}

TextInput find_input(const std::string& name) {
  if (name == "-") {
    Fd copy(::dup(STDIN_FILENO));
    if (copy.get() >= 0) return {"standard input", "", -1, std::move(copy)};
    fail(ExitCode::kData, "standard input: cannot read: {}", errno_text(errno));
  }
  const std::string extension = std::filesystem::path(name).extension().string();
  if (std::find(kNotText.begin(), kNotText.end(), extension) != kNotText.end()) {
    fail(ExitCode::kUsage, "{}: {} files are not read; give plain text, or pipe it in as '-'", name,
         extension);
  }
  OpenFile file = open_for_read(name, "a text file");
  if (file.bytes < 0) return {name, "", -1, std::move(file.fd)};
  if (file.bytes == 0) fail_empty(name);
  return {name, name, file.bytes, {}};
}

std::uint64_t content_hash(const TextInput& input) {
  const OpenFile file = open_for_read(input.path, "a text file");
  std::vector<char> head(static_cast<std::size_t>(std::min(input.bytes, kHashedBytes)));
  read_at(file.fd, head.data(), head.size(), 0, input.name);
  Hash128 hash;
  hash.add(input.bytes);
  hash.add(std::string_view(head.data(), head.size()));
  return hash.low();
}

}  // namespace

std::vector<TextInput> find_inputs(const std::vector<std::string>& names) {
  if (names.empty()) fail(ExitCode::kUsage, "no text given; name .txt files, or - for stdin");
  if (std::count(names.begin(), names.end(), "-") > 1) {
    fail(ExitCode::kUsage, "'-' (standard input) is given more than once");
  }
  std::vector<TextInput> inputs;
  for (const std::string& name : names) inputs.push_back(find_input(name));
  return inputs;
}

void spool(TextInput& input, const std::string& path,
           const std::function<void(std::int64_t copied)>& on_bytes) {
  const Fd copy = create_file(path);
  std::vector<char> chunk(kSpoolChunk);
  std::int64_t bytes = 0;
  while (true) {
    const std::size_t got = read_some(input.pipe, chunk.data(), chunk.size(), input.name);
    if (got == 0) break;
    write_all(copy, chunk.data(), got, path);
    bytes += static_cast<std::int64_t>(got);
    on_bytes(bytes);
  }
  if (bytes == 0) fail_empty(input.name);
  input.pipe = Fd();
  input.path = path;
  input.bytes = bytes;
}

std::vector<bool> choose_validation(const std::vector<TextInput>& inputs, double fraction) {
  std::vector<bool> chosen(inputs.size(), false);
  if (inputs.size() < 2 || fraction <= 0.0) return chosen;
  std::vector<std::uint64_t> hashes;
  for (const TextInput& input : inputs) hashes.push_back(content_hash(input));
  std::vector<std::size_t> order(inputs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return hashes[a] < hashes[b]; });

  double total = 0.0;
  for (const TextInput& input : inputs) total += static_cast<double>(input.bytes);
  double missing = total * fraction;  // bytes that validation still lacks
  std::size_t count = 0;
  for (const std::size_t i : order) {
    const auto bytes = static_cast<double>(inputs[i].bytes);
    if (std::abs(missing - bytes) >= missing || count + 1 == inputs.size()) continue;
    chosen[i] = true;
    missing -= bytes;
    ++count;
  }
  if (count == 0) {  // all are longer than twice the wish: the shortest comes nearest
    chosen[*std::min_element(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return inputs[a].bytes < inputs[b].bytes;
    })] = true;
  }
  return chosen;
}

std::int64_t tail_begin(const TextInput& input, double fraction) {
  if (fraction <= 0.0 || input.bytes < 2) return input.bytes;
  const double kept = std::floor(static_cast<double>(input.bytes) * (1 - fraction));
  const auto cut = std::clamp<std::int64_t>(static_cast<std::int64_t>(kept), 1, input.bytes - 1);
  const OpenFile file = open_for_read(input.path, "a text file");
  for (std::int64_t at = cut; at > std::max<std::int64_t>(cut - 4, 0); --at) {
    unsigned char byte = 0;
    read_at(file.fd, &byte, 1, at, input.name);
    if ((byte & 0xc0u) != 0x80u) return at;  // no continuation byte: a character begins here
  }
  return cut;  // no UTF-8
}

}  // namespace lockstep
