// A GGUF file taken apart, changed and written again; what its reader refuses.
#pragma once

#include "formats/gguf_fixture.h"

#include <map>
#include <string>
#include <vector>

namespace lockstep::testing {

// A file's parts, to be changed and written again.
struct Parts {
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;
  std::map<std::string, std::vector<float>> values;

  explicit Parts(const std::string& path) {
    GgufReader reader(path);
    for (const auto& [key, value] : reader.metadata()) metadata.emplace_back(key, value);
    for (const SourceTensor& tensor : reader.tensors()) {
      tensors.push_back({tensor.name, tensor.shape, GgufType::kF32});
      values[tensor.name] = read_all(reader, tensor.name);
    }
  }
  void set(const std::string& key, GgufValue value) {
    remove(key);
    metadata.emplace_back(key, std::move(value));
  }
  void remove(const std::string& key) {
    std::erase_if(metadata, [&](const auto& pair) { return pair.first == key; });
  }
  void remove_tensor(const std::string& name) {
    std::erase_if(tensors, [&](const GgufTensor& tensor) { return tensor.name == name; });
  }
  void add_tensor(const std::string& name, Shape shape, float value) {
    tensors.push_back({name, shape, GgufType::kF32});
    values[name].assign(static_cast<std::size_t>(shape.count()), value);
  }
  void write(const std::string& path) const {
    std::filesystem::remove(path);
    GgufWriter writer(path, metadata, tensors);
    for (const GgufTensor& tensor : tensors) writer.append(tensor.name, values.at(tensor.name));
    writer.finish();
  }
};

class GgufModelTest : public ::testing::Test {
 protected:
  Parts parts(const std::string& arch) {
    std::filesystem::remove(path_);
    export_small(path_, small_config(arch), GgufType::kF32, tokenizer_);
    return Parts(path_);
  }
  void expect_refused(const Parts& parts, const std::string& message) {
    parts.write(path_);
    SCOPED_TRACE(message);
    expect_data_error([&] { open_gguf(path_); }, message);
    expect_data_error([&] { open_gguf(path_); }, path_ + ": ");
  }

  ScratchDirectory scratch_;
  std::string path_ = scratch_ / "m.gguf";
  TableTokenizer tokenizer_{small_table()};
};

}  // namespace lockstep::testing
