// With a (N, K) what the output map reads, W its weight and R (N, C) what the dense residual stream
// has more than this one, the kept columns S and the dropped ones D: the change d of W's kept
// columns minimizes |a_S d - (R + a_D W_D)|^2 + lambda |d|^2, so (G_SS + lambda I) d = a_S^T R +
// G_SD W_D with G = a^T a. Where there is a bias, a column of ones is kept too.
#include "compress/block_pruner.h"

#include "compress/exact_sum.h"
#include "compress/least_squares.h"
#include "compress/unit_rank.h"
#include "core/rng.h"
#include "nn/linear.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace lockstep {
namespace {

constexpr double kDamping = 1e-3;  // of the mean diagonal

// A parameter's values, all rows.
std::vector<float> values_of(ParameterSet& parameters, std::size_t index, Stream& stream) {
  std::vector<float> values(static_cast<std::size_t>(parameters[index].count()));
  parameters.read_rows(index, 0, values, stream);
  return values;
}

std::vector<double> part(const std::vector<double>& all, std::size_t begin, std::size_t count) {
  const auto first = all.begin() + static_cast<std::ptrdiff_t>(begin);
  return {first, first + static_cast<std::ptrdiff_t>(count)};
}

// Adds the columns' squares and sums over all rows of `a`.
void add_columns(const std::vector<float>& a, std::span<double> squares, std::span<double> sums) {
  const std::size_t columns = squares.size();
  for (std::size_t row = 0; row < a.size(); row += columns) {
    for (std::size_t c = 0; c < columns; ++c) {
      const double value = a[row + c];
      squares[c] += value * value;
      sums[c] += value;
    }
  }
}

}  // namespace

BlockPruner::BlockPruner(Calibration& calibration, const PruneOptions& options,
                         std::int64_t columns, PrunedWeights& result, Arena& arena)
    : calibration_(calibration),
      options_(options),
      result_(result),
      parameters_(calibration.model().parameters()),
      stream_(calibration.stream()),
      hidden_(static_cast<std::size_t>(calibration.model().config().hidden)) {
  if (options.reconstruct != "lsq") return;
  const std::int64_t hidden = calibration.model().config().hidden;
  const auto room = [&](const char* name, std::int64_t count) {
    return arena.allocate(name, {count}, DType::kF32, MemoryGroup::kWorkspace);
  };
  gram_ = room("products of columns", columns * columns);
  cross_ = room("products with what is missing", hidden * columns);
  missing_ =
      room("what is missing", calibration.rows() * hidden).reshaped({calibration.rows(), hidden});
}

void BlockPruner::open(const UnitBlock& block) {
  out_name_ = parameters_[block.out].name;
  out_ = values_of(parameters_, block.out, stream_);
  columns_ = out_.size() / hidden_;
  bias_.clear();
  if (block.out_bias) bias_ = values_of(parameters_, *block.out_bias, stream_);
}

BlockPruner::Sums BlockPruner::measure(std::int64_t layer, const Residuals& in, Residuals& missing,
                                       const BlockEnd& end) {
  const std::size_t width = 2 * columns_ + hidden_ + 1;
  std::vector<double> mine(width * in.size(), 0.0);
  const auto of_chunk = [&](std::size_t chunk) {
    return std::span(mine).subspan(chunk * width, width);
  };
  std::vector<float> a;
  Residuals middle(in.size());
  const Residuals out = calibration_.run(layer, in,
                                         [&](std::size_t chunk, std::span<const Parameter> weights,
                                             const Tensor& x, const Tensor& residual) {
                                           if (weights[0].name == end.before)
                                             calibration_.fetch(residual, middle[chunk]);
                                           if (!reads_units(weights)) return;
                                           calibration_.fetch(x, a);
                                           add_columns(a, of_chunk(chunk).first(columns_),
                                                       of_chunk(chunk).subspan(columns_, columns_));
                                         });
  const Residuals& reached = end.before.empty() ? out : middle;
  for (std::size_t chunk = 0; chunk < reached.size(); ++chunk) {
    const std::span<double> sums = of_chunk(chunk).subspan(2 * columns_);
    for (std::size_t i = 0; i < reached[chunk].size(); ++i) {
      missing[chunk][i] -= reached[chunk][i];
      const double value = missing[chunk][i];
      sums[i % hidden_] += value;
      sums[hidden_] += value * value;
    }
  }
  const std::vector<double> all =
      ordered_sum(mine, calibration_.chunks(), width, calibration_.world());
  return {.squares = part(all, 0, columns_),
          .activations = part(all, columns_, columns_),
          .missing = part(all, 2 * columns_, hidden_),
          .missing_squares = all.back()};
}

