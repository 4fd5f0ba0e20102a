// Writes a model's logits, so that tests can compare them with other programs': MODEL as every
// command takes it, one sequence of token ids (int32) in, one row of fp32 logits per token out.
#include "app/model_source.h"
#include "comm/communicator.h"
#include "kernels/backend.h"
#include "nn/load_weights.h"

#include <fmt/core.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>

namespace lockstep {
namespace {

std::vector<std::int32_t> read_tokens(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  std::vector<std::int32_t> tokens(bytes.size() / sizeof(std::int32_t));
  std::memcpy(tokens.data(), bytes.data(), tokens.size() * sizeof(std::int32_t));
  return tokens;
}

// Computes in fp32, whatever the weights are stored in: stored values are the only rounding.
void probe(const char* model_path, const char* tokens_path, const char* out_path) {
  const auto world = make_self_world();
  Log log(/*rank=*/0);
  ModelSource source = open_model_source(model_path, /*what=*/"", *world, log);
  std::vector<std::int32_t> tokens = read_tokens(tokens_path);
  const auto device = kCpuBackend.open(/*ordinal=*/0, /*threads=*/1);
  Arena arena(*device);
  Stream stream(*device, "probe");
  ModelPlan plan;
  plan.mode = ModelPlan::Mode::kInference;
  plan.sequences = 1;
  plan.seq_len = plan.sequence_tokens = static_cast<std::int64_t>(tokens.size());
  const auto model =
      make_model(source.options.model, plan, arena, &device->kernels().scratch_bytes);
  load_weights(model->parameters(), *source.weights, model_path, stream);
  const auto count = static_cast<std::int64_t>(tokens.size());
  std::ofstream out(out_path, std::ios::binary);
  std::vector<float> row(static_cast<std::size_t>(source.options.model.vocab));
  for (std::int64_t position = 0; position < count; ++position) {
    const SequenceInput input{
        .tokens = std::span<const std::int32_t>(&tokens[static_cast<std::size_t>(position)], 1)};
    const Tensor logits = model->decode(std::span(&input, 1), stream);
    stream.copy(row.data(), logits.data, row.size() * sizeof(float));
    stream.synchronize();
    out.write(reinterpret_cast<const char*>(row.data()),
              static_cast<std::streamsize>(row.size() * sizeof(float)));
  }
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "usage: logits_probe MODEL TOKENS OUT\n");
    return 64;
  }
  try {
    lockstep::probe(argv[1], argv[2], argv[3]);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "logits_probe: {}\n", error.what());
    return 1;
  }
}
