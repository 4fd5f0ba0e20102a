// What tokenizer_config.json and the post-processor say of special tokens.
#include "bpe_fixture.h"

namespace lockstep {
namespace {

using test::added;
using test::bpe_json;
using test::expect_error;
using test::ids_of;
using test::json;
using test::parse;

void expect_bad(const json& root, const std::vector<std::string>& parts,
                const std::string& config) {
  expect_error(ExitCode::kData, parts, [&] { parse(root, config); });
}

TEST(TokenizerConfig, ConfigGivesSpecialTokens) {
  json root = bpe_json({});
  root["added_tokens"] = {added("<s>", 256), added("</s>", 257)};
  const auto eos = [&](const char* config) { return parse(root, config)->end_of_text(); };
  EXPECT_EQ(eos(""), -1);
  EXPECT_EQ(eos("{}"), -1);
  EXPECT_EQ(eos(R"({"eos_token": null})"), -1);
  EXPECT_EQ(eos(R"({"eos_token": "</s>"})"), 257);
  EXPECT_EQ(eos(R"({"eos_token": {"content": "</s>"}})"), 257);
  expect_bad(root, {"tokenizer_config.json: eos_token '<x>' is no token"},
             R"({"eos_token": "<x>"})");
  expect_bad(root, {"tokenizer_config.json: 'eos_token' is neither"}, R"({"eos_token": 3})");
  expect_bad(root, {"tokenizer_config.json: no JSON object"}, "[");
  expect_bad(root, {"tokenizer_config.json: 'add_bos_token'"}, R"({"add_bos_token": 3})");
  const auto table = [&](const char* config) { return parse(root, config)->table(); };
  EXPECT_FALSE(table(R"({"bos_token": "<s>"})").add_bos);
  EXPECT_EQ(table(R"({"bos_token": "<s>"})").bos, 256);
  EXPECT_TRUE(table(R"({"bos_token": "<s>", "add_bos_token": true})").add_bos);
  EXPECT_EQ(table(R"({"chat_template": "t"})").chat.standard, "t");
  const ChatTemplates chat = table(R"({"chat_template": [{"name": "default", "template": "u"},
                                       {"name": "rag", "template": "v"}, {"name": 3}, 4]})")
                                 .chat;
  EXPECT_EQ(chat.standard, "u");
  ASSERT_EQ(chat.named.size(), 1U);
  EXPECT_EQ(chat.named[0], (std::pair<std::string, std::string>{"rag", "v"}));
  root["post_processor"] = json::parse(
      R"({"type":"Sequence","processors":[{"type":"ByteLevel"},{"type":"TemplateProcessing",
          "single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A"}}]}]})");
  EXPECT_TRUE(table("").add_bos);
  EXPECT_EQ(table("").bos, 256);
  EXPECT_FALSE(table(R"({"add_bos_token": false})").add_bos);
}

TEST(TokenizerConfig, WhatStandsBeforeATextIsTold) {
  json root = bpe_json({});
  root["added_tokens"] = {added("<s>", 256), added("<m>", 257)};
  using Ids = std::vector<std::int32_t>;
  const auto prefix = [&](const char* config) { return parse(root, config)->prefix_tokens(); };
  EXPECT_EQ(prefix(R"({"bos_token": "<s>"})"), Ids{});
  EXPECT_EQ(prefix(R"({"bos_token": "<s>", "add_bos_token": true})"), Ids{256});
  root["post_processor"] = json::parse(
      R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
          {"SpecialToken": {"id": "<m>", "type_id": 0}}, {"Sequence": {"id": "A"}},
          {"SpecialToken": {"id": "<s>", "type_id": 0}}]})");
  EXPECT_EQ(prefix(""), (Ids{256, 257}));
  EXPECT_EQ(prefix(R"({"bos_token": "<s>", "add_bos_token": false})"), Ids{257});
  EXPECT_EQ(ids_of(*parse(root), "a"), Ids{'a'});  // encode() adds none of them
  TokenTable table = parse(root)->table();
  table.add_bos = true;
  EXPECT_EQ(make_tokenizer(table, "m.gguf")->prefix_tokens(), Ids{256});
}

}  // namespace
}  // namespace lockstep
