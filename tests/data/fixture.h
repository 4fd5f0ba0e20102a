// What the tests of the data room share: a temporary directory, shards and texts made in one line,
// and a check of an error's exit code and wording.
#pragma once

#include "core/error.h"
#include "data/shard.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

namespace lockstep::test {

class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "lockstep_data_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name);
    path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void write_file(const std::string& path, std::string_view content) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

inline std::string read_file(const std::string& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

// first, first + 1, ...
inline std::vector<std::int32_t> counting(std::size_t count, std::int32_t first = 0) {
  std::vector<std::int32_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

inline std::string write_shard(const std::string& path, const std::vector<std::int32_t>& tokens,
                               int bytes_per_token = 2) {
  ShardWriter writer(path, bytes_per_token, /*with_mask=*/false);
  writer.append(tokens);
  writer.close();
  return path;
}

inline std::vector<std::int32_t> tokens_of(const std::string& path) {
  const Shard shard(path);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(shard.info().tokens));
  shard.read(0, tokens, /*vocab=*/1 << 30);
  return tokens;
}

// Runs `action`, which must throw a UserError of that code, on one line, with all of `parts`.
template <typename Action>
void expect_error(ExitCode code, const std::vector<std::string>& parts, Action&& action) {
  try {
    action();
    FAIL() << "no error; expected one with '" << parts.front() << "'";
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' not in: " << message;
    }
  }
}

}  // namespace lockstep::test
