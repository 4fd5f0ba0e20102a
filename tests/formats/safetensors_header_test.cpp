// Nothing that a safetensors header claims is believed before it is checked.
#include "formats/safetensors_header.h"

#include "formats/safetensors_sample.h"

namespace lockstep {
namespace {

using testing::expect_data_error;
using testing::file_text;
using testing::ScratchDirectory;
using testing::spill;

class BadHeader : public ::testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(BadHeader, IsRefusedByName) {
  const ScratchDirectory scratch;
  spill(scratch / "model.safetensors", file_text(GetParam().first, 8));
  expect_data_error([&] { SafetensorsReader reader(scratch.path()); }, GetParam().second);
}

std::string one(const std::string& fields) { return "{\"w\":{" + fields + "}}"; }

INSTANTIATE_TEST_SUITE_P(
    Safetensors, BadHeader,
    ::testing::Values(
        std::pair(std::string(" {}"), std::string("does not begin with '{'")),
        std::pair(std::string("{\"w\":"), std::string("is not JSON")),
        std::pair(std::string("{\"w\":3}"), std::string("'w' lacks dtype, shape")),
        std::pair(one(R"("dtype":"F31","shape":[2],"data_offsets":[0,8])"),
                  std::string("dtype that is not known")),
        std::pair(one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"),
                  std::string("shape that is no list of sizes")),
        std::pair(one(R"("dtype":"F32","shape":[1,1,1,1,2],"data_offsets":[0,8])"),
                  std::string("more than four dimensions")),
        std::pair(one(R"("dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8])"),
                  std::string("is larger than the file")),
        std::pair(one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"),
                  std::string("contradict its shape")),
        std::pair(one(R"("dtype":"F32","shape":[4],"data_offsets":[0,16])"),
                  std::string("beyond the end")),
        std::pair(one(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"),
                  std::string("begins at 4, where 0 is due")),
        std::pair(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])"),
                  std::string("4 bytes that belong to no tensor")),
        std::pair(one(R"("dtype":"F32","shape":[1],"data_offsets":[-4,0])"),
                  std::string("offsets that are no offsets"))));

TEST(Safetensors, LengthsBeyondTheFileAreRefused) {
  const ScratchDirectory scratch;
  spill(scratch / "short", "abc");
  expect_data_error([&] { SafetensorsReader reader(scratch / "short"); }, "has 3 bytes");
  for (const std::uint64_t length : {std::uint64_t{9}, ~std::uint64_t{0}, std::uint64_t{1} << 40}) {
    std::string text(16, '{');
    std::memcpy(text.data(), &length, sizeof length);
    spill(scratch / "long", text);
    expect_data_error([&] { SafetensorsReader reader(scratch / "long"); }, "announces a header of");
  }
}

}  // namespace
}  // namespace lockstep
