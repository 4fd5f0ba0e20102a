// GgufWriter: the header first, which fixes where everything lies; then tensors in that order.
#include "core/error.h"
#include "files/file_system.h"
#include "formats/gguf.h"
#include "formats/gguf_header.h"

namespace lockstep {

struct GgufWriter::State {
  std::string path;
  std::vector<GgufTensor> tensors;
  FileSystem files;
  Descriptor file;
  int error = 0;            // of the first call that failed
  std::int64_t offset = 0;  // in the file
  std::size_t tensor = 0;   // whose turn it is
  std::int64_t values = 0;  // of that tensor, written
  std::vector<std::byte> encoded;

  void check(int result, const char* action) {
    if (error == 0) error = result;
    if (error != 0) fail_io(path, action, error);
  }

  void write(std::span<const std::byte> bytes) {
    check(files.write_at(file, path, bytes, offset), "write");
    offset += static_cast<std::int64_t>(bytes.size());
  }
};

GgufWriter::GgufWriter(std::string path, const GgufMetadata& metadata,
                       std::vector<GgufTensor> tensors, const FileSystem& files)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.path = std::move(path);
  s.tensors = std::move(tensors);
  s.files = files;
  std::vector<std::int64_t> offsets;
  const std::string header = gguf_header_bytes(metadata, s.tensors, offsets);
  s.check(s.files.open(s.file, s.path, OpenMode::kNew), "create");
  s.write(std::as_bytes(std::span(header.data(), header.size())));
}

GgufWriter::~GgufWriter() = default;

void GgufWriter::append(const std::string& name, std::span<const float> values) {
  State& s = *state_;
  s.check(0, "write");
  CHECK(s.tensor < s.tensors.size() && s.tensors[s.tensor].name == name, "{} out of turn", name);
  const GgufTensor& tensor = s.tensors[s.tensor];
  const auto count = static_cast<std::int64_t>(values.size());
  CHECK(count <= tensor.shape.count() - s.values, "{}: too many values", name);
  s.encoded.resize(static_cast<std::size_t>(gguf_row_bytes(tensor.type, count)));
  gguf_encode(tensor.type, values, s.encoded);
  s.write(s.encoded);
  s.values += count;
  if (s.values < tensor.shape.count()) return;
  const std::vector<std::byte> padding(
      static_cast<std::size_t>(gguf_padded(s.offset, kGgufAlignment) - s.offset));
  s.write(padding);
  s.tensor += 1;
  s.values = 0;
}

void GgufWriter::finish() {
  State& s = *state_;
  s.check(0, "write");
  CHECK(s.tensor == s.tensors.size(), "{} is incomplete", s.tensors[s.tensor].name);
  s.check(s.files.sync(s.file, s.path), "sync");
  s.check(s.files.close(s.file, s.path), "close");
}

}  // namespace lockstep
