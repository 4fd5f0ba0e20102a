// SHA-256 as a stream (OpenSSL does the arithmetic), of whole files, and its text form.
#pragma once

#include "core/progress.h"
#include "files/file_system.h"

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

std::string openssl_version();  // of the library that is loaded

std::string to_hex(const Sha256Digest& digest);                     // lower case
std::optional<Sha256Digest> digest_from_hex(std::string_view hex);  // exactly 64 of [0-9a-f]
std::string sha256_text(std::string_view text);                     // in hex

// Of a regular file, in hex; the same errors as read_file(). `progress` is called for each piece
// read.
std::string sha256_file(const std::string& path, const FileSystem& files = {});
std::string sha256_of(const Descriptor& file, const std::string& path, const FileSystem& files = {},
                      const Progress& progress = {});

}  // namespace lockstep
