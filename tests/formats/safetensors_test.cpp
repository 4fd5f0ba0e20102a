// Safetensors: what is written reads back, files and index agree, and nothing a header or an index
// claims is believed before it is checked.
#include "formats/safetensors.h"

#include "core/rng.h"
#include "io/fixture.h"

namespace lockstep {
namespace {

using testing::expect_data_error;
using testing::ScratchDirectory;
using testing::slurp;
using testing::spill;

const std::vector<StoredTensor> kTensors = {{"b.weight", "F32", {3, 2}}, {"a.half", "BF16", {2, 2}},
                                            {"c.bytes", "I8", {3}},      {"empty", "F32", {0}},
                                            {"a.weight", "F16", {4}},    {"scalar", "F32", {}}};

std::vector<std::byte> content(const StoredTensor& tensor) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.bytes()));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(7 * i + tensor.name.size());
  }
  return bytes;
}

std::vector<std::string> write_model(const std::string& directory, std::int64_t max_bytes) {
  SafetensorsWriter writer(directory, kTensors, max_bytes);
  for (const StoredTensor& tensor : writer.order()) {
    const std::vector<std::byte> bytes = content(tensor);
    if (bytes.empty()) continue;
    const std::size_t half = bytes.size() / 2;
    writer.append(tensor.name, std::span(bytes).first(half));
    writer.append(tensor.name, std::span(bytes).subspan(half));
  }
  return writer.finish();
}

void expect_content(const std::string& path) {
  const SafetensorsReader reader(path);
  ASSERT_EQ(reader.tensors().size(), kTensors.size());
  for (const StoredTensor& tensor : kTensors) {
    const std::vector<std::byte> wanted = content(tensor);
    const std::span<const std::byte> found = reader.raw(tensor.name);
    ASSERT_EQ(found.size(), wanted.size()) << tensor.name;
    EXPECT_TRUE(std::equal(found.begin(), found.end(), wanted.begin())) << tensor.name;
    EXPECT_EQ(reader.find(tensor.name)->shape, Shape(tensor.shape));
    EXPECT_EQ(reader.find(tensor.name)->stored, tensor.dtype);
  }
}

// One file with the given header and `data` zero bytes behind it.
std::string file_text(const std::string& header, std::size_t data) {
  const std::uint64_t length = header.size();
  std::string text(sizeof length, '\0');
  std::memcpy(text.data(), &length, sizeof length);
  return text + header + std::string(data, '\0');
}

TEST(Safetensors, WhatIsWrittenReadsBack) {
  const ScratchDirectory scratch;
  EXPECT_EQ(write_model(scratch.path(), 1 << 20), std::vector<std::string>{"model.safetensors"});
  expect_content(scratch.path());
  expect_content(scratch / "model.safetensors");
  const std::string text = slurp(scratch / "model.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, text.data(), sizeof length);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(text[8], '{');
  EXPECT_NE(text.find(R"("__metadata__":{"format":"pt"})"), std::string::npos);
}

TEST(Safetensors, SplitsIntoFilesWithAnIndex) {
  const ScratchDirectory scratch;
  const std::vector<std::string> names = write_model(scratch.path(), 20);
  ASSERT_GT(names.size(), 2u);
  EXPECT_EQ(names.front(), fmt::format("model-00001-of-{:05}.safetensors", names.size() - 1));
  EXPECT_EQ(names.back(), "model.safetensors.index.json");
  EXPECT_NE(slurp(scratch / names.back()).find("\"total_size\": 47"), std::string::npos);
  expect_content(scratch.path());
}

TEST(Safetensors, SameTensorsSameBytes) {
  const ScratchDirectory a, b;
  write_model(a.path(), 20);
  write_model(b.path(), 20);
  for (const auto& entry : std::filesystem::directory_iterator(a.path())) {
    EXPECT_EQ(slurp(entry.path()), slurp(b / entry.path().filename().string()));
  }
}

TEST(Safetensors, ReadsRowsAsFloats) {
  const ScratchDirectory scratch;
  SafetensorsWriter writer(scratch.path(), {{"f", "F32", {2, 2}},
                                            {"h", "F16", {2, 2}},
                                            {"b", "BF16", {2, 2}},
                                            {"d", "F64", {2, 2}},
                                            {"i", "I8", {4}}});
  for (const StoredTensor& tensor : writer.order()) {
    for (const float value : {1.0f, -2.5f, 0.375f, 96.0f}) {
      const f16 half = to_f16(value);
      const bf16 brain = to_bf16(value);
      const double wide = value;
      if (tensor.name == "f") writer.append("f", std::as_bytes(std::span(&value, 1)));
      if (tensor.name == "h") writer.append("h", std::as_bytes(std::span(&half, 1)));
      if (tensor.name == "b") writer.append("b", std::as_bytes(std::span(&brain, 1)));
      if (tensor.name == "d") writer.append("d", std::as_bytes(std::span(&wide, 1)));
      if (tensor.name == "i") writer.append("i", std::vector<std::byte>(1));
    }
  }
  writer.finish();
  SafetensorsReader reader(scratch.path());
  for (const char* name : {"f", "h", "b", "d"}) {
    std::vector<float> row(2);
    reader.read(name, 1, row);
    EXPECT_EQ(row, (std::vector<float>{0.375f, 96.0f})) << name;
  }
  std::vector<float> one(4);
  expect_data_error([&] { reader.read("i", 0, one); }, "tensor 'i' has dtype I8");
}

class BadHeader : public ::testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(BadHeader, IsRefusedByName) {
  const ScratchDirectory scratch;
  spill(scratch / "model.safetensors", file_text(GetParam().first, 8));
  expect_data_error([&] { SafetensorsReader reader(scratch.path()); }, GetParam().second);
}

std::string one(const std::string& fields) { return "{\"w\":{" + fields + "}}"; }

INSTANTIATE_TEST_SUITE_P(
    Safetensors, BadHeader,
    ::testing::Values(
        std::pair(std::string(" {}"), std::string("does not begin with '{'")),
        std::pair(std::string("{\"w\":"), std::string("is not JSON")),
        std::pair(std::string("{\"w\":3}"), std::string("'w' lacks dtype, shape")),
        std::pair(one(R"("dtype":"F31","shape":[2],"data_offsets":[0,8])"),
                  std::string("dtype that is not known")),
        std::pair(one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"),
                  std::string("shape that is no list of sizes")),
        std::pair(one(R"("dtype":"F32","shape":[1,1,1,1,2],"data_offsets":[0,8])"),
                  std::string("more than four dimensions")),
        std::pair(one(R"("dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8])"),
                  std::string("is larger than the file")),
        std::pair(one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"),
                  std::string("contradict its shape")),
        std::pair(one(R"("dtype":"F32","shape":[4],"data_offsets":[0,16])"),
                  std::string("beyond the end")),
        std::pair(one(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"),
                  std::string("begins at 4, where 0 is due")),
        std::pair(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])"),
                  std::string("4 bytes that belong to no tensor")),
        std::pair(one(R"("dtype":"F32","shape":[1],"data_offsets":[-4,0])"),
                  std::string("offsets that are no offsets"))));

