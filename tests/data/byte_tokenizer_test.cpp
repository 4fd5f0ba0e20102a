// Bytes as tokens, and the file that remembers them.
#include "data/byte_tokenizer.h"

#include "core/rng.h"
#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;
using test::TempDir;
using test::write_file;

TEST(ByteTokenizer, BytesAreTheIdentity) {
  const auto tokenizer = open_tokenizer("byte");
  EXPECT_EQ(tokenizer->name(), "byte");
  EXPECT_EQ(tokenizer->vocab_size(), 256);
  EXPECT_EQ(tokenizer->end_of_text(), -1);
  std::vector<std::int32_t> ids = {7};
  tokenizer->encode("A\xff", ids);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{7, 65, 255}));  // appended
}

TEST(ByteTokenizer, RandomBytesRoundTripWholeAndInPieces) {
  const auto tokenizer = open_tokenizer("byte");
  for (std::uint64_t round = 0; round < 50; ++round) {
    std::string text;
    for (std::uint64_t i = 0; i < 40 * round; ++i) {
      text += static_cast<char>(philox(round, i)[0]);
    }
    std::vector<std::int32_t> whole, pieces;
    tokenizer->encode(text, whole);
    EXPECT_EQ(tokenizer->decode(whole), text);
    const std::size_t cut = text.size() / 3;
    tokenizer->encode(std::string_view(text).substr(0, cut), pieces);
    tokenizer->encode(std::string_view(text).substr(cut), pieces);
    EXPECT_EQ(pieces, whole);
  }
}

TEST(ByteTokenizer, IdsThatItDoesNotKnowAreShownAsReplacementCharacters) {
  EXPECT_EQ(open_tokenizer("byte")->decode({65, 256, -1}), "A\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(ByteTokenizer, BytesOpenAgainAsAHuggingFaceFile) {
  const TempDir dir;
  open_tokenizer("byte")->save_hugging_face(dir.path());
  const auto tokenizer = open_tokenizer(dir.path());
  EXPECT_EQ(tokenizer->name(), "bpe");
  EXPECT_EQ(tokenizer->vocab_size(), 256);
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  std::vector<std::int32_t> ids;
  tokenizer->encode(all, ids);
  EXPECT_EQ(ids, test::counting(256));
  EXPECT_EQ(open_tokenizer("byte")->table().entries.size(), 256U);
}

TEST(ByteTokenizer, BadMetaFilesAreNamed) {
  const TempDir dir;
  const std::string meta = dir / "meta.json";
  const auto expect_bad = [&](std::string_view content, const std::vector<std::string>& parts) {
    write_file(meta, content);
    expect_error(ExitCode::kData, parts, [&] { open_tokenizer(dir.path()); });
  };
  for (const char* text : {"", "{", "[]", "{\"type\": 3, \"vocab\": 256}", "{\"type\": \"byte\"}",
                           "{\"type\": \"byte\", \"vocab\": \"256\"}"}) {
    expect_bad(text, {meta, "not JSON with"});
  }
  expect_bad("{\"type\": \"rune\", \"vocab\": 256}", {meta, "'rune' is not understood", "byte"});
  expect_bad("{\"type\": \"byte\", \"vocab\": 257}", {meta, "vocab 257", "256"});
  expect_bad(std::string(3 << 20, ' '), {meta, "at most 1.0 MiB"});
}

}  // namespace
}  // namespace lockstep
