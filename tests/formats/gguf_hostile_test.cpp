// A valid export, damaged in thousands of ways: it opens and reads, or a UserError names the file.
// Nothing else comes out, and nothing is read beyond the map (the sanitizer build looks).
#include "formats/gguf_fixture.h"

#include <cstring>
#include <random>

namespace lockstep {
namespace {

using testing::read_all;
using testing::ScratchDirectory;
using testing::slurp;
using testing::spill;

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  std::string mutate(std::string bytes, std::size_t header) {
    for (std::size_t changes = 1 + random_() % 2; changes > 0; --changes) change(bytes, header);
    return bytes;
  }

 private:
  void change(std::string& bytes, std::size_t header) {
    const std::size_t at = random_() % std::min(header, bytes.size());
    switch (random_() % 6) {
      case 0: bytes[at] = static_cast<char>(random_()); return;
      case 1: bytes[at] = static_cast<char>(bytes[at] ^ (1 << random_() % 8)); return;
      case 2: put(bytes, at, std::uint64_t{1} << random_() % 64); return;
      case 3: put(bytes, at, std::uint32_t{0} - static_cast<std::uint32_t>(random_() % 3)); return;
      case 4: bytes.erase(at, 1 + random_() % 8); return;
      default: bytes.resize(random_() % bytes.size() + 1); return;
    }
  }
  template <typename T>
  static void put(std::string& bytes, std::size_t at, T value) {
    if (at + sizeof(T) <= bytes.size()) std::memcpy(bytes.data() + at, &value, sizeof(T));
  }

  std::mt19937 random_;
};

void attempt(const std::string& path, int& refused) {
  try {
    const ForeignModel model = open_gguf(path);
    for (const SourceTensor& tensor : model.weights->tensors())
      read_all(*model.weights, tensor.name);
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kData) << error.what();
    EXPECT_EQ(std::string(error.what()).rfind(path + ": ", 0), 0u) << error.what();
    ++refused;
  }
}

TEST(GgufHostileModel, DamagedExports) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "m.gguf";
  const testing::TableTokenizer tokenizer(testing::small_table());
  int refused = 0, tried = 0;
  for (const std::string arch : {"gpt2", "llama", "qwen2"}) {
    const std::string good_path = scratch / arch;
    ModelConfig config = testing::small_config(arch);
    config.layers = 1;
    config.hidden = 32;
    config.ffn = 32;
    if (arch == "llama") config.rope_scaling = "llama3:8,1,4,8192";
    testing::export_small(good_path, config, GgufType::kQ8_0, tokenizer);
    const std::string good = slurp(good_path);
    const std::size_t header = good.find("blk.0") + 1000;
    Mutator mutator(11);
    for (int round = 0; round < 1000; ++round, ++tried) {
      spill(path, mutator.mutate(good, header));
      attempt(path, refused);
    }
  }
  EXPECT_EQ(tried, 3000);
  EXPECT_GT(refused, 1500);
  EXPECT_LT(refused, 3000);  // some changes are none of the reader's business
}

}  // namespace
}  // namespace lockstep
