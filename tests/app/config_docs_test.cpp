// docs/configuration.md lists every key as the registry has it: one fact in one place, and the copy
// for readers is checked. Run this test with LOCKSTEP_UPDATE_DOCS=1 to rewrite the tables.
#include "app/config.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace lockstep {
namespace {

constexpr const char* kPath = LOCKSTEP_SOURCE_DIR "/docs/configuration.md";
constexpr const char* kBegin = "<!-- keys: generated -->\n";
constexpr const char* kEnd = "<!-- keys: end -->\n";

std::string tables(const ConfigRegistry& registry) {
  std::string out;
  for (const std::string& section : registry.sections()) {
    out +=
        "\n### [" + section + "]\n\n| key | values | default | what it is |\n|---|---|---|---|\n";
    for (const ConfigKey& key : registry.keys()) {
      if (key.section != section) continue;
      out += "| `" + key.name + "` | " + expectation(key) + " | `" + key.default_value + "` | " +
             key.description + " |\n";
    }
  }
  return out + "\n";
}

TEST(ConfigDocs, ListEveryKey) {
  std::ifstream file(kPath);
  ASSERT_TRUE(file) << kPath;
  std::stringstream buffer;
  buffer << file.rdbuf();
  const std::string text = buffer.str();
  const std::size_t begin = text.find(kBegin), end = text.find(kEnd);
  ASSERT_NE(begin, std::string::npos);
  ASSERT_NE(end, std::string::npos);
  const std::size_t from = begin + std::string(kBegin).size();
  Options options;
  const std::string expected = tables(ConfigRegistry(options));
  if (std::getenv("LOCKSTEP_UPDATE_DOCS") != nullptr) {
    std::ofstream(kPath) << text.substr(0, from) << expected << text.substr(end);
    return;
  }
  EXPECT_EQ(text.substr(from, end - from), expected);
}

}  // namespace
}  // namespace lockstep
