// Values as bytes for another rank of the same program: numbers and plain structs as they lie in
// memory, texts and lists behind their length. Both ends name the same types in the same order.
#pragma once

#include "core/error.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace lockstep {

class Packer {
 public:
  template <typename T>
  requires std::is_trivially_copyable_v<T>
  void put(const T& value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T)); }
  void put(const std::string& text) {
    put(static_cast<std::uint64_t>(text.size()));
    bytes_ += text;
  }
  template <typename T>
  void put(const std::vector<T>& list) {
    put(static_cast<std::uint64_t>(list.size()));
    for (const T& item : list) put(item);
  }

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// CHECKs that what is asked for is there: other bytes come from another program.
class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : left_(bytes) {}

  template <typename T>
  requires std::is_trivially_copyable_v<T>
  void get(T& value) {
    const std::string_view bytes = take(sizeof(T));
    std::memcpy(&value, bytes.data(), sizeof(T));
  }
  void get(std::string& text) { text = take(length()); }
  template <typename T>
  void get(std::vector<T>& list) {
    list.clear();
    for (std::uint64_t left = length(); left > 0; --left) get(list.emplace_back());
  }

  bool done() const { return left_.empty(); }

 private:
  std::uint64_t length() {
    std::uint64_t size = 0;
    get(size);
    return size;
  }
  std::string_view take(std::uint64_t size) {
    CHECK(size <= left_.size(), "{} bytes where {} are needed", left_.size(), size);
    const std::string_view bytes = left_.substr(0, size);
    left_.remove_prefix(size);
    return bytes;
  }

  std::string_view left_;
};

}  // namespace lockstep
