// The safetensors format (huggingface/safetensors README): u64 header length, a JSON header, then
// the tensors' bytes, little-endian and row-major, without holes. A directory may split a model
// over several files and an index. Rows are read when asked for: memory does not grow with the
// model.
#pragma once

#include "core/weight_source.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

// A tensor as the header states it. dtype: F64 F32 F16 BF16 I64 I32 I8 U8 F8_E4M3 BOOL ...
struct StoredTensor {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::int64_t bytes() const;  // CHECKs that the dtype is known
};

// Bytes per element of a safetensors dtype, or 0 if it is not known.
std::int64_t safetensors_dtype_size(const std::string& dtype);

// One .safetensors file, or a directory with model.safetensors or model.safetensors.index.json.
class SafetensorsReader final : public WeightSource {
 public:
  // Checks headers, sizes, overlaps, and that an index names files inside its directory only.
  // Throws UserError(kData) naming file, tensor and what to do. Allocates no more than the header.
  explicit SafetensorsReader(const std::string& path);
  ~SafetensorsReader() override;
  SafetensorsReader(SafetensorsReader&&) noexcept;
  SafetensorsReader& operator=(SafetensorsReader&&) = delete;

  // Tensors of up to four dimensions, sorted by name.
  const std::vector<SourceTensor>& tensors() const override;
  // Converts F32, F16, BF16 and F64; other dtypes are refused by name.
  void read(const std::string& name, std::int64_t row_begin, std::span<float> out) override;
  // Bytes [begin, begin + out.size()) of a tensor as the file has them.
  void read_bytes(std::span<std::byte> out, const std::string& name, std::int64_t begin) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Writes model.safetensors, or model-00001-of-0000N.safetensors and their index when the tensors
// take more than `max_file_bytes`, into an existing directory. Same tensors, same bytes. Files are
// synced by finish(); the caller publishes the directory.
class SafetensorsWriter {
 public:
  // Fixes names, shapes and layout. Tensors are stored by falling element size, then by name.
  SafetensorsWriter(std::string directory, std::vector<StoredTensor> tensors,
                    std::int64_t max_file_bytes = std::int64_t{5} << 30);
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // The order in which append() wants the tensors.
  const std::vector<StoredTensor>& order() const;
  // The next bytes of the tensor whose turn it is, all of them in as many calls as the caller
  // likes. Throws UserError(kIo).
  void append(const std::string& name, std::span<const std::byte> bytes);
  // Checks that every tensor is complete, writes the index, syncs. Returns the file names.
  std::vector<std::string> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep
