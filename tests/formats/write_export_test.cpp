// An export from request to final names: what is refused before any work, and what stands where.
#include "formats/write_export.h"

#include "app/support.h"
#include "formats/export_verify.h"
#include "formats/foreign_model.h"
#include "formats/memory_source.h"
#include "io/fixture.h"

namespace lockstep {
namespace {

using test::catch_error;
using testing::ScratchDirectory;

std::string resolved(const std::string& format, const std::string& scheme,
                     const std::string& pre = "") {
  ExportRequest request{.out = "x//", .format = format, .scheme = scheme, .tokenizer_pre = pre};
  const test::Caught caught = catch_error([&] { resolve_export(request); });
  if (caught.message.empty()) {
    EXPECT_EQ(request.out, "x");
  } else {
    EXPECT_EQ(caught.code, ExitCode::kUsage);
  }
  return caught.message.empty() ? request.scheme : caught.message.substr(0, 24);
}

TEST(WriteExport, SchemesBelongToFormats) {
  EXPECT_EQ(resolved("gguf", "int8"), "q8_0");
  EXPECT_EQ(resolved("safetensors", "int8"), "w8a16");
  EXPECT_EQ(resolved("safetensors", "w8a8"), "w8a8");
  EXPECT_EQ(resolved("safetensors", "q8_0"), "--quantize q8_0: is a ty");
  EXPECT_EQ(resolved("gguf", "w8a16"), "--quantize w8a16: is a s");
  EXPECT_EQ(resolved("safetensors", "none", "gpt-2"), "--tokenizer-pre: names l");
}

// Both formats, published, verified, and opened again.
TEST(WriteExport, PublishesFilesAndReport) {
  const ScratchDirectory scratch;
  ModelConfig config;
  config.architecture = "llama";
  config.layers = 1;
  config.heads = 2;
  config.hidden = 16;
  config.ffn = 24;
  config.vocab = 300;
  config.seq_len = 12;
  resolve(config, 0);
  test::MemorySource weights = test::foreign_source(config, Naming::kHuggingFace);
  const auto tokenizer = open_tokenizer("byte");
  for (const char* format : {"safetensors", "gguf"}) {
    ExportRequest request{.out = scratch / format, .format = format, .dtype = "fp32"};
    resolve_export(request);
    check_export(request, config, /*overwrite=*/false);
    ExportStaging staging(request.out);
    ExportReport report;
    const ExportModel model{.config = config, .weights = &weights, .tokenizer = tokenizer.get()};
    write_export(staging.path("model"), model, request, report, {});
    EXPECT_FALSE(std::filesystem::exists(request.out));
    publish_export(staging, "model", request, report);
    EXPECT_EQ(export_report_path(request.out), request.report_path());
    verify_export(request.out, /*checksums=*/true);
    const ForeignModel back =
        request.gguf() ? open_gguf(request.out) : open_hugging_face(request.out);
    EXPECT_EQ(test::first_difference(*back.weights, config), "") << format;
    EXPECT_EQ(report.parameters, parameter_count(config));
    const test::Caught taken = catch_error([&] { check_export(request, config, false); });
    EXPECT_EQ(taken.code, ExitCode::kUsage) << taken.message;
  }
}

}  // namespace
}  // namespace lockstep
