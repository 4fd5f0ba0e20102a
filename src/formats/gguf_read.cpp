// GgufReader: the checked header, and rows decoded as they are read, some blocks at a time.
#include "core/error.h"
#include "files/input_file.h"
#include "formats/gguf.h"
#include "formats/gguf_header.h"

#include <algorithm>

namespace lockstep {

namespace {

constexpr std::int64_t kPieceBytes = std::int64_t{1} << 20;

// Values [first, first + out.size()) of a tensor; they may begin and end within a block.
void read_values(std::span<float> out, const InputFile& file, const GgufEntry& entry,
                 std::int64_t first) {
  const GgufType type = entry.tensor.type;
  const std::int64_t values = gguf_block_values(type), block = gguf_row_bytes(type, values);
  const std::int64_t most = kPieceBytes / block * values;
  std::vector<std::byte> bytes;
  while (!out.empty()) {
    const std::int64_t before = first % values;
    const std::int64_t count = std::min(std::ssize(out), most - before);
    bytes.resize(static_cast<std::size_t>((before + count + values - 1) / values * block));
    file.read(bytes, entry.begin + first / values * block);
    gguf_decode(out.first(static_cast<std::size_t>(count)), type, bytes.data(), before);
    out = out.subspan(static_cast<std::size_t>(count));
    first += count;
  }
}

}  // namespace

struct GgufReader::State {
  explicit State(const std::string& path) : file(path, "a .gguf file") {}

  InputFile file;
  std::map<std::string, GgufValue> metadata;
  std::map<std::string, GgufEntry> entries;
  std::vector<SourceTensor> tensors;
};

GgufReader::GgufReader(const std::string& path, Types types)
    : state_(std::make_unique<State>(path)) {
  GgufHeader header = parse_gguf_header(state_->file, types);
  state_->metadata = std::move(header.metadata);
  for (GgufEntry& entry : header.entries) {
    const std::string name = entry.tensor.name;
    state_->entries.emplace(name, std::move(entry));
  }
  for (const auto& [name, entry] : state_->entries) {
    state_->tensors.push_back({name, entry.tensor.shape, name_of(entry.tensor.type)});
  }
}

GgufReader::~GgufReader() = default;

const std::map<std::string, GgufValue>& GgufReader::metadata() const { return state_->metadata; }

const std::vector<SourceTensor>& GgufReader::tensors() const { return state_->tensors; }

void GgufReader::read(const std::string& name, std::int64_t row_begin, std::span<float> out) {
  const auto at = state_->entries.find(name);
  CHECK(at != state_->entries.end(), "no tensor {}", name);
  const GgufTensor& tensor = at->second.tensor;
  CHECK(is_readable(tensor.type), "{} is {}", name, name_of(tensor.type));
  const std::int64_t row = tensor.shape.count() / tensor.shape[0];
  const auto count = static_cast<std::int64_t>(out.size());
  CHECK(row_begin >= 0 && count % row == 0 && row_begin <= tensor.shape[0] - count / row,
        "{} {}: row {}, {} values", name, tensor.shape.str(), row_begin, count);
  read_values(out, state_->file, at->second, row_begin * row);
}

}  // namespace lockstep
