// generation_config.json: ids from two files, other keys untouched, and what is refused.
#include "formats/generation_config.h"

#include "app/support.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lockstep {
namespace {

using Ids = std::vector<std::int32_t>;
using nlohmann::json;

GenerationConfig parse(const std::string& text, std::int32_t bos = -1, const Ids& eos = {}) {
  return parse_generation_config(text, "dir/generation_config.json", /*vocab=*/100, bos, eos);
}

TEST(GenerationConfig, KeepsEveryKeyAndGoesBeforeConfigJson) {
  const GenerationConfig config = parse(
      R"({"temperature": 0.6, "eos_token_id": [7, 9, 7], "pad_token_id": 3, "x": {"y": [1]}})", 1,
      {5});
  EXPECT_EQ(config.bos, 1);
  EXPECT_EQ(config.eos, (Ids{7, 9}));
  const json text = json::parse(config.text);
  EXPECT_EQ(text["temperature"], 0.6);
  EXPECT_EQ(text["pad_token_id"], 3);
  EXPECT_EQ(text["x"]["y"][0], 1);
  EXPECT_EQ(text["eos_token_id"], json::array({7, 9}));
  EXPECT_EQ(text["bos_token_id"], 1);
  const GenerationConfig again = parse(config.text);
  EXPECT_EQ(again.text, config.text);
  EXPECT_EQ(again.eos, config.eos);
}

TEST(GenerationConfig, SaysNothingWhereNothingIsSaid) {
  EXPECT_EQ(parse("").text, "");
  EXPECT_EQ(parse("{}").text, "");
  EXPECT_EQ(json::parse(parse("", 4, {5}).text), (json{{"bos_token_id", 4}, {"eos_token_id", 5}}));
  // Ids that no token has, as defaults of another model leave them.
  const GenerationConfig foreign = parse(R"({"eos_token_id": [50256, 8], "bos_token_id": 50256})");
  EXPECT_EQ(foreign.eos, (Ids{8}));
  EXPECT_EQ(foreign.bos, -1);
  EXPECT_TRUE(json::parse(foreign.text)["bos_token_id"].is_null());
}

TEST(GenerationConfig, OneMoreEndAndTheTokenizersOwn) {
  const GenerationConfig config = parse(R"({"eos_token_id": [7], "top_k": 4})");
  EXPECT_EQ(with_end_token(config, 7).eos, (Ids{7}));
  EXPECT_EQ(with_end_token(config, -1).eos, (Ids{7}));
  const GenerationConfig more = with_end_token(config, 9);
  EXPECT_EQ(more.eos, (Ids{7, 9}));
  EXPECT_EQ(json::parse(more.text), (json{{"eos_token_id", {7, 9}}, {"top_k", 4}}));
  TokenTable table;
  table.bos = 2;
  table.eos = 3;
  EXPECT_EQ(completed(config, table).eos, (Ids{7}));
  EXPECT_EQ(completed(config, table).bos, 2);
  EXPECT_EQ(json::parse(completed({}, table).text),
            (json{{"bos_token_id", 2}, {"eos_token_id", 3}}));
  EXPECT_EQ(completed({}, TokenTable{}).text, "");
}

TEST(GenerationConfig, RefusesWhatIsNoIdByItsKey) {
  for (const char* text : {"[]", "{", "3"}) {
    const test::Caught caught = test::catch_error([&] { parse(text); });
    EXPECT_EQ(caught.code, ExitCode::kData);
    EXPECT_EQ(caught.message.rfind("dir/generation_config.json: not a JSON object", 0), 0u);
  }
  for (const char* value : {"\"x\"", "[[1]]", "1.5", "18446744073709551615", "-2", "{}"}) {
    const test::Caught caught =
        test::catch_error([&] { parse(std::string(R"({"eos_token_id": )") + value + "}"); });
    EXPECT_NE(caught.message.find("key 'eos_token_id' = "), std::string::npos)
        << value << ": " << caught.message;
  }
}

}  // namespace
}  // namespace lockstep
