// The published vectors, in pieces and from files; hex that is none.
#include "files/sha256.h"

#include "io/fixture.h"

namespace lockstep {
namespace {

using testing::ScratchDirectory;

constexpr const char* kEmpty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kMillionA =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256Test, PublishedVectors) {
  EXPECT_EQ(sha256_text(""), kEmpty);
  EXPECT_EQ(sha256_text("abc"), kAbc);
  EXPECT_EQ(sha256_text(std::string(1000000, 'a')), kMillionA);
}

TEST(Sha256Test, PiecesMakeTheSameDigestAndFinishBeginsAnew) {
  Sha256 hash;
  hash.update("a");
  hash.update("");
  hash.update("bc");
  EXPECT_EQ(to_hex(hash.finish()), kAbc);
  EXPECT_EQ(to_hex(hash.finish()), kEmpty);
}

TEST(Sha256Test, FilesAreReadInPieces) {
  ScratchDirectory scratch;
  const std::string text(2500001, 'x');  // more than two reads
  testing::spill(scratch / "f", text);
  EXPECT_EQ(sha256_file(scratch / "f"), sha256_text(text));
  testing::expect_data_error([&] { sha256_file(scratch / "none"); }, "missing");
}

TEST(Sha256Test, HexIsExact) {
  ASSERT_TRUE(digest_from_hex(kAbc));
  EXPECT_EQ(to_hex(*digest_from_hex(kAbc)), kAbc);
  EXPECT_FALSE(digest_from_hex(std::string(63, '0')));
  EXPECT_FALSE(digest_from_hex(std::string(64, 'A')));
}

}  // namespace
}  // namespace lockstep
