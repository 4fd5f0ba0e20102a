// Files of a tokenizer: what is read from them, what is refused, and that they are written again.
#include "bpe_fixture.h"

namespace lockstep {
namespace {

using test::added;
using test::bpe_json;
using test::expect_error;
using test::ids_of;
using test::json;
using test::parse;
using test::read_file;
using test::TempDir;
using test::write_file;

void expect_bad(const json& root, const std::vector<std::string>& parts,
                const std::string& config = "") {
  std::vector<std::string> all = {"tokenizer"};
  all.insert(all.end(), parts.begin(), parts.end());
  expect_error(ExitCode::kData, all, [&] { parse(root, config); });
}

json changed(const std::string& pointer, const json& value) {
  json root = bpe_json({"t h"});
  root[json::json_pointer(pointer)] = value;
  return root;
}

TEST(BpeFile, PartsThatAreNotSupportedAreNamed) {
  expect_bad(changed("/model/type", "Unigram"), {"model type 'Unigram'", "BPE"});
  expect_bad(changed("/model", 3), {"'model' is missing"});
  expect_bad(changed("/model/byte_fallback", true), {"byte_fallback"});
  expect_bad(changed("/model/dropout", 0.1), {"dropout"});
  expect_bad(changed("/model/continuing_subword_prefix", "##"), {"continuing_subword_prefix"});
  expect_bad(changed("/model/end_of_word_suffix", "</w>"), {"end_of_word_suffix"});
  expect_bad(changed("/normalizer", {{"type", "NFKC"}}), {"normalizer type 'NFKC'", "NFC"});
  expect_bad(changed("/decoder", {{"type", "WordPiece"}}), {"decoder type 'WordPiece'"});
  expect_bad(changed("/pre_tokenizer", nullptr), {"pre_tokenizer is missing"});
  expect_bad(changed("/pre_tokenizer", {{"type", "Metaspace"}}),
             {"tokenizer.json: pre_tokenizer type 'Metaspace' is not supported;"});
  EXPECT_EQ(parse(changed("/model/end_of_word_suffix", ""))->vocab_size(), 257);
  EXPECT_EQ(parse(changed("/normalizer", {{"type", "Sequence"}, {"normalizers", json::array()}}))
                ->vocab_size(),
            257);
}

TEST(BpeFile, DamagedFilesAreNamed) {
  expect_bad(changed("/model/vocab", json::array()), {"model.vocab"});
  expect_bad(changed("/model/vocab/th", 3), {"id 3 belongs to two tokens"});
  expect_bad(changed("/model/vocab/th", -1), {"id of token 'th'"});
  expect_bad(changed("/model/vocab/th", 1 << 24), {"id of token 'th'"});
  expect_bad(changed("/model/vocab/th", 256.5), {"id of token 'th'"});
  expect_bad(changed("/model/vocab/th", "256"), {"id of token 'th'"});
  expect_bad(changed("/model/vocab/th", (1 << 24) - 1), {"no tokenizer leaves such gaps"});
  expect_bad(changed("/model/merges", "t h"), {"model.merges is no list"});
  expect_bad(changed("/model/merges/0", "t"), {"entry 0 of model.merges"});
  expect_bad(changed("/model/merges/0", "t h e"), {"entry 0 of model.merges"});
  expect_bad(changed("/model/merges/0", "t e"), {"merge 0 ('t e')", "'te'"});
  expect_bad(changed("/added_tokens", 1), {"added_tokens is no list"});
  expect_bad(changed("/added_tokens/0", "x"), {"no object"});
  expect_bad(changed("/added_tokens/0", {{"content", "x\ny"}}), {"has no id"});
  expect_bad(changed("/added_tokens/0", {{"id", 400}}), {"'content'"});
  expect_bad(changed("/added_tokens/0", added("th", 400)), {"another in model.vocab"});
  expect_bad(changed("/added_tokens/0", added("<x>", 5)), {"id 5 belongs to two tokens"});
  expect_bad(changed("/model/vocab", {{"ab", 0}}), {"no token for any byte"});
  expect_error(ExitCode::kData, {"F: no JSON object"}, [] { parse_tokenizer("[1", "", "F"); });
  expect_error(ExitCode::kData, {"F: JSON nested deeper"},
               [] { parse_tokenizer(std::string(1 << 20, '['), "", "F"); });
}

// Whatever a byte is changed to: an error of ours, or a tokenizer that works.
TEST(BpeFile, RandomDamageNeverCrashes) {
  json root = bpe_json({"t h", "th e"}, "llama3");
  root["added_tokens"] = {added("<|e|>", 258), added("<tool>", 259, false)};
  const std::string whole = root.dump();
  int refused = 0;
  for (std::uint64_t round = 0; round < 400; ++round) {
    std::string text = whole;
    for (std::uint64_t i = 0; i < 1 + round % 4; ++i) {
      const auto draw = philox(round, i);
      const std::size_t at = draw[0] % text.size();
      const std::string_view odd = "\"{}[]:,0-9e\\ntx\xff";
      if (round % 3 == 0) {
        text.erase(at, 1 + draw[1] % 20);
      } else {
        text[at] = odd[draw[1] % odd.size()];
      }
    }
    try {
      const auto bpe = parse_tokenizer(text, "", "F");
      EXPECT_FALSE(ids_of(*bpe, "the <|e|> text").empty());
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::kData);
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      ++refused;
    }
  }
  EXPECT_GT(refused, 200);
}

TEST(BpeFile, DirectoriesOpenAndAreSavedUnchanged) {
  const TempDir dir;
  json root = bpe_json({"t h"});
  root["added_tokens"] = {added("<s>", 257), added("</s>", 258)};
  const std::string text = root.dump(3);
  const std::string config = "{ \"eos_token\": \"<s>\",  \"odd\": [1] }";
  write_file(dir / "model/tokenizer.json", text);
  write_file(dir / "model/tokenizer_config.json", config);
  std::filesystem::create_directories(dir / "corpus/tokenizer");
  for (const char* spec : {"model", "model/tokenizer.json"}) {
    const auto bpe = open_tokenizer(dir / spec);
    EXPECT_EQ(bpe->end_of_text(), 257);
    bpe->save(dir / "corpus/tokenizer");
    EXPECT_EQ(read_file(dir / "corpus/tokenizer/tokenizer.json"), text);
    EXPECT_EQ(read_file(dir / "corpus/tokenizer/tokenizer_config.json"), config);
    EXPECT_EQ(json::parse(read_file(dir / "corpus/tokenizer/special_tokens_map.json")),
              (json{{"eos_token", "<s>"}}));
    EXPECT_EQ(open_tokenizer(dir / "corpus")->end_of_text(), 257);
  }
  // Another end of text than the files' is remembered, and nothing else changes.
  open_tokenizer(dir / "model", "</s>")->save(dir / "corpus/tokenizer");
  EXPECT_EQ(open_tokenizer(dir / "corpus")->end_of_text(), 258);
  EXPECT_EQ(json::parse(read_file(dir / "corpus/tokenizer/tokenizer_config.json")),
            (json{{"eos_token", "</s>"}, {"odd", {1}}}));
  expect_error(ExitCode::kUsage, {"eos token '<x>' is no token"},
               [&] { open_tokenizer(dir / "model", "<x>"); });
}

TEST(BpeFile, TablesMakeTheSameTokenizer) {
  for (const std::string& name : pre_tokenizer_names()) {
    json root = bpe_json({"t h", "th e"}, name);
    root["added_tokens"] = {added("<s>", 258), added("<tool>", 259, false), added("</s>", 260)};
    root["added_tokens"][1]["normalized"] = false;
    const auto bpe =
        parse(root, R"({"eos_token": "</s>", "bos_token": "<s>", "add_bos_token": true})");
    const auto again = make_tokenizer(bpe->table(), "m.gguf");
    EXPECT_EQ(again->end_of_text(), 260);
    const TokenTable& table = again->table();
    EXPECT_EQ(table.pre_tokenizer, name);
    EXPECT_EQ(table.bos, 258);
    EXPECT_TRUE(table.add_bos);
    EXPECT_EQ(table.merges, bpe->table().merges);
    for (std::uint64_t round = 0; round < 50; ++round) {
      const std::string text = test::odd_text(round, 30) + "the<tool></s>";
      EXPECT_EQ(ids_of(*again, text), ids_of(*bpe, text));
    }
  }
  TokenTable table = parse(bpe_json({}))->table();
  const auto expect_table = [&](const std::vector<std::string>& parts) {
    expect_error(ExitCode::kData, parts, [&] { make_tokenizer(table, "m.gguf"); });
  };
  table.eos = 256;
  expect_table({"m.gguf: id 256 of a special token"});
  table.eos = -1;
  table.entries[7].text = "\xff";
  expect_table({"m.gguf", "not UTF-8"});
  table.pre_tokenizer = "";
  expect_table({"m.gguf: pre-tokenizer '' is not supported; known: gpt2"});
}

}  // namespace
}  // namespace lockstep
