// What a damaged or made-up header of a GGUF file says is checked before it is believed.
#include "formats/gguf_header.h"
#include "core/error.h"
#include "io/fixture.h"

namespace lockstep {
namespace {

using testing::expect_data_error;
using testing::ScratchDirectory;
using testing::spill;

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
  expect_data_error([&] { GgufReader reader(scratch_ / "none"); },
                    "none: cannot open: No such file");
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
  expect_refused(one({128}, 12, 0), "rows of 128 values, no whole number of blocks of Q4_K");
  expect_refused(one({256}, 14, 0), "ends within tensor 't'");
  expect_refused(one({256}, 16, 0),
                 "tensor 't' is IQ2_XXS, which is not read; take a file of F32,");
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

}  // namespace
}  // namespace lockstep
