// SHA-256 through OpenSSL's EVP interface, which picks the processor's SHA instructions.
#include "files/sha256.h"

#include "core/error.h"
#include "files/input_file.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <vector>

namespace lockstep {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 20;

}  // namespace

struct Sha256::State {
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context{EVP_MD_CTX_new()};

  void begin() {
    CHECK(context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1,
          "OpenSSL offers no SHA-256");
  }
};

Sha256::Sha256() : state_(std::make_unique<State>()) { state_->begin(); }
Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> data) {
  CHECK(EVP_DigestUpdate(state_->context.get(), data.data(), data.size()) == 1);
}

void Sha256::update(std::string_view text) {
  update(std::as_bytes(std::span(text.data(), text.size())));
}

Sha256Digest Sha256::finish() {
  Sha256Digest digest{};
  CHECK(EVP_DigestFinal_ex(state_->context.get(), reinterpret_cast<unsigned char*>(digest.data()),
                           nullptr) == 1);
  state_->begin();
  return digest;
}

std::string to_hex(const Sha256Digest& digest) {
  std::string text;
  for (const std::byte byte : digest) text += fmt::format("{:02x}", std::to_integer<int>(byte));
  return text;
}

std::optional<Sha256Digest> digest_from_hex(std::string_view hex) {
  Sha256Digest digest{};
  if (hex.size() != 2 * digest.size()) return std::nullopt;
  for (std::size_t i = 0; i < hex.size(); ++i) {
    const std::size_t value = std::string_view("0123456789abcdef").find(hex[i]);
    if (value == std::string_view::npos) return std::nullopt;
    digest[i / 2] = (digest[i / 2] << 4) | static_cast<std::byte>(value);
  }
  return digest;
}

std::string openssl_version() { return OpenSSL_version(OPENSSL_VERSION); }

std::string sha256_text(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return to_hex(hash.finish());
}

std::string sha256_of(const Descriptor& file, const std::string& path, const FileSystem& files,
                      const Progress& progress) {
  Sha256 hash;
  std::vector<std::byte> buffer(kReadBytes);
  std::int64_t offset = 0;
  for (;;) {
    std::size_t got = 0;
    const int error = files.read_at(buffer, got, file, path, offset);
    if (error != 0) fail_io(path, "read", error);
    hash.update(std::span(buffer).first(got));
    report(progress);
    offset += static_cast<std::int64_t>(got);
    if (got < buffer.size()) return to_hex(hash.finish());
  }
}

std::string sha256_file(const std::string& path, const FileSystem& files) {
  std::int64_t size = 0;
  const Descriptor file = open_regular(size, path, files);
  return sha256_of(file, path, files);
}

}  // namespace lockstep