TEST(Safetensors, LengthsBeyondTheFileAreRefused) {
  const ScratchDirectory scratch;
  spill(scratch / "short", "abc");
  expect_data_error([&] { SafetensorsReader reader(scratch / "short"); }, "has 3 bytes");
  for (const std::uint64_t length : {std::uint64_t{9}, ~std::uint64_t{0}, std::uint64_t{1} << 40}) {
    std::string text(16, '{');
    std::memcpy(text.data(), &length, sizeof length);
    spill(scratch / "long", text);
    expect_data_error([&] { SafetensorsReader reader(scratch / "long"); }, "announces a header of");
  }
}

TEST(Safetensors, AnIndexStaysInsideItsDirectory) {
  const ScratchDirectory scratch;
  const std::string first = write_model(scratch.path(), 20).front();
  const std::string index = scratch / "model.safetensors.index.json";
  const auto with = [&](const std::string& file) {
    spill(index, "{\"weight_map\": {\"w\": \"" + file + "\"}}");
    return [&] { SafetensorsReader reader(scratch.path()); };
  };
  for (const char* file : {"../evil.safetensors", "/etc/x.safetensors", "a/b.safetensors",
                           ".safetensors", "..\\\\x.safetensors", "passwd", ""}) {
    expect_data_error(with(file), "in the same directory");
  }
  expect_data_error(with("gone.safetensors"), "the file is missing");
  expect_data_error(with(first), "tensor 'w' is not in");
  spill(index, "[]");
  expect_data_error([&] { SafetensorsReader reader(scratch.path()); }, "\"weight_map\"");
}

TEST(Safetensors, WhatIsMissingIsNamed) {
  const ScratchDirectory scratch;
  expect_data_error([&] { SafetensorsReader reader(scratch.path()); }, "neither model.safetensors");
  spill(scratch / "pytorch_model.bin", "x");
  expect_data_error([&] { SafetensorsReader reader(scratch.path()); }, "safe_serialization=True");
}

TEST(Safetensors, LinksAreFollowed) {
  const ScratchDirectory blobs, snapshot;
  write_model(blobs.path(), 1 << 20);
  std::filesystem::create_symlink(blobs / "model.safetensors", snapshot / "model.safetensors");
  expect_content(snapshot.path());
}

// Whatever is done to a file, opening it and reading every tensor gives values or UserError.
TEST(Safetensors, MutatedFilesNeverCrash) {
  const ScratchDirectory scratch;
  write_model(scratch.path(), 1 << 20);
  const std::string path = scratch / "model.safetensors";
  const std::string good = slurp(path);
  const std::vector<std::string> splices = {
      "-1", "18446744073709551615", "[", "{", "}", "\"", "1e99", "null", "[[[[", "0"};
  int refused = 0;
  for (std::uint64_t round = 0; round < 3000; ++round) {
    const auto random = philox(/*key=*/11, round);
    std::string text = good;
    const std::size_t at = random[0] % text.size();
    switch (random[1] % 4) {
      case 0: text[at] = static_cast<char>(random[2]); break;
      case 1: text.resize(at); break;
      case 2: text.insert(at, splices[random[2] % splices.size()]); break;
      default: text.erase(at, 1 + random[2] % 8); break;
    }
    spill(path, text);
    try {
      SafetensorsReader reader(path);
      for (const SourceTensor& tensor : reader.tensors()) {
        std::vector<float> values(static_cast<std::size_t>(tensor.shape.count()));
        reader.read(tensor.name, 0, values);
      }
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::kData) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 2000);
}

}  // namespace
}  // namespace lockstep
