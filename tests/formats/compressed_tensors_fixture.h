// A model in int8 as the compressed-tensors package writes it, by hand.
#pragma once

#include "formats/compressed_tensors.h"

#include "core/error.h"
#include "core/weight_format.h"
#include "support/support.h"

#include <nlohmann/json.hpp>

#include <cstring>
#include <filesystem>
#include <functional>
#include <map>

namespace lockstep::test {

using nlohmann::json;

template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

struct File {
  StoredTensor stored;
  std::vector<std::byte> bytes;
};
using Files = std::map<std::string, File>;

inline void put(Files& files, const StoredTensor& stored, std::vector<std::byte> bytes) {
  files[stored.name] = {stored, std::move(bytes)};
}

class CompressedTensors : public ::testing::Test {
 protected:
  static constexpr std::int64_t kRows = 3, kCols = 6;

  void SetUp() override {
    directory_ = ::testing::TempDir() + "/compressed_tensors_" +
                 ::testing::UnitTest::GetInstance()->current_test_info()->name();
    const std::vector<double> values = test::random_values(kRows * kCols, 5);
    weight_.assign(values.begin(), values.end());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // What an export holds: one quantized weight and one plain vector.
  Files good(Int8Scheme scheme, DType dtype = DType::kF32) const {
    Files files;
    for (const Int8Tensor& tensor : int8_tensors("a.q_proj.weight", kRows, kCols, scheme, dtype)) {
      put(files, tensor.stored,
          tensor.part == Int8Part::kShape ? bytes_of(std::vector<std::int64_t>{kRows, kCols})
                                          : int8_bytes(tensor.part, weight_, kCols, scheme, dtype));
    }
    put(files, {"norm.weight", "F32", {2}}, bytes_of(std::vector<float>{1.0f, -2.0f}));
    return files;
  }

  std::unique_ptr<WeightSource> open(const Files& files, const std::string& config,
                                     bool& int8_activations) const {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    std::vector<StoredTensor> stored;
    for (const auto& [name, file] : files) stored.push_back(file.stored);
    SafetensorsWriter writer(directory_, stored);
    for (const StoredTensor& tensor : writer.order()) {
      const std::vector<std::byte>& bytes = files.at(tensor.name).bytes;
      if (!bytes.empty()) writer.append(tensor.name, bytes);
    }
    writer.finish();
    return open_compressed_tensors(std::make_unique<SafetensorsReader>(directory_), config,
                                   int8_activations, "DIR");
  }

  void expect_refused(const Files& files, const std::string& config,
                      const std::string& message) const {
    try {
      bool ignored = false;
      const auto source = open(files, config, ignored);
      ADD_FAILURE() << "not refused: " << message;
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::kData);
      EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
      EXPECT_TRUE(std::string(error.what()).starts_with("DIR: ")) << error.what();
    }
  }

  // The configuration with one value changed.
  static std::string changed(Int8Scheme scheme, const std::string& pointer, const json& value) {
    json config = json::parse(compressed_tensors_config(scheme));
    config[json::json_pointer(pointer)] = value;
    return config.dump();
  }

  std::vector<float> weight_;
  std::string directory_;
};

}  // namespace lockstep::test
