// export.json: what stands in it with and without a judgement.
#include "formats/export_report.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>

namespace lockstep {
namespace {

using nlohmann::json;

TEST(ExportReport, HoldsBothJudgements) {
  ExportReport report;
  report.format = "safetensors";
  report.scheme = "w8a16";
  report.dtype = "bf16";
  report.source = "runs/tiny step 5";
  report.state_digest = "ab";
  report.parameters = 7;
  report.files = {{"a", 3, "00"}, {"b", 4, "11"}};
  report.versions = {{"lockstep", "1"}};
  json text = json::parse(export_report_text(report));
  EXPECT_EQ(text["bytes"], 7);
  EXPECT_EQ(text["files"][1]["sha256"], "11");
  EXPECT_EQ(text["versions"]["lockstep"], "1");
  for (const char* key : {"loss", "perplexity", "accuracy", "tokens"}) {
    EXPECT_TRUE(text.contains(key) && text[key].is_null()) << key;
  }
  EXPECT_NE(text["evaluation"].get<std::string>().find("skipped"), std::string::npos);
  report.before = Evaluation{.loss = 2.0, .accuracy = 0.5, .tokens = 10};
  report.after = Evaluation{.loss = 2.01, .accuracy = 0.4, .tokens = 10};
  report.data = {"data"};
  text = json::parse(export_report_text(report));
  EXPECT_EQ(text["loss"]["before"], 2.0);
  EXPECT_EQ(text["loss"]["after"], 2.01);
  EXPECT_NEAR(text["loss"]["change_percent"].get<double>(), 0.5, 1e-9);
  EXPECT_NEAR(text["perplexity"]["change_percent"].get<double>(), 100.0 * std::expm1(0.01), 1e-9);
  EXPECT_EQ(text["tokens"], 10);
  EXPECT_EQ(export_report_text(report), export_report_text(report));
}

}  // namespace
}  // namespace lockstep
