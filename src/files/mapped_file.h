// A file mapped for reading: tensors of any size without memory of our own. Links are followed,
// because model hubs keep their caches as links.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace lockstep {

class MappedFile {
 public:
  // Throws UserError(kData) when missing or no regular file, kIo when it cannot be mapped.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // The whole file as a text. Throws UserError(kData) above `limit` bytes.
  std::string_view text(std::size_t limit) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace lockstep
