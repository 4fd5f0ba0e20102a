// Flat layout, joined groups, work items and the draw of initial weights.
#include "nn/parameters.h"

#include "ops/gemm.h"
#include "support/support.h"

#include <cmath>

namespace lockstep {
namespace {

Parameter matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
  Parameter parameter;
  parameter.name = name;
  parameter.shape = {rows, cols};
  parameter.decay = true;
  parameter.init = Init::kNormal;
  parameter.init_std = 0.5f;
  return parameter;
}

TEST(Parameters, JoinedParametersFormOneMatrix) {
  test::Machine machine = test::open_cpu();
  Arena arena(*machine.device);
  ParameterSet set;
  const std::size_t q = set.add(matrix("q", 3, 8));
  Parameter behind = matrix("k", 2, 8);
  behind.joined = true;
  set.add(behind);
  set.add(matrix("other", 5, 4));
  set.allocate(arena, DType::kF32, /*training=*/true);
  const Tensor both = set.group_weight(q, 2).data;
  EXPECT_EQ(both.shape, (Shape{5, 8}));
  EXPECT_EQ(set.weight(1).data.data, both.row_range(3, 2).data);
  EXPECT_EQ(set[2].offset % 64, 0);
  EXPECT_THROW(set.group_weight(1, 2), CheckError);
  EXPECT_EQ(set.logical_count(), 3 * 8 + 2 * 8 + 5 * 4);
}

TEST(Parameters, WorkItemsCoverEveryElementOnceAndLeavePaddingOut) {
  ParameterSet set;
  Parameter padded = matrix("padded", 1000, 1100);
  padded.pad_rows = true;  // to 1024
  set.add(padded);
  Parameter bias;
  bias.name = "bias";
  bias.shape = {7};
  set.add(bias);
  const ParameterSet::Work work = set.work();
  std::vector<int> seen(static_cast<std::size_t>(set.flat_count()), 0);
  std::int32_t segment = 0;
  for (const WorkItem& item : work.items) {
    EXPECT_GE(item.segment, segment);
    segment = item.segment;
    EXPECT_LE(item.count, kWorkItemElements);
    const std::size_t p = work.segment_parameter[static_cast<std::size_t>(item.segment)];
    EXPECT_EQ(item.decay, set[p].decay ? 1 : 0);
    for (std::int64_t i = item.begin; i < item.begin + item.count; ++i) {
      ++seen[static_cast<std::size_t>(i)];
    }
  }
  for (const Parameter& parameter : set.all()) {
    for (std::int64_t i = parameter.offset; i < parameter.end(); ++i) {
      const bool logical = i < parameter.offset + parameter.count();
      ASSERT_EQ(seen[static_cast<std::size_t>(i)], logical ? 1 : 0) << parameter.name << " " << i;
    }
  }
  // 1,100,000 elements reach into a second chunk of 1 Mi; the bias lies in that chunk too.
  EXPECT_EQ(work.segment_parameter, (std::vector<std::size_t>{0, 0, 1}));
  EXPECT_EQ(set.work_item_count(), static_cast<std::int64_t>(work.items.size()));
  set.add(matrix("large", 3000, 1500));  // four chunks and parts of two
  EXPECT_EQ(set.work_item_count(), static_cast<std::int64_t>(set.work().items.size()));
}

TEST(Parameters, DrawDependsOnNameAndSeedOnly) {
  test::Machine machine = test::open_cpu();
  const auto masters = [&](int threads, std::uint64_t seed, bool extra) {
    Arena arena(*machine.device);
    ParameterSet set;
    if (extra) set.add(matrix("first", 4, 16));
    const std::size_t at = set.add(matrix("w", 300, 16));
    set.allocate(arena, DType::kBF16, /*training=*/true);
    set.initialize(seed, threads, *machine.stream);
    const auto* data = set.masters().as<float>() + set[at].offset;
    const auto* rounded = set.weight(at).data.as<bf16>();
    for (int i = 0; i < 300 * 16; ++i) EXPECT_EQ(rounded[i].bits, to_bf16(data[i]).bits);
    return std::vector<float>(data, data + 300 * 16);
  };
  const std::vector<float> one = masters(1, 7, false);
  EXPECT_EQ(one, masters(3, 7, true));
  EXPECT_NE(one, masters(1, 8, false));
  double sum = 0.0, squares = 0.0;
  for (const float x : one) {
    sum += x;
    squares += static_cast<double>(x) * x;
  }
  const double n = static_cast<double>(one.size());
  // Mean within 5 standard errors of 0; variance 0.25 within 5 of its own: sqrt(2 / n) * 0.25.
  EXPECT_LT(std::abs(sum / n), 5.0 * 0.5 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 0.25, 5.0 * 0.25 * std::sqrt(2.0 / n));
}

// Pieces of whole rows, at most 8 MiB each, in order; every element lands where it belongs.
void expect_loaded(DType compute, bool training) {
  test::Machine machine = test::open_cpu();
  Arena arena(*machine.device);
  ParameterSet set;
  Parameter padded = matrix("padded", 3, 5);
  padded.pad_rows = true;  // to 128
  set.add(padded);
  set.add(matrix("large", 5000, 1000));  // 20 MB: three pieces
  set.allocate(arena, compute, training);
  std::vector<std::int64_t> begins;
  const auto value = [](const std::string& name, std::int64_t index) {
    return static_cast<float>((index * 7 + static_cast<std::int64_t>(name.size())) % 251) + 0.3f;
  };
  set.load(
      [&](const std::string& name, std::int64_t row, std::span<float> out) {
        const std::int64_t cols = name == "padded" ? 5 : 1000;
        EXPECT_EQ(static_cast<std::int64_t>(out.size()) % cols, 0);
        EXPECT_LE(out.size_bytes(), std::size_t{8} << 20);
        if (name == "large") begins.push_back(row);
        for (std::size_t i = 0; i < out.size(); ++i) {
          out[i] = value(name, row * cols + static_cast<std::int64_t>(i));
        }
      },
      *machine.stream);
  EXPECT_EQ(begins, (std::vector<std::int64_t>{0, 2097, 4194}));
  int wrong = 0;
  for (std::size_t p = 0; p < 2; ++p) {
    const Parameter& parameter = set[p];
    for (std::int64_t i = 0; i < parameter.padded_count(); ++i) {
      const float wanted = i < parameter.count() ? value(parameter.name, i) : 0.0f;
      const auto at = static_cast<std::size_t>(parameter.offset + i);
      if (set.masters()) wrong += set.masters().as<float>()[at] != wanted;
      if (compute == DType::kBF16) {
        wrong += set.weights().as<bf16>()[at].bits != to_bf16(wanted).bits;
      } else {
        wrong += set.weights().as<float>()[at] != wanted;
      }
    }
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(static_cast<bool>(set.masters()), training || compute == DType::kF32);
}

TEST(Parameters, LoadsFromElsewhereInPieces) {
  expect_loaded(DType::kF32, /*training=*/true);
  expect_loaded(DType::kBF16, /*training=*/true);
  expect_loaded(DType::kF32, /*training=*/false);
  expect_loaded(DType::kBF16, /*training=*/false);
}

// Every weight in a format of its own: what is read back is what the format keeps of it, joined
// ones stay one matrix, and no kernel takes what it does not know.
TEST(Parameters, WeightsHaveFormatsOfTheirOwn) {
  test::Machine machine = test::open_cpu();
  Arena arena(*machine.device);
  ParameterSet set;
  Parameter table = matrix("table", 3, 64);
  table.pad_rows = true;
  table.kind = ParameterKind::kTable;
  Parameter q = matrix("q", 4, 64), k = matrix("k", 2, 64);
  q.kind = k.kind = ParameterKind::kLinear;
  k.joined = true;
  set.add(table);
  set.add(q);
  set.add(k);
  set.add({.name = "norm", .shape = {5}});
  set.allocate(arena, DType::kBF16, /*training=*/false, [](const Parameter& parameter) {
    return parameter.kind == ParameterKind::kTable ? WeightFormat::kQ8_0 : WeightFormat::kInt8Rows;
  });
  EXPECT_FALSE(set.masters());
  set.load(
      [](const std::string& name, std::int64_t row, std::span<float> out) {
        for (std::size_t i = 0; i < out.size(); ++i) {
          const auto at = static_cast<std::size_t>(row) * 64 + i;
          out[i] = static_cast<float>((at * 7 + name.size()) % 33) / 32.0f - 0.5f;
        }
      },
      *machine.stream);
  EXPECT_EQ(set.weight(0).format, WeightFormat::kQ8_0);
  EXPECT_EQ(set.weight(0).rows(), 128);
  EXPECT_EQ(set.weight(0).cols(), 64);
  EXPECT_EQ(set.weight(3).format, WeightFormat::kBF16);
  const Weight both = set.group_weight(1, 2);
  EXPECT_EQ(both.rows(), 6);
  EXPECT_EQ(both.row_range(4, 2).data.data, set.weight(2).data.data);
  EXPECT_EQ(both.row_range(4, 2).scales.data, set.weight(2).scales.data);
  std::vector<float> rows(2 * 64);
  for (std::size_t p = 0; p < 3; ++p) {
    set.read_rows(p, 0, rows, *machine.stream);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const float wanted = static_cast<float>((i * 7 + set[p].name.size()) % 33) / 32.0f - 0.5f;
      EXPECT_NEAR(rows[i], wanted, 0.5f / 127.0f) << set[p].name << " " << i;
    }
  }
  const Tensor x = arena.allocate("x", {2, 64}, DType::kF32, MemoryGroup::kActivations);
  const Tensor y = arena.allocate("y", {2, 6}, DType::kF32, MemoryGroup::kActivations);
  EXPECT_THROW(ops::gemm({.out = y, .a = x, .b = both, .transpose_b = true}, *machine.stream),
               CheckError);
}

}  // namespace
}  // namespace lockstep
