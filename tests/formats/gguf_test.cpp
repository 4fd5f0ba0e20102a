// GGUF: round trips of every type, the layout byte by byte, ggml's Q8_0 arithmetic, what a damaged
// or made-up header says, failing disks.
#include "formats/gguf.h"

#include "core/error.h"
#include "formats/gguf_header.h"
#include "io/fixture.h"

#include <cmath>
#include <random>

namespace lockstep {
namespace {

using testing::expect_data_error;
using testing::ScratchDirectory;
using testing::slurp;
using testing::spill;

std::vector<float> values_of(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) {
    value = static_cast<float>(static_cast<double>(random()) / 4294967296.0 * 4.0 - 2.0);
  }
  return values;
}

const GgufMetadata& sample_metadata() {
  static const GgufMetadata metadata = {
      {"general.architecture", std::string("llama")},
      {"a.u8", std::uint8_t{200}},
      {"a.i8", std::int8_t{-3}},
      {"a.u16", std::uint16_t{60000}},
      {"a.i16", std::int16_t{-300}},
      {"a.u32", std::uint32_t{4000000000u}},
      {"a.i32", std::int32_t{-70000}},
      {"a.u64", std::uint64_t{1} << 63},
      {"a.i64", -(std::int64_t{1} << 40)},
      {"a.float", 0.1f},
      {"a.double", 0.1},
      {"a.yes", true},
      {"a.no", false},
      {"a.texts", std::vector<std::string>{"", "one", "\xc4\xa0two"}},
      {"a.ints", std::vector<std::int32_t>{1, -2, 3}},
      {"a.unsigned", std::vector<std::uint32_t>{7}},
      {"a.floats", std::vector<float>{0.5f, -1.0f}},
      {"a.nothing", std::vector<std::int32_t>{}}};
  return metadata;
}

const std::vector<GgufTensor>& sample_tensors() {
  static const std::vector<GgufTensor> tensors = {{"norm", {5}, GgufType::kF32},
                                                  {"embed", {7, 3}, GgufType::kF16},
                                                  {"b.first", {3, 5}, GgufType::kBF16},
                                                  {"a.last", {4, 64}, GgufType::kQ8_0},
                                                  {"cube", {2, 3, 32}, GgufType::kQ8_0}};
  return tensors;
}

std::string write_sample(const std::string& path) {
  GgufWriter writer(path, sample_metadata(), sample_tensors());
  unsigned seed = 0;
  for (const GgufTensor& tensor : sample_tensors()) {
    writer.append(tensor.name, values_of(tensor.shape.count(), seed++));
  }
  writer.finish();
  return slurp(path);
}

// The largest error of a value as `type`; Q8_0: half a step, and the scale's own rounding.
double bound(GgufType type, double largest) {
  switch (type) {
    case GgufType::kF32: return 0.0;
    case GgufType::kF16: return largest * 0x1p-11;
    case GgufType::kBF16: return largest * 0x1p-8;
    case GgufType::kQ8_0: return largest / 254.0 + largest * 0x1p-11;
  }
  return 0.0;
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

TEST(Gguf, SameInputSameBytesHoweverItIsCut) {
  const ScratchDirectory scratch;
  const std::string whole = write_sample(scratch / "a.gguf");
  GgufWriter writer(scratch / "b.gguf", sample_metadata(), sample_tensors());
  unsigned seed = 0;
  for (const GgufTensor& tensor : sample_tensors()) {
    const std::vector<float> values = values_of(tensor.shape.count(), seed++);
    const auto row = static_cast<std::size_t>(tensor.shape.cols());
    const std::size_t step = tensor.shape.rank() == 1 ? 2 : row;
    for (std::size_t i = 0; i < values.size(); i += step) {
      writer.append(tensor.name, std::span(values).subspan(i, std::min(step, values.size() - i)));
    }
  }
  writer.finish();
  EXPECT_TRUE(slurp(scratch / "b.gguf") == whole);
}

TEST(Gguf, LayoutByteByByte) {
  const ScratchDirectory scratch;
  GgufWriter writer(scratch / "m.gguf", {{"k", std::uint32_t{258}}}, {{"t", {2, 3}}});
  writer.append("t", std::vector<float>{1, 2, 3, 4, 5, 6});
  writer.finish();
  std::string wanted("GGUF\3\0\0\0", 8);
  wanted += std::string("\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0", 16);          // tensors, keys
  wanted += std::string("\1\0\0\0\0\0\0\0k\4\0\0\0\2\1\0\0", 17);         // k = 258
  wanted += std::string("\1\0\0\0\0\0\0\0t\2\0\0\0", 13);                 // t, two sizes:
  wanted += std::string("\3\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0", 20);  // 3, 2; F32
  wanted +=
      std::string(8, '\0') + std::string(96 - 8 - 16 - 17 - 13 - 28, '\0');  // offset, padding
  for (const float value : {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f}) {
    wanted.append(reinterpret_cast<const char*>(&value), 4);
  }
  wanted += std::string(8, '\0');
  EXPECT_TRUE(slurp(scratch / "m.gguf") == wanted);
}

TEST(Gguf, Q8FollowsTheReference) {
  EXPECT_EQ(gguf_row_bytes(GgufType::kQ8_0, 64), 68);
  std::vector<float> values(32, 0.0f);
  values[0] = 127.0f;  // scale 1: halves are rounded away from zero
  values[1] = 0.5f;
  values[2] = -0.5f;
  values[3] = 1.5f;
  values[4] = 2.4999f;
  values[5] = -127.0f;
  std::array<std::byte, 34> out;
  gguf_encode(GgufType::kQ8_0, values, out);
  const auto code = [&](std::size_t i) {
    return static_cast<int>(static_cast<std::int8_t>(out[i]));
  };
  EXPECT_EQ(code(0), 0x00);
  EXPECT_EQ(code(1), 0x3c);  // 1.0 in fp16
  EXPECT_EQ(code(2), 127);
  EXPECT_EQ(code(3), 1);
  EXPECT_EQ(code(4), -1);
  EXPECT_EQ(code(5), 2);
  EXPECT_EQ(code(6), 2);
  EXPECT_EQ(code(7), -127);
  // Nothing but zeros, and values so small that the scale's inverse is no number.
  for (const float tiny : {0.0f, 1e-38f, 1e-45f}) {
    gguf_encode(GgufType::kQ8_0, std::vector<float>(32, tiny), out);
    for (const std::byte byte : out) EXPECT_EQ(byte, std::byte{0}) << tiny;
  }
  std::vector<float> half(8);
  gguf_encode(GgufType::kQ8_0, values, out);
  gguf_decode(half, GgufType::kQ8_0, out.data(), 3);
  EXPECT_EQ(half[0], 2.0f);
  EXPECT_EQ(half[2], -127.0f);
}

TEST(Gguf, RowsThatBlocksDoNotDivide) {
  expect_data_error([] { gguf_row_bytes(GgufType::kQ8_0, 40); },
                    "rows of 40 values cannot be Q8_0");
}

// A header put together by hand, in the order of its parts.
class Bytes {
 public:
  template <typename T>
  Bytes& put(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof(T));
    return *this;
  }
  Bytes& u32(std::uint32_t value) { return put(value); }
  Bytes& u64(std::uint64_t value) { return put(value); }
  Bytes& text(const std::string& value) {
    u64(value.size());
    text_ += value;
    return *this;
  }
  Bytes& head(std::uint64_t tensors, std::uint64_t keys, std::uint32_t version = 3) {
    text_ += "GGUF";
    return u32(version).u64(tensors).u64(keys);
  }
  Bytes& tensor(const std::string& name, const std::vector<std::uint64_t>& sizes,
                std::uint32_t type, std::uint64_t offset) {
    text(name).u32(static_cast<std::uint32_t>(sizes.size()));
    for (const std::uint64_t size : sizes) u64(size);
    return u32(type).u64(offset);
  }
  Bytes& zeros(std::size_t count) {
    text_.append(count, '\0');
    return *this;
  }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

class GgufHostile : public ::testing::Test {
 protected:
  void expect_refused(const Bytes& bytes, const std::string& message) {
    const std::string path = scratch_ / "m.gguf";
    spill(path, bytes.str());
    SCOPED_TRACE(message);
    expect_data_error([&] { GgufReader reader(path); }, message);
    expect_data_error([&] { GgufReader reader(path); }, path);
  }

  ScratchDirectory scratch_;
};

TEST_F(GgufHostile, Magic) {
  expect_refused(Bytes().zeros(100), "no GGUF file");
  expect_refused(Bytes(), "no GGUF file");
  expect_refused(Bytes().head(0, 0, 1), "GGUF version 1, 2 and 3 are read");
  expect_refused(Bytes().head(0, 0, 4), "GGUF version 4");
  expect_refused(Bytes().head(0, 0, 3u << 24), "big-endian");
  expect_data_error([&] { GgufReader reader(scratch_ / "none"); }, "the file is missing");
  spill(scratch_ / "v2.gguf", Bytes().head(0, 0, 2).str());
  EXPECT_NO_THROW(GgufReader(scratch_ / "v2.gguf"));
}

TEST_F(GgufHostile, Counts) {
  const std::uint64_t huge = ~std::uint64_t{0};
  expect_refused(Bytes().head(0, huge).zeros(100), "announces 18446744073709551615 keys");
  expect_refused(Bytes().head(huge, 0).zeros(100), "announces 18446744073709551615 tensors");
  expect_refused(Bytes().head(9, 0).zeros(100), "announces 9 tensors");
  expect_refused(Bytes().head(0, 1).u64(huge).zeros(100), "ends within a key");
  expect_refused(Bytes().head(0, 1).text("k").u32(8).u64(101).zeros(100), "ends within key 'k'");
  expect_refused(Bytes().head(0, 1).text("k").u32(9).u32(5).u64(huge / 4 + 2).zeros(100),
                 "ends within key 'k'");
  expect_refused(Bytes().head(0, 1).text("k").u32(9).u32(8).u64(huge).zeros(100),
                 "ends within key 'k'");
  expect_refused(Bytes().head(0, 1).text("k").u32(9).u32(7).u64(101).zeros(100),
                 "ends within key 'k'");
  expect_refused(Bytes().head(0, 1).text("k").u32(9).u32(8).u64(2).text("a").u64(50).zeros(9),
                 "ends within key 'k'");
  expect_refused(Bytes().head(0, 1).text("k").u32(9).u32(5).u64((1 << 24) + 1).zeros(80 << 20),
                 "is an array of 16777217 items");
}

TEST_F(GgufHostile, KeysAndValues) {
  Bytes twice;
  twice.head(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1);
  expect_refused(twice, "key 'k' comes twice");
  Bytes skipped;
  skipped.head(0, 2).text("k").u32(9).u32(7).u64(2).zeros(2).text("k").u32(4).u32(1);
  expect_refused(skipped, "key 'k' comes twice");
  expect_refused(Bytes().head(0, 1).text("k").u32(13).zeros(8), "unknown value type 13");
  expect_refused(Bytes().head(0, 1).text("k").u32(9).u32(9).u64(1).zeros(40), "array of type 9");
  expect_refused(Bytes().head(0, 1).text("a\nb\x80").u32(99).zeros(8), "key 'a?b?'");
}

TEST_F(GgufHostile, ArraysOfOtherTypesAreSkipped) {
  const std::string path = scratch_ / "m.gguf";
  Bytes bytes;
  bytes.head(0, 3).text("bools").u32(9).u32(7).u64(3).zeros(3);
  bytes.text("doubles").u32(9).u32(12).u64(2).zeros(16).text("k").u32(4).u32(11);
  spill(path, bytes.str());
  const GgufReader reader(path);
  EXPECT_EQ(reader.metadata().size(), 1u);
  EXPECT_TRUE(reader.metadata().at("k") == GgufValue(std::uint32_t{11}));
}

TEST_F(GgufHostile, Tensors) {
  const auto one = [](const std::vector<std::uint64_t>& sizes, std::uint32_t type,
                      std::uint64_t offset) {
    return Bytes().head(1, 0).tensor("t", sizes, type, offset).zeros(200);
  };
  expect_refused(one({}, 0, 0), "0 dimensions");
  expect_refused(one({1, 1, 1, 1, 1}, 0, 0), "5 dimensions");
  expect_refused(one({0}, 0, 0), "impossible size 0");
  expect_refused(one({std::uint64_t{1} << 62}, 0, 0), "impossible size");
  expect_refused(one({std::uint64_t{1} << 32, std::uint64_t{1} << 32}, 0, 0), "impossible size");
  expect_refused(one({16, std::uint64_t{1} << 60, 16}, 0, 0), "impossible size");
  expect_refused(one({100}, 0, 0), "ends within tensor 't'");
  expect_refused(one({8}, 0, 32), "begins at offset 32 of the data instead of 0");
  expect_refused(one({8}, 0, ~std::uint64_t{0}), "beyond the file's end");
  expect_refused(one({40}, 8, 0), "no whole number of blocks of Q8_0");
  expect_refused(one({32}, 12, 0), "tensor 't' is Q4_K; F32, F16, BF16 and Q8_0 are read");
  expect_refused(one({32}, 4, 0), "tensor 't' is type 4");
  expect_refused(Bytes().head(1, 0).tensor(std::string(64, 'n'), {1}, 0, 0).zeros(90),
                 "a name of 64 bytes");
  Bytes twice;
  twice.head(2, 0).tensor("t", {8}, 0, 0).tensor("t", {8}, 0, 32).zeros(200);
  expect_refused(twice, "tensor 't' comes twice");
  for (const std::uint64_t offset : {0, 16, 64}) {
    Bytes gap;
    gap.head(2, 0).tensor("t", {8}, 0, 0).tensor("u", {8}, 0, offset).zeros(200);
    expect_refused(gap, "tensor 'u' begins at offset");
  }
}

TEST_F(GgufHostile, Alignment) {
  const auto with = [](std::uint32_t kind, std::uint32_t value) {
    return Bytes().head(0, 1).text("general.alignment").u32(kind).u32(value);
  };
  expect_refused(with(4, 0), "general.alignment must be");
  expect_refused(with(4, 24), "general.alignment must be");
  expect_refused(with(4, 1u << 31), "general.alignment must be");
  expect_refused(with(5, 32), "general.alignment must be");
  const std::string path = scratch_ / "m.gguf";
  Bytes good;
  good.head(2, 1).text("general.alignment").u32(4).u32(8);
  good.tensor("t", {2}, 0, 0).tensor("u", {1}, 0, 8);
  good.zeros((8 - good.str().size() % 8) % 8).put(1.0f).put(2.0f).put(3.0f);
  spill(path, good.str());  // the padding after the last tensor may be missing
  GgufReader reader(path);
  std::vector<float> value(1);
  reader.read("u", 0, value);
  EXPECT_EQ(value[0], 3.0f);
}

// Cuts, changed bytes and changed numbers: a file either opens and reads, or is refused.
TEST_F(GgufHostile, Mutations) {
  const std::string good = write_sample(scratch_ / "good.gguf");
  const std::string path = scratch_ / "m.gguf";
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

TEST(GgufFaults, EveryCallThatFailsIsNamedAndSticks) {
  const ScratchDirectory scratch;
  int failures = 0;
  for (int nth = 0; nth < 20; ++nth) {
    const std::string path = scratch / fmt::format("{}.gguf", nth);
    int calls = 0;
    const FileSystem files(
        [&](FileCall, const std::string&) { return calls++ == nth ? ENOSPC : 0; });
    const testing::Caught caught = testing::catch_user_error([&] {
      GgufWriter writer(path, sample_metadata(), {{"t", {3}}, {"u", {8}}}, files);
      writer.append("t", values_of(3, 1));
      writer.append("u", values_of(8, 1));
      writer.finish();
    });
    if (calls <= nth) break;
    ++failures;
    EXPECT_EQ(caught.code, ExitCode::kIo);
    EXPECT_NE(caught.message.find(path), std::string::npos) << caught.message;
  }
  EXPECT_GE(failures, 7);  // open, header, twice values and padding, sync, close

  bool broken = false;
  const FileSystem files([&](FileCall call, const std::string&) {
    return broken && call == FileCall::kWrite ? EIO : 0;
  });
  GgufWriter writer(scratch / "sticky.gguf", {}, {{"t", {3}}, {"u", {8}}}, files);
  broken = true;
  EXPECT_THROW(writer.append("t", values_of(3, 1)), UserError);
  broken = false;
  EXPECT_THROW(writer.append("t", values_of(3, 1)), UserError);
  EXPECT_THROW(writer.finish(), UserError);
  const testing::Caught exists =
      testing::catch_user_error([&] { GgufWriter(scratch / "sticky.gguf", {}, {}); });
  EXPECT_EQ(exists.code, ExitCode::kIo);
}

TEST(GgufFaults, OutOfTurnAndIncompleteAreOurFault) {
  const ScratchDirectory scratch;
  GgufWriter writer(scratch / "m.gguf", {}, {{"t", {3}}, {"u", {8}}});
  EXPECT_THROW(writer.append("u", values_of(8, 1)), CheckError);
  EXPECT_THROW(writer.append("t", values_of(4, 1)), CheckError);
  writer.append("t", values_of(3, 1));
  EXPECT_THROW(writer.finish(), CheckError);
}

}  // namespace
}  // namespace lockstep
