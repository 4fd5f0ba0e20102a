// Byte-level BPE from tokenizer.json: ids worked out by hand, cuts, added tokens, files.
#include "bpe_fixture.h"

#include <chrono>
#include <thread>

namespace lockstep {
namespace {

using test::added;
using test::bpe_json;
using test::ids_of;
using test::json;
using test::odd_text;
using test::parse;
using test::TempDir;
using Ids = std::vector<std::int32_t>;

TEST(BpeTokenizer, MergesByRankThenFromTheLeft) {
  // 256 "th", 257 "he", 258 "the", 259 " the", 260 "aa"
  const auto bpe = parse(bpe_json({"t h", "h e", "th e", "\xc4\xa0 the", "a a"}));
  EXPECT_EQ(bpe->name(), "bpe");
  EXPECT_EQ(bpe->vocab_size(), 261);
  EXPECT_EQ(ids_of(*bpe, "the"), Ids{258});
  EXPECT_EQ(ids_of(*bpe, "the the"), (Ids{258, 259}));
  EXPECT_EQ(ids_of(*bpe, "she"), (Ids{'s', 257}));
  EXPECT_EQ(ids_of(*bpe, "aaaaa"), (Ids{260, 260, 'a'}));
  EXPECT_EQ(ids_of(*bpe, "t he"), (Ids{'t', ' ', 257}));  // " t" is no pair; pieces do not join
  EXPECT_EQ(ids_of(*bpe, ""), Ids{});
  EXPECT_EQ(bpe->decode({258, 259, 400, -1}), "the the\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(BpeTokenizer, BothSpellingsOfMergesAreTheSame) {
  json root = bpe_json({"t h", "th e"});
  const Ids expected = ids_of(*parse(root), "the thth");
  root["model"]["merges"] = json::parse(R"([["t", "h"], ["th", "e"]])");
  EXPECT_EQ(ids_of(*parse(root), "the thth"), expected);
}

TEST(BpeTokenizer, IgnoreMergesTakesWholePieces) {
  json root = bpe_json({});
  root["model"]["vocab"]["the"] = 256;
  EXPECT_EQ(ids_of(*parse(root), "the"), (Ids{'t', 'h', 'e'}));
  root["model"]["ignore_merges"] = true;
  EXPECT_EQ(ids_of(*parse(root), "the then"), (Ids{256, ' ', 't', 'h', 'e', 'n'}));
}

// Long pieces are merged by another algorithm than short ones; what a straightforward loop gives is
// the reference for both.
TEST(BpeTokenizer, ShortAndLongPiecesFollowTheRule) {
  const std::vector<std::string> merges = {"a b", "b a", "a a", "ab a", "aa b", "ba ba", "aba b"};
  const json root = bpe_json(merges);
  const auto bpe = parse(root);
  for (std::uint64_t round = 0; round < 300; ++round) {
    std::string text;
    for (std::uint64_t i = 0; i < 1 + round / 2; ++i) text += philox(round, i)[0] % 3 ? 'a' : 'b';
    std::vector<std::string> parts;
    for (const char c : text) parts.emplace_back(1, c);
    for (bool again = true; again;) {
      again = false;
      for (std::size_t rank = 0; rank < merges.size() && !again; ++rank) {
        for (std::size_t i = 0; i + 1 < parts.size() && !again; ++i) {
          if (parts[i] + " " + parts[i + 1] != merges[rank]) continue;
          parts[i] += parts[i + 1];
          parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(i) + 1);
          again = true;
        }
      }
    }
    Ids expected;
    for (const auto& part : parts) expected.push_back(root["model"]["vocab"][part]);
    ASSERT_EQ(ids_of(*bpe, text), expected) << text;
    ASSERT_EQ(ids_of(*bpe, text), expected) << text;  // from the cache
  }
}

// As Hugging Face's library: a byte without a token is left out and its neighbours may join.
TEST(BpeTokenizer, BytesThatTheVocabularyLacksAreDropped) {
  json root = bpe_json({"t h", "th e"});  // 256 "th", 257 "the"
  root["model"]["vocab"].erase("x");
  root["added_tokens"] = {added("<unk>", 300)};
  const auto bpe = parse(root);
  for (int round = 1; round <= 2; ++round) {  // the second time from the cache, where it is used
    EXPECT_EQ(ids_of(*bpe, "the x txhe"), (Ids{257, ' ', ' ', 257}));
    EXPECT_EQ(bpe->dropped_bytes(), 2 * round);
  }
  EXPECT_EQ(ids_of(*bpe, "x"), Ids{});
  EXPECT_EQ(ids_of(*bpe, std::string(100, 'x') + "the"), Ids{257});
  EXPECT_EQ(bpe->dropped_bytes(), 105);
  root["model"]["unk_token"] = "<unk>";
  EXPECT_EQ(ids_of(*parse(root), "txxhe"), (Ids{'t', 300, 300, 'h', 'e'}));
  root["model"]["fuse_unk"] = true;
  const auto fused = parse(root);
  EXPECT_EQ(ids_of(*fused, "txxhe"), (Ids{'t', 300, 'h', 'e'}));
  EXPECT_EQ(fused->dropped_bytes(), 0);
}

TEST(BpeTokenizer, AMegabyteOfOneLetterIsNotQuadratic) {
  const auto bpe = parse(bpe_json({"a a", "aa aa", "aaaa aaaa"}));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(ids_of(*bpe, std::string(1 << 20, 'a')), Ids(1 << 17, 258));
  EXPECT_EQ(ids_of(*bpe, std::string(1 << 20, ' ')).size(), 1U << 20);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 20);  // quadratic time is many minutes
}

TEST(BpeTokenizer, AnyBytesRoundTrip) {
  for (const std::string& name : pre_tokenizer_names()) {
    if (normalizer_json(name) != "null") continue;
    const auto bpe = parse(bpe_json({"t h", "\xc3\xa4 \xc2\xb8", "\xc4\x80 \xc3\xbf"}, name));
    for (std::uint64_t round = 0; round < 200; ++round) {
      std::string text;
      for (std::uint64_t i = 0; i < round; ++i) {
        text += static_cast<char>(philox(round, i)[0] >> (round % 2 * 24));
      }
      ASSERT_EQ(bpe->decode(ids_of(*bpe, text)), text);
      ASSERT_EQ(bpe->decode(ids_of(*bpe, odd_text(round, 20))), odd_text(round, 20));
    }
  }
}

TEST(BpeTokenizer, NormalizesValidStretchesOnly) {
  const auto bpe = parse(bpe_json({}, "qwen2"));
  const auto composed = [&](std::string_view text) { return bpe->decode(ids_of(*bpe, text)); };
  EXPECT_EQ(composed("cafe\xcc\x81 \xff e\xcc\x81"), "caf\xc3\xa9 \xff \xc3\xa9");
  EXPECT_EQ(composed("e\xff\xcc\x81"), "e\xff\xcc\x81");  // not over bad bytes
  EXPECT_EQ(composed("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8"), "\xea\xb0\x81");  // Hangul
  EXPECT_EQ(composed("=\xcc\xb8"), "\xe2\x89\xa0");
  EXPECT_EQ(composed("\xe2\x84\xab"), "\xc3\x85");
}

json with_added(json root) {
  root["added_tokens"] = {added("<|e|>", 300),
                          added("<tool>", 301, false),
                          added("<|e|>x", 302, false),
                          added("[L]", 303),
                          added("[R]", 304),
                          added("word", 305),
                          added("caf\xc3\xa9", 306, false)};
  root["added_tokens"][3]["lstrip"] = true;
  root["added_tokens"][4]["rstrip"] = true;
  root["added_tokens"][5]["single_word"] = true;
  return root;
}

TEST(BpeTokenizer, AddedTokensAreFoundInTheText) {
  json root = with_added(bpe_json({}));
  root["added_tokens"][2]["normalized"] = false;
  const auto bpe = parse(root);
  EXPECT_EQ(bpe->vocab_size(), 307);
  EXPECT_EQ(ids_of(*bpe, "a<|e|><tool>"), (Ids{'a', 300, 301}));
  EXPECT_EQ(ids_of(*bpe, "<|e|>xy"), (Ids{302, 'y'}));  // the longest
  EXPECT_EQ(ids_of(*bpe, "<|e|"), (Ids{'<', '|', 'e', '|'}));
  EXPECT_EQ(ids_of(*bpe, "a \n[L] b"), (Ids{'a', 303, ' ', 'b'}));
  EXPECT_EQ(ids_of(*bpe, "a [R] \tb"), (Ids{'a', ' ', 304, 'b'}));
  EXPECT_EQ(ids_of(*bpe, "word swordfish"),
            (Ids{305, ' ', 's', 'w', 'o', 'r', 'd', 'f', 'i', 's', 'h'}));
  EXPECT_EQ(bpe->decode({300, 306, 299, 'a'}),
            "<|e|>caf\xc3\xa9\xef\xbf\xbd"
            "a");
  using Kind = TokenTable::Kind;
  EXPECT_EQ(bpe->table().entries[300].kind, Kind::kSpecial);
  EXPECT_EQ(bpe->table().entries[301].kind, Kind::kAdded);
  EXPECT_EQ(bpe->table().entries[299].kind, Kind::kUnused);
  EXPECT_EQ(bpe->table().entries['a'].kind, Kind::kNormal);
}

TEST(BpeTokenizer, NormalizedTokensAreFoundInNormalizedText) {
  const auto bpe = parse(with_added(bpe_json({}, "qwen2")));
  EXPECT_EQ(ids_of(*bpe, "cafe\xcc\x81"), Ids{306});
  EXPECT_EQ(ids_of(*parse(with_added(bpe_json({}))), "cafe\xcc\x81").size(), 6U);
}

TEST(BpeTokenizer, TextMayBeCutWhereSafeCutSays) {
  for (const std::string& name : pre_tokenizer_names()) {
    if (pre_tokenizer_boundary(name).empty()) continue;
    for (const bool tokens : {false, true}) {
      const json root = bpe_json({"t h", "th e", "\xc4\xa0 the", "1 2", "e n", ". ."}, name);
      const auto bpe = parse(tokens ? with_added(root) : root);
      int cuts = 0;
      for (std::uint64_t round = 0; round < 1500; ++round) {
        const std::string text = odd_text(round, 25);
        // The cut must be right whatever follows; the text itself goes on after `seen`.
        const std::size_t seen = philox(round, 99)[0] % (text.size() + 1);
        const std::size_t cut = bpe->safe_cut(std::string_view(text).substr(0, seen));
        if (cut == 0) continue;
        ++cuts;
        ASSERT_LE(cut, seen);
        Ids both = ids_of(*bpe, std::string_view(text).substr(0, cut));
        bpe->encode(std::string_view(text).substr(cut), both);
        ASSERT_EQ(both, ids_of(*bpe, text)) << name << " " << round << " cut " << cut;
      }
      EXPECT_GT(cuts, 500) << name;
    }
  }
}

TEST(BpeTokenizer, CutsAreNearTheEndOfOrdinaryText) {
  for (const std::string& name : pre_tokenizer_names()) {
    if (pre_tokenizer_boundary(name).empty()) continue;
    const auto bpe = parse(with_added(bpe_json({}, name)));
    std::string text;
    while (text.size() < 5000) text += "Ordinary text, of words and 42 numbers.\n";
    EXPECT_GT(bpe->safe_cut(text), text.size() - 20) << name;
    EXPECT_EQ(bpe->safe_cut("unbroken"), 0U);
    EXPECT_EQ(bpe->safe_cut(""), 0U);
  }
  json root = bpe_json({});
  root["pre_tokenizer"] = json::parse(
      R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"a b"},
          "behavior":"Isolated"},{"type":"ByteLevel","use_regex":false}]})");
  EXPECT_EQ(parse(root)->safe_cut("one two three"), 0U);  // nothing is known of this pattern
}

TEST(BpeTokenizer, ThreadsMayEncodeAtOnce) {
  const auto bpe = parse(bpe_json({"t h", "th e"}));
  std::string text;
  for (std::uint64_t i = 0; i < 50; ++i) text += odd_text(i, 30);
  const Ids expected = ids_of(*bpe, text);
  std::vector<Ids> results(8);
  std::vector<std::thread> threads;
  for (Ids& ids : results) threads.emplace_back([&] { bpe->encode(text, ids); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : results) EXPECT_EQ(ids, expected);
}

}  // namespace
}  // namespace lockstep
