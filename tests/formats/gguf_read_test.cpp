// Reading a GGUF file: every key and tensor comes back; a damaged file is refused, never believed.
#include "core/error.h"
#include "formats/gguf_sample.h"

#include <cmath>
#include <cstring>

namespace lockstep {
namespace {

using testing::sample_metadata;
using testing::sample_tensors;
using testing::ScratchDirectory;
using testing::spill;
using testing::values_of;
using testing::write_sample;

// The largest error of a value as `type`; Q8_0: half a step, and the scale's own rounding.
double bound(GgufType type, double largest) {
  switch (type) {
    case GgufType::kF32: return 0.0;
    case GgufType::kF16: return largest * 0x1p-11;
    case GgufType::kBF16: return largest * 0x1p-8;
    case GgufType::kQ8_0: return largest / 254.0 + largest * 0x1p-11;
    default: return 0.0;
  }
}

TEST(Gguf, MetadataAndTensorsComeBack) {
  const ScratchDirectory scratch;
  write_sample(scratch / "m.gguf");
  GgufReader reader(scratch / "m.gguf");
  EXPECT_EQ(reader.metadata().size(), sample_metadata().size());
  for (const auto& [key, value] : sample_metadata()) {
    ASSERT_TRUE(reader.metadata().contains(key)) << key;
    EXPECT_TRUE(reader.metadata().at(key) == value) << key;
  }
  std::vector<std::string> names;
  for (const SourceTensor& tensor : reader.tensors()) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{"a.last", "b.first", "cube", "embed", "norm"}));
  unsigned seed = 0;
  for (const GgufTensor& tensor : sample_tensors()) {
    SCOPED_TRACE(tensor.name);
    const SourceTensor* stored = reader.find(tensor.name);
    ASSERT_NE(stored, nullptr);
    EXPECT_EQ(stored->shape, tensor.shape);
    EXPECT_EQ(stored->stored, name_of(tensor.type));
    const std::vector<float> wanted = values_of(tensor.shape.count(), seed++);
    std::vector<float> got(wanted.size());
    reader.read(tensor.name, 0, got);
    for (std::size_t i = 0; i < got.size(); ++i) {
      ASSERT_LE(std::fabs(got[i] - wanted[i]), bound(tensor.type, 2.0)) << i;
    }
    // Any rows alone are the same rows.
    const std::int64_t row = tensor.shape.count() / tensor.shape[0];
    for (std::int64_t r = 0; r < tensor.shape[0]; ++r) {
      std::vector<float> one(static_cast<std::size_t>(row));
      reader.read(tensor.name, r, one);
      ASSERT_TRUE(std::equal(one.begin(), one.end(), got.begin() + r * row)) << r;
    }
  }
}

// More than is decoded at once, from anywhere, also from within a block.
TEST(GgufRead, LongTensorsAreReadInPieces) {
  const ScratchDirectory scratch;
  constexpr std::int64_t kValues = 1200032;
  GgufWriter writer(scratch / "m.gguf", {}, {{"w", {kValues}, GgufType::kQ8_0}});
  std::vector<float> values(kValues);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = i % 32 == 31 ? 127.0f : static_cast<float>(i / 32 % 120);
  }
  writer.append("w", values);
  writer.finish();
  GgufReader reader(scratch / "m.gguf");
  for (const std::int64_t first : {0, 5, 32, 1114141}) {
    std::vector<float> got(static_cast<std::size_t>(kValues - 2 - first));
    reader.read("w", first, got);
    ASSERT_TRUE(std::equal(got.begin(), got.end(), values.begin() + first)) << first;
  }
}

// A mapping would end the process with a signal here.
TEST(GgufRead, AFileCutShortInUseIsAnErrorWithItsName) {
  const ScratchDirectory scratch;
  GgufWriter writer(scratch / "m.gguf", {}, {{"w", {64, 1024}, GgufType::kF16}});
  writer.append("w", std::vector<float>(64 * 1024));
  writer.finish();
  GgufReader reader(scratch / "m.gguf");
  std::filesystem::resize_file(scratch / "m.gguf", 4096);
  std::vector<float> row(1024);
  testing::expect_data_error([&] { reader.read("w", 60, row); },
                             "m.gguf: was cut short while in use");
}

// Cuts, changed bytes and changed numbers: a file either opens and reads, or is refused.
TEST(GgufRead, Mutations) {
  const ScratchDirectory scratch;
  const std::string good = write_sample(scratch / "good.gguf");
  const std::string path = scratch / "m.gguf";
  std::mt19937 random(7);
  int refused = 0;
  const auto attempt = [&](const std::string& bytes) {
    spill(path, bytes);
    try {
      GgufReader reader(path);
      for (const SourceTensor& tensor : reader.tensors()) {
        std::vector<float> values(static_cast<std::size_t>(tensor.shape.count()));
        reader.read(tensor.name, 0, values);
      }
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::kData) << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      ++refused;
    }
  };
  const std::size_t header = good.size() - 800;
  for (std::size_t size = 0; size < good.size(); size += 3) attempt(good.substr(0, size));
  const int cuts = refused;
  EXPECT_GT(cuts, 400);
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good;
    const std::size_t at = random() % header;
    switch (random() % 4) {
      case 0: bytes[at] = static_cast<char>(random()); break;
      case 1: bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8)); break;
      case 2: {
        const std::uint64_t value = std::uint64_t{1} << random() % 64;
        std::memcpy(bytes.data() + at, &value, sizeof(value));
        break;
      }
      default: bytes.erase(at, 1 + random() % 16);
    }
    attempt(bytes);
  }
  EXPECT_GT(refused - cuts, 1500);
}

}  // namespace
}  // namespace lockstep
