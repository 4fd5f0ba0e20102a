// Reading safetensors: rows as floats, an index, links, what is missing, and damaged files.
#include "core/rng.h"
#include "formats/safetensors_sample.h"

namespace lockstep {
namespace {

using testing::expect_content;
using testing::expect_data_error;
using testing::file_text;
using testing::kTensors;
using testing::ScratchDirectory;
using testing::slurp;
using testing::spill;
using testing::write_model;

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
  expect_data_error(with("gone.safetensors"), "gone.safetensors: cannot open: No such file");
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

// More than is converted at once, from anywhere.
TEST(Safetensors, LongTensorsAreReadInPieces) {
  const ScratchDirectory scratch;
  constexpr std::int64_t kRows = 1 << 18;
  SafetensorsWriter writer(scratch.path(), {{"w", "BF16", {kRows, 3}}});
  std::vector<bf16> values(3 * kRows);
  for (std::size_t i = 0; i < values.size(); ++i) values[i].bits = static_cast<std::uint16_t>(i);
  writer.append("w", std::as_bytes(std::span(values)));
  writer.finish();
  SafetensorsReader reader(scratch.path());
  std::vector<float> rows(3 * (kRows - 1));
  reader.read("w", 1, rows);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(rows[i]), ((i + 3) & 0xffff) << 16) << i;
  }
}

// A mapping would end the process with a signal here.
TEST(Safetensors, AFileCutShortInUseIsAnErrorWithItsName) {
  const ScratchDirectory scratch;
  SafetensorsWriter writer(scratch.path(), {{"w", "F32", {64, 1024}}, {"h", "F16", {64, 1024}}});
  writer.append("w", std::vector<std::byte>(64 * 4096));
  writer.append("h", std::vector<std::byte>(64 * 2048));
  writer.finish();
  SafetensorsReader reader(scratch.path());
  std::filesystem::resize_file(scratch / "model.safetensors", 4096);
  std::vector<float> row(1024);
  for (const char* name : {"w", "h"}) {
    expect_data_error([&] { reader.read(name, 60, row); },
                      "model.safetensors: was cut short while in use");
  }
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
