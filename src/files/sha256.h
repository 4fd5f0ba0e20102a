// SHA-256 as a stream (OpenSSL does the arithmetic) and its text form.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace lockstep {

using Sha256Digest = std::array<std::byte, 32>;

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(std::span<const std::byte> data);
  void update(std::string_view text);
  Sha256Digest finish();  // and begins anew

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string to_hex(const Sha256Digest& digest);                     // lower case
std::optional<Sha256Digest> digest_from_hex(std::string_view hex);  // exactly 64 of [0-9a-f]
std::string sha256_text(std::string_view text);                     // in hex

}  // namespace lockstep
