// GgufReader: the checked header over the mapped file; rows are decoded where they lie.
#include "core/error.h"
#include "files/mapped_file.h"
#include "formats/gguf.h"
#include "formats/gguf_header.h"

#include <algorithm>

namespace lockstep {

struct GgufReader::State {
  explicit State(const std::string& path) : file(path) {}

  MappedFile file;
  std::map<std::string, GgufValue> metadata;
  std::map<std::string, GgufEntry> entries;
  std::vector<SourceTensor> tensors;
};

GgufReader::GgufReader(const std::string& path, Types types)
    : state_(std::make_unique<State>(path)) {
  GgufHeader header = parse_gguf_header(state_->file.bytes(), path, types);
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
  const std::int64_t row = tensor.shape.count() / tensor.shape[0];
  const auto count = static_cast<std::int64_t>(out.size());
  CHECK(row_begin >= 0 && count % row == 0 && row_begin <= tensor.shape[0] - count / row,
        "{} {}: row {}, {} values", name, tensor.shape.str(), row_begin, count);
  gguf_decode(out, tensor.type, state_->file.bytes().data() + at->second.begin, row_begin * row);
}

}  // namespace lockstep
