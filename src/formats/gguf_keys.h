// GgufKeys: the typed view of one GGUF file's metadata; every failure names the file and the key.
#pragma once

#include "formats/gguf.h"

#include <cstdint>
#include <optional>
#include <string>

namespace lockstep {

class GgufKeys {
 public:
  // `file` outlives the view.
  GgufKeys(GgufReader& file, std::string path) : file_(file), path_(std::move(path)) {}

  // Under the key's whole name; absent when the file has no such key. A number is as it was
  // written: 1e-05, not the double nearest to fp32's 1e-05.
  std::optional<std::string> text(const std::string& key) const;
  std::optional<double> number(const std::string& key) const;
  std::optional<std::int64_t> size(const std::string& key) const;  // 1 to 2^31

  template <typename T>
  T required(const std::optional<T>& value, const std::string& key) const {
    if (!value) fail_missing(key);
    return *value;
  }
  std::int64_t required_size(const std::string& key) const { return required(size(key), key); }

  bool has_tensor(const std::string& name) const { return file_.find(name) != nullptr; }
  GgufReader& file() const { return file_; }
  const std::string& path() const { return path_; }

 private:
  [[noreturn]] void fail_missing(const std::string& key) const;

  GgufReader& file_;
  std::string path_;
};

}  // namespace lockstep