void BlockPruner::choose(const UnitBlock& block, std::int64_t keep, const Sums& sums) {
  UnitView view{.units = static_cast<std::size_t>(block.units),
                .rows = {},
                .out = out_,
                .squares = sums.squares,
                .key = key_from(options_.seed, out_name_)};
  for (const std::size_t index : block.in) {
    view.rows.push_back(values_of(parameters_, index, stream_));
  }
  units_ = best_units(unit_scores(options_.rank, view), static_cast<std::size_t>(keep));
  kept_.clear();
  dropped_.clear();
  const std::size_t each = columns_ / view.units;
  for (std::size_t c = 0; c < columns_; ++c) {
    const bool stays = std::binary_search(units_.begin(), units_.end(), c / each);
    (stays ? kept_ : dropped_).push_back(c);
  }
}

// By Cauchy and Schwarz no element of a product exceeds the product of the norms.
BlockPruner::Products BlockPruner::products(std::int64_t layer, const Residuals& in,
                                            const Residuals& missing, const Sums& sums) {
  const double largest = *std::max_element(sums.squares.begin(), sums.squares.end());
  ExactSum gram(columns_ * columns_, largest);
  ExactSum cross(hidden_ * columns_, std::sqrt(largest * sums.missing_squares));
  const auto hidden = static_cast<std::int64_t>(hidden_);
  const auto columns = static_cast<std::int64_t>(columns_);
  const Tensor squares = gram_.elements(0, columns * columns).reshaped({columns, columns});
  const Tensor others = cross_.elements(0, hidden * columns).reshaped({hidden, columns});
  const Tensor scratch = calibration_.model().scratch();
  std::vector<float> host;
  const auto add_product = [&](ExactSum& sum, const Tensor& product, const Tensor& dy,
                               const Tensor& a) {
    stream_.zero(product.data, product.bytes());
    linear_backward_weight(product, {}, dy, a, scratch, stream_);
    calibration_.fetch(product, host);
    sum.add(host);
  };
  calibration_.run(
      layer, in,
      [&](std::size_t chunk, std::span<const Parameter> weights, const Tensor& a, const Tensor&) {
        if (!reads_units(weights)) return;
        stream_.copy(missing_.data, missing[chunk].data(), missing_.bytes());
        add_product(gram, squares, a, a);
        add_product(cross, others, missing_, a);
      });
  return {.gram = gram.total(calibration_.world()), .cross = cross.total(calibration_.world())};
}

// Rows of kept columns and, with a bias, the ones.
std::vector<double> BlockPruner::right_hand_sides(const Sums& sums,
                                                  const Products& products) const {
  const std::size_t kept = kept_.size();
  const std::size_t n = kept + (bias_.empty() ? 0 : 1);
  std::vector<double> sides(hidden_ * n);
  for (std::size_t o = 0; o < hidden_; ++o) {
    const float* weights = out_.data() + o * columns_;
    double* side = sides.data() + o * n;
    for (std::size_t i = 0; i < kept; ++i) {
      const double* row = products.gram.data() + kept_[i] * columns_;
      side[i] = products.cross[o * columns_ + kept_[i]];
      for (const std::size_t d : dropped_) side[i] += row[d] * weights[d];
    }
    if (n == kept) continue;
    side[kept] = sums.missing[o];
    for (const std::size_t d : dropped_) side[kept] += sums.activations[d] * weights[d];
  }
  return sides;
}

