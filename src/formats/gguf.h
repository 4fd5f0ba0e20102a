// GGUF version 3 (ggml-org/ggml docs/gguf.md): key-value metadata, tensor infos, aligned tensor
// data. Rows are read when asked for and written one tensor at a time; quantized blocks are decoded
// to fp32.
#pragma once

#include "core/weight_format.h"
#include "core/weight_source.h"
#include "files/file_system.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace lockstep {

using GgufValue =
    std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t,
                 std::int32_t, std::uint64_t, std::int64_t, float, double, bool, std::string,
                 std::vector<std::string>, std::vector<std::int32_t>, std::vector<std::uint32_t>,
                 std::vector<float>>;

// The types that are read, under ggml's codes; F32, F16, Q8_0 and BF16 are written too. A file may
// hold others.
enum class GgufType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30
};
bool is_readable(GgufType type);
std::string gguf_readable_types();           // "F32, F16, Q4_0, ...": for messages
WeightFormat format_of(GgufType type);       // CHECKs that it is written
GgufType gguf_type_of(WeightFormat format);  // CHECKs that there is one
std::string name_of(GgufType type);          // "F32", "Q8_0", also "IQ2_S"; "type 99" where unknown
// Values that are encoded together: a row must be a whole number of them. 32 for Q8_0,
// 256 for Q4_K; 1 where nothing is known.
std::int64_t gguf_block_values(GgufType type);
// Bytes of a row of `cols` elements, 0 for a type that is not known. Throws UserError(kData) if
// blocks do not divide it.
std::int64_t gguf_row_bytes(GgufType type, std::int64_t cols);
// Encodes `count` fp32 values (whole blocks) as `type`; Q8_0: fp16 scale max|x|/127 and 32 int8.
// Values are finite.
void gguf_encode(GgufType type, std::span<const float> values, std::span<std::byte> out);
// Values [first, first + out.size()) of encoded `bytes`, which hold them in whole blocks. CHECKs
// that the type can be read.
void gguf_decode(std::span<float> out, GgufType type, const std::byte* bytes, std::int64_t first);

class GgufReader final : public WeightSource {
 public:
  enum class Types { kReadable, kAny };
  // Checks every length against the file's size before anything is allocated. kAny: tensors of
  // types that cannot be read are listed all the same. Throws UserError(kData) naming the file, the
  // key or tensor, and what to do.
  explicit GgufReader(const std::string& path, Types types = Types::kReadable);
  ~GgufReader() override;

  // Arrays of other element types than GgufValue has are checked and left out.
  const std::map<std::string, GgufValue>& metadata() const;
  // Row-major shapes (GGUF lists sizes fastest first). Sorted by name.
  const std::vector<SourceTensor>& tensors() const override;
  // CHECKs that the type can be read.
  void read(const std::string& name, std::int64_t row_begin, std::span<float> out) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct GgufTensor {
  std::string name;
  Shape shape;  // row-major
  GgufType type = GgufType::kF32;
};

using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

// Writes one new file (under the name given; the caller publishes it). Same input, same bytes.
// A failed write throws UserError(kIo) naming the path, and so does every call after it.
class GgufWriter {
 public:
  // `metadata` in the order in which it is written.
  GgufWriter(std::string path, const GgufMetadata& metadata, std::vector<GgufTensor> tensors,
             const FileSystem& files = {});
  ~GgufWriter();
  GgufWriter(const GgufWriter&) = delete;
  GgufWriter& operator=(const GgufWriter&) = delete;

  // Next rows of the tensor whose turn it is (the order of construction), encoded as its type.
  void append(const std::string& name, std::span<const float> values);
  // Checks completeness and syncs.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep
