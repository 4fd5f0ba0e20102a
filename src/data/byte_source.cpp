// Both decompressors follow one pattern: refill the input when it is empty, decode as much as fits,
// and call a file cut short if it ends inside a member or frame.
#include "data/byte_source.h"

#include "core/error.h"
#include "core/shell_quote.h"
#include "files/input_stream.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <vector>

namespace lockstep {
namespace {

constexpr std::size_t kInputBytes = std::size_t{256} << 10;
constexpr std::size_t kLargestOutput = std::size_t{1} << 30;  // zlib counts in 32 bits
constexpr std::string_view kGzipMagic("\x1f\x8b", 2);
constexpr std::string_view kZstdMagic("\x28\xb5\x2f\xfd", 4);

class PlainSource : public ByteSource {
 public:
  PlainSource(InputStream file, std::string name)
      : file_(std::move(file)), name_(std::move(name)) {}
  std::size_t read(char* data, std::size_t size) override {
    const std::size_t got = file_.read({data, size}, name_);
    position_ += static_cast<std::int64_t>(got);
    return got;
  }
  std::int64_t position() const override { return position_; }

 private:
  InputStream file_;
  std::string name_;
  std::int64_t position_ = 0;
};

// What both decompressors share: compressed bytes not yet decoded.
class CompressedSource : public ByteSource {
 public:
  CompressedSource(InputStream file, std::string name, const char* kind)
      : file_(std::move(file)), name_(std::move(name)), kind_(kind), input_(kInputBytes) {}
  std::int64_t position() const override { return read_ - static_cast<std::int64_t>(left()); }
  // A full output may leave decoded bytes inside the decoder, so it is asked again before a refill.
  std::size_t read(char* data, std::size_t size) override {
    while (size > 0) {
      if (!pending_ && !refill()) {
        if (inside_) fail_truncated();
        return 0;
      }
      if (ended_ && skip_padding()) continue;
      const std::size_t got = decode(data, size);
      ended_ = !inside_;
      pending_ = inside_ && got == size;
      if (got > 0) return got;
    }
    return 0;
  }

 protected:
  // Bytes written to `data`; sets inside_.
  virtual std::size_t decode(char* data, std::size_t size) = 0;
  const char* next() const { return input_.data() + begin_; }
  std::size_t left() const { return end_ - begin_; }
  void take(std::size_t count) { begin_ += count; }
  [[noreturn]] void fail_damaged(std::string_view reason) const {
    fail(ExitCode::kData, "{}: damaged {} data near byte {} ({}); copy or download it again", name_,
         kind_, position(), reason);
  }
  const std::string& name() const { return name_; }

  bool inside_ = false;  // of a member or frame

 private:
  // False at the end of the file.
  bool refill() {
    if (left() > 0) return true;
    begin_ = 0;
    end_ = file_.read(input_, name_);
    read_ += static_cast<std::int64_t>(end_);
    return end_ > 0;
  }
  // Zeros behind a member or frame: tapes and block devices fill up with them. True if all that is
  // left of the input was padding.
  bool skip_padding() {
    while (left() > 0 && *next() == '\0') take(1);
    return left() == 0;
  }
  [[noreturn]] void fail_truncated() const {
    fail(ExitCode::kData,
         "{}: truncated: the {} data end too early, at byte {}; copy or download it again", name_,
         kind_, position());
  }

  InputStream file_;
  std::string name_;
  const char* kind_;
  std::vector<char> input_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::int64_t read_ = 0;
  bool pending_ = false;
  bool ended_ = false;  // a member or frame, and no other has begun
};

class GzipSource : public CompressedSource {
 public:
  GzipSource(InputStream file, std::string name)
      : CompressedSource(std::move(file), std::move(name), "gzip") {
    CHECK(::inflateInit2(&stream_, MAX_WBITS + 16) == Z_OK);  // + 16: gzip headers only
  }
  ~GzipSource() override { ::inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  std::size_t decode(char* data, std::size_t size) override {
    const std::size_t room = std::min<std::size_t>(size, kLargestOutput);
    const std::size_t had = left();
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(next()));
    stream_.avail_in = static_cast<uInt>(had);
    stream_.next_out = reinterpret_cast<Bytef*>(data);
    stream_.avail_out = static_cast<uInt>(room);
    const int status = ::inflate(&stream_, Z_NO_FLUSH);
    take(had - stream_.avail_in);
    inside_ = status != Z_STREAM_END;
    if (status == Z_STREAM_END) {
      ::inflateReset(&stream_);
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      fail_damaged(stream_.msg != nullptr ? stream_.msg : "unknown method");
    }
    return room - stream_.avail_out;
  }

 private:
  z_stream stream_{};
};

class ZstdSource : public CompressedSource {
 public:
  ZstdSource(InputStream file, std::string name)
      : CompressedSource(std::move(file), std::move(name), "zstd"),
        stream_(::ZSTD_createDStream()) {
    CHECK(stream_ != nullptr);
  }
  ~ZstdSource() override { ::ZSTD_freeDStream(stream_); }
  ZstdSource(const ZstdSource&) = delete;
  ZstdSource& operator=(const ZstdSource&) = delete;

  std::size_t decode(char* data, std::size_t size) override {
    ZSTD_inBuffer in{next(), left(), 0};
    ZSTD_outBuffer out{data, size, 0};
    const std::size_t hint = ::ZSTD_decompressStream(stream_, &out, &in);
    take(in.pos);
    if (::ZSTD_isError(hint) != 0) fail_frame(::ZSTD_getErrorName(hint));
    inside_ = hint != 0;
    return out.pos;
  }

 private:
  [[noreturn]] void fail_frame(std::string_view reason) const {
    if (reason.find("memory") == std::string_view::npos) fail_damaged(reason);
    fail(ExitCode::kData,
         "{}: its zstd window is above 128 MiB; unpack it first: `zstd -d --long=31 {}`", name(),
         shell_path(name()));
  }

  ZSTD_DStream* stream_;
};

}  // namespace

Compression compression_of(std::string_view head) {
  if (head.starts_with(kGzipMagic)) return Compression::kGzip;
  if (head.starts_with(kZstdMagic)) return Compression::kZstd;
  return Compression::kNone;
}

std::unique_ptr<ByteSource> open_bytes(const std::string& path, const std::string& name,
                                       Compression compression) {
  InputStream file(path, "a text file");
  switch (compression) {
    case Compression::kNone: break;
    case Compression::kGzip: return std::make_unique<GzipSource>(std::move(file), name);
    case Compression::kZstd: return std::make_unique<ZstdSource>(std::move(file), name);
  }
  return std::make_unique<PlainSource>(std::move(file), name);
}

bool skip_bytes(ByteSource& source, std::int64_t count,
                const std::function<void(std::int64_t position)>& on_position) {
  std::vector<char> dropped(kInputBytes);
  while (count > 0) {
    const auto want = std::min<std::int64_t>(count, static_cast<std::int64_t>(dropped.size()));
    const std::size_t got = source.read(dropped.data(), static_cast<std::size_t>(want));
    if (got == 0) return false;
    count -= static_cast<std::int64_t>(got);
    if (on_position) on_position(source.position());
  }
  return true;
}

}  // namespace lockstep