void BlockPruner::solve(const Sums& sums, const Products& products) {
  const std::size_t kept = kept_.size();
  const std::size_t n = kept + (bias_.empty() ? 0 : 1);
  std::vector<double> a(n * n);
  double trace = 0.0;
  for (std::size_t i = 0; i < kept; ++i) {
    const double* row = products.gram.data() + kept_[i] * columns_;
    for (std::size_t j = 0; j < kept; ++j) a[i * n + j] = row[kept_[j]];
    if (n > kept) a[i * n + kept] = a[kept * n + i] = sums.activations[kept_[i]];
    trace += row[kept_[i]];
  }
  if (n > kept) a[n * n - 1] = static_cast<double>(calibration_.tokens());
  std::vector<double> damping(n, 0.0);
  std::fill_n(damping.begin(), kept, kDamping * trace / static_cast<double>(kept));
  std::vector<double> change = right_hand_sides(sums, products);
  if (!solve_damped(a, damping, change)) {
    fail_together(ExitCode::kData,
                  "{}: no least-squares solution on the calibration data, where all that stays is "
                  "zero; give other data or --reconstruct none",
                  out_name_);
  }
  for (std::size_t o = 0; o < hidden_; ++o) {
    for (std::size_t i = 0; i < kept; ++i) {
      float& weight = out_[o * columns_ + kept_[i]];
      weight = static_cast<float>(weight + change[o * n + i]);
    }
    if (n > kept) bias_[o] = static_cast<float>(bias_[o] + change[o * n + kept]);
  }
}

void BlockPruner::move_bias(const Sums& sums) {
  for (std::size_t o = 0; o < bias_.size(); ++o) {
    double gone = 0.0;
    for (const std::size_t d : dropped_) gone += out_[o * columns_ + d] * sums.activations[d];
    bias_[o] = static_cast<float>(bias_[o] + gone / static_cast<double>(calibration_.tokens()));
  }
}

// Into the model, where dropped columns are zero, and into the result, where they are not there.
void BlockPruner::rewrite(const UnitBlock& block) {
  for (const std::size_t index : block.in) {
    const std::vector<float> all = values_of(parameters_, index, stream_);
    const std::size_t each = all.size() / static_cast<std::size_t>(block.units);
    std::vector<float> rows;
    for (const std::size_t u : units_) {
      const auto first = all.begin() + static_cast<std::ptrdiff_t>(u * each);
      rows.insert(rows.end(), first, first + static_cast<std::ptrdiff_t>(each));
    }
    const Shape& shape = parameters_[index].shape;
    const std::int64_t kept = shape[0] / block.units * static_cast<std::int64_t>(units_.size());
    result_.replace(parameters_[index].name,
                    shape.rank() == 1 ? Shape{kept} : Shape{kept, shape[1]}, std::move(rows));
  }
  std::vector<float> columns;
  for (std::size_t o = 0; o < hidden_; ++o) {
    for (const std::size_t c : kept_) columns.push_back(out_[o * columns_ + c]);
    for (const std::size_t c : dropped_) out_[o * columns_ + c] = 0.0f;
  }
  parameters_.write_rows(block.out, 0, out_, stream_);
  result_.replace(out_name_,
                  {static_cast<std::int64_t>(hidden_), static_cast<std::int64_t>(kept_.size())},
                  std::move(columns));
  if (bias_.empty()) return;
  parameters_.write_rows(*block.out_bias, 0, bias_, stream_);
  result_.replace(parameters_[*block.out_bias].name, parameters_[*block.out_bias].shape, bias_);
}

void BlockPruner::prune(std::int64_t layer, const UnitBlock& block, std::int64_t keep,
                        const Residuals& in, Residuals goal, const BlockEnd& end) {
  open(block);
  const Sums sums = measure(layer, in, goal, end);
  choose(block, keep, sums);
  if (options_.reconstruct == "lsq") solve(sums, products(layer, in, goal, sums));
  if (options_.reconstruct == "bias") move_bias(sums);
  rewrite(block);
}

}  // namespace lockstep
