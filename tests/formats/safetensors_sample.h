// A small set of tensors of many types, written and compared by the tests of safetensors.
#pragma once

#include "formats/safetensors.h"
#include "io/fixture.h"

#include <cstring>
#include <string>
#include <vector>

namespace lockstep::testing {

inline const std::vector<StoredTensor> kTensors = {
    {"b.weight", "F32", {3, 2}}, {"a.half", "BF16", {2, 2}}, {"c.bytes", "I8", {3}},
    {"empty", "F32", {0}},       {"a.weight", "F16", {4}},   {"scalar", "F32", {}}};

inline std::vector<std::byte> content(const StoredTensor& tensor) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.bytes()));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(7 * i + tensor.name.size());
  }
  return bytes;
}

inline std::vector<std::string> write_model(const std::string& directory, std::int64_t max_bytes) {
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

inline void expect_content(const std::string& path) {
  const SafetensorsReader reader(path);
  ASSERT_EQ(reader.tensors().size(), kTensors.size());
  for (const StoredTensor& tensor : kTensors) {
    const std::vector<std::byte> wanted = content(tensor);
    std::vector<std::byte> found(wanted.size());
    reader.read_bytes(found, tensor.name, 0);
    EXPECT_TRUE(found == wanted) << tensor.name;
    EXPECT_EQ(reader.find(tensor.name)->shape, Shape(tensor.shape));
    EXPECT_EQ(reader.find(tensor.name)->stored, tensor.dtype);
  }
}

// One file with the given header and `data` zero bytes behind it.
inline std::string file_text(const std::string& header, std::size_t data) {
  const std::uint64_t length = header.size();
  std::string text(sizeof length, '\0');
  std::memcpy(text.data(), &length, sizeof length);
  return text + header + std::string(data, '\0');
}

}  // namespace lockstep::testing
