// When two vocabularies are one, and what is said when they are not.
#include "bpe_fixture.h"

namespace lockstep {
namespace {

using Kind = TokenTable::Kind;

TokenTable table_of(const std::vector<std::string>& merges) {
  return test::parse(test::bpe_json(merges))->table();
}

TEST(TokenTable, EqualVocabulariesDoNotDiffer) {
  const TokenTable bytes = open_tokenizer("byte")->table();
  EXPECT_EQ(vocabulary_difference(bytes, table_of({})), "");
  TokenTable chat = table_of({"t h"});
  chat.entries.push_back({"<|im_start|>", Kind::kSpecial});
  EXPECT_EQ(vocabulary_difference(table_of({"t h"}), chat), "");
  EXPECT_EQ(vocabulary_difference(chat, table_of({"t h"})), "");
  TokenTable padded = chat;
  padded.entries.resize(400, {"", Kind::kUnused});
  EXPECT_EQ(vocabulary_difference(padded, chat), "");
}

TEST(TokenTable, TheFirstDifferenceIsNamed) {
  const TokenTable bytes = open_tokenizer("byte")->table();
  TokenTable other = bytes;
  std::swap(other.entries[65], other.entries[66]);
  EXPECT_EQ(vocabulary_difference(bytes, other), "id 65 is 'A' in the first and 'B' in the second");
  EXPECT_EQ(vocabulary_difference(bytes, table_of({"t h"})),
            "id 256 is unused in the first and 'th' in the second");
  EXPECT_EQ(vocabulary_difference(table_of({"t h", "h e"}), table_of({"t h"})),
            "id 257 is 'he' in the first and unused in the second");
  TokenTable turned = table_of({"t h", "h e"});
  std::swap(turned.merges[0], turned.merges[1]);
  EXPECT_EQ(vocabulary_difference(table_of({"t h", "h e"}), turned), "their merges differ");
}

}  // namespace
}  // namespace lockstep
