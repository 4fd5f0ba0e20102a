// Per layer: the dense output, the error before anything is dropped, the choice, the solution, and
// the output that the next layer reads. Legend: N rows, C hidden, F channels, K kept.
//
// With a (N, F) what `out` reads, W its weight and R (N, C) what the dense residual stream has more
// than this one, the kept columns S and the dropped ones D: the change d of W's kept columns
// minimizes |a_S d - (R + a_D W_D)|^2 + lambda |d|^2, so (G_SS + lambda I) d = a_S^T R + G_SD W_D
// with G = a^T a. Where there is a bias, a column of ones is kept too.
#include "compress/prune.h"

#include "compress/channel_rank.h"
#include "compress/exact_sum.h"
#include "compress/least_squares.h"
#include "core/rng.h"
#include "nn/linear.h"

#include <algorithm>
#include <cmath>
#include <optional>
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

class FfnPruner {
 public:
  FfnPruner(Calibration& calibration, const PruneOptions& options, PrunedWeights& result,
            Arena& arena);
  void prune_layer(std::int64_t layer);

 private:
  // Sums over all calibration tokens.
  struct Sums {
    std::vector<double> squares, activations;  // (F)
    std::vector<double> missing;               // (C): of R
    double missing_squares = 0.0;              // of all of R
  };
  struct Products {
    std::vector<double> gram;   // (F, F)
    std::vector<double> cross;  // (C, F): R^T a
  };

  Sums measure(std::int64_t layer, Residuals& missing);
  Products products(std::int64_t layer, const Residuals& missing, const Sums& sums);
  void solve(const Sums& sums, const Products& products);
  void move_bias(const Sums& sums);  // by the mean of what the dropped channels gave
  void rewrite(const FeedForward& ffn);
  bool reads_channels(std::span<const Parameter> weights) const {
    return weights.size() == 1 && weights[0].name == out_name_;
  }

  Calibration& calibration_;
  const PruneOptions& options_;
  PrunedWeights& result_;
  ParameterSet& parameters_;
  Stream& stream_;
  std::size_t hidden_, channels_;
  Residuals dense_, pruned_;  // inputs of the next layer
  Tensor gram_, cross_;       // (F, F), (C, F) fp32
  Tensor missing_;            // (N, C) fp32

  // Of the layer at work.
  std::string out_name_;
  std::vector<float> out_;   // (C, F)
  std::vector<float> bias_;  // (C) or empty
  std::vector<std::size_t> kept_, dropped_;
};

FfnPruner::FfnPruner(Calibration& calibration, const PruneOptions& options, PrunedWeights& result,
                     Arena& arena)
    : calibration_(calibration),
      options_(options),
      result_(result),
      parameters_(calibration.model().parameters()),
      stream_(calibration.stream()),
      hidden_(static_cast<std::size_t>(calibration.model().config().hidden)),
      channels_(static_cast<std::size_t>(calibration.model().config().ffn)) {
  const std::int64_t hidden = calibration.model().config().hidden;
  const std::int64_t ffn = calibration.model().config().ffn;
  if (options.reconstruct == "lsq") {
    const auto matrix = [&](const char* name, std::int64_t rows, std::int64_t cols) {
      return arena.allocate(name, {rows, cols}, DType::kF32, MemoryGroup::kWorkspace);
    };
    gram_ = matrix("channel products", ffn, ffn);
    cross_ = matrix("products with what is missing", hidden, ffn);
    missing_ = matrix("what is missing", calibration.rows(), hidden);
  }
  dense_ = pruned_ = calibration.enter();
}

FfnPruner::Sums FfnPruner::measure(std::int64_t layer, Residuals& missing) {
  const std::size_t width = 2 * channels_ + hidden_ + 1;
  std::vector<double> mine(width * pruned_.size(), 0.0);
  std::vector<float> a;
  const Calibration::Tap tap = [&](std::size_t chunk, std::span<const Parameter> weights,
                                   const Tensor& x) {
    if (!reads_channels(weights)) return;
    CHECK(x.contiguous(), "{} reads strided rows", out_name_);
    a.resize(static_cast<std::size_t>(x.count()));
    stream_.copy(a.data(), x.data, x.bytes());
    stream_.synchronize();
    double* squares = mine.data() + chunk * width;
    double* sums = squares + channels_;
    for (const float* row = a.data(); row != a.data() + a.size(); row += channels_) {
      for (std::size_t c = 0; c < channels_; ++c) {
        const double value = row[c];
        squares[c] += value * value;
        sums[c] += value;
      }
    }
  };
  const Residuals reached = calibration_.run(layer, pruned_, tap);
  for (std::size_t chunk = 0; chunk < reached.size(); ++chunk) {
    double* sums = mine.data() + chunk * width + 2 * channels_;
    for (std::size_t i = 0; i < reached[chunk].size(); ++i) {
      missing[chunk][i] -= reached[chunk][i];
      const double value = missing[chunk][i];
      sums[i % hidden_] += value;
      sums[hidden_] += value * value;
    }
  }
  const std::vector<double> all =
      ordered_sum(mine, calibration_.chunks(), width, calibration_.world());
  const auto part = [&](std::size_t begin, std::size_t count) {
    return std::vector<double>(all.begin() + static_cast<std::ptrdiff_t>(begin),
                               all.begin() + static_cast<std::ptrdiff_t>(begin + count));
  };
  return {.squares = part(0, channels_),
          .activations = part(channels_, channels_),
          .missing = part(2 * channels_, hidden_),
          .missing_squares = all.back()};
}

// By Cauchy and Schwarz no element of a product exceeds the product of the norms.
FfnPruner::Products FfnPruner::products(std::int64_t layer, const Residuals& missing,
                                        const Sums& sums) {
  const double largest = *std::max_element(sums.squares.begin(), sums.squares.end());
  ExactSum gram(channels_ * channels_, largest);
  ExactSum cross(hidden_ * channels_, std::sqrt(largest * sums.missing_squares));
  std::vector<float> host;
  const auto add = [&](ExactSum& sum, const Tensor& product) {
    host.resize(static_cast<std::size_t>(product.count()));
    stream_.copy(host.data(), product.data, product.bytes());
    stream_.synchronize();
    sum.add(host);
  };
  const Tensor scratch = calibration_.model().scratch();
  calibration_.run(layer, pruned_,
                   [&](std::size_t chunk, std::span<const Parameter> weights, const Tensor& a) {
                     if (!reads_channels(weights)) return;
                     stream_.zero(gram_.data, gram_.bytes());
                     stream_.zero(cross_.data, cross_.bytes());
                     stream_.copy(missing_.data, missing[chunk].data(), missing_.bytes());
                     linear_backward_weight(gram_, {}, a, a, scratch, stream_);
                     linear_backward_weight(cross_, {}, missing_, a, scratch, stream_);
                     add(gram, gram_);
                     add(cross, cross_);
                   });
  return {.gram = gram.total(calibration_.world()), .cross = cross.total(calibration_.world())};
}

void FfnPruner::solve(const Sums& sums, const Products& products) {
  const std::size_t kept = kept_.size();
  const std::size_t n = kept + (bias_.empty() ? 0 : 1);
  std::vector<double> a(n * n);
  double trace = 0.0;
  for (std::size_t i = 0; i < kept; ++i) {
    const double* row = products.gram.data() + kept_[i] * channels_;
    for (std::size_t j = 0; j < kept; ++j) a[i * n + j] = row[kept_[j]];
    if (n > kept) a[i * n + kept] = a[kept * n + i] = sums.activations[kept_[i]];
    trace += row[kept_[i]];
  }
  if (n > kept) a[n * n - 1] = static_cast<double>(calibration_.tokens());

  std::vector<double> change(hidden_ * n);
  std::vector<double> gone(dropped_.size());
  for (std::size_t o = 0; o < hidden_; ++o) {
    for (std::size_t d = 0; d < gone.size(); ++d) gone[d] = out_[o * channels_ + dropped_[d]];
    double* rhs = change.data() + o * n;
    for (std::size_t i = 0; i < kept; ++i) {
      const double* row = products.gram.data() + kept_[i] * channels_;
      rhs[i] = products.cross[o * channels_ + kept_[i]];
      for (std::size_t d = 0; d < gone.size(); ++d) rhs[i] += row[dropped_[d]] * gone[d];
    }
    if (n == kept) continue;
    rhs[kept] = sums.missing[o];
    for (std::size_t d = 0; d < gone.size(); ++d)
      rhs[kept] += sums.activations[dropped_[d]] * gone[d];
  }
  std::vector<double> damping(n, 0.0);
  std::fill_n(damping.begin(), kept, kDamping * trace / static_cast<double>(kept));
  if (!solve_damped(a, damping, change)) {
    fail_together(ExitCode::kData,
                  "{}: no least-squares solution on the calibration data, where all kept channels "
                  "are zero; give other data or --reconstruct none",
                  out_name_);
  }
  for (std::size_t o = 0; o < hidden_; ++o) {
    for (std::size_t i = 0; i < kept; ++i) {
      float& weight = out_[o * channels_ + kept_[i]];
      weight = static_cast<float>(weight + change[o * n + i]);
    }
    if (n > kept) bias_[o] = static_cast<float>(bias_[o] + change[o * n + kept]);
  }
}

void FfnPruner::move_bias(const Sums& sums) {
  for (std::size_t o = 0; o < bias_.size(); ++o) {
    double missing = 0.0;
    for (const std::size_t d : dropped_) missing += out_[o * channels_ + d] * sums.activations[d];
    bias_[o] = static_cast<float>(bias_[o] + missing / static_cast<double>(calibration_.tokens()));
  }
}

// Into the model, where dropped columns are zero, and into the result, where they are not there.
void FfnPruner::rewrite(const FeedForward& ffn) {
  for (const std::size_t index : ffn.in) {
    const std::vector<float> all = values_of(parameters_, index, stream_);
    const std::size_t width = all.size() / channels_;
    std::vector<float> rows;
    for (const std::size_t c : kept_) {
      const auto row = all.begin() + static_cast<std::ptrdiff_t>(c * width);
      rows.insert(rows.end(), row, row + static_cast<std::ptrdiff_t>(width));
    }
    const auto kept = static_cast<std::int64_t>(kept_.size());
    const Shape& shape = parameters_[index].shape;
    result_.replace(parameters_[index].name,
                    shape.rank() == 1 ? Shape{kept} : Shape{kept, shape[1]}, std::move(rows));
  }
  std::vector<float> columns;
  for (std::size_t o = 0; o < hidden_; ++o) {
    for (const std::size_t c : kept_) columns.push_back(out_[o * channels_ + c]);
    for (const std::size_t c : dropped_) out_[o * channels_ + c] = 0.0f;
  }
  parameters_.write_rows(ffn.out, 0, out_, stream_);
  result_.replace(out_name_,
                  {static_cast<std::int64_t>(hidden_), static_cast<std::int64_t>(kept_.size())},
                  std::move(columns));
  if (bias_.empty()) return;
  parameters_.write_rows(*ffn.out_bias, 0, bias_, stream_);
  result_.replace(parameters_[*ffn.out_bias].name, parameters_[*ffn.out_bias].shape, bias_);
}

void FfnPruner::prune_layer(std::int64_t layer) {
  const FeedForward ffn = calibration_.model().feed_forward(layer);
  out_name_ = parameters_[ffn.out].name;
  out_ = values_of(parameters_, ffn.out, stream_);
  bias_.clear();
  if (ffn.out_bias) bias_ = values_of(parameters_, *ffn.out_bias, stream_);

  dense_ = calibration_.run(layer, dense_, {});
  Residuals missing = dense_;
  const Sums sums = measure(layer, missing);
  ChannelView view{
      .rows = {}, .out = out_, .squares = sums.squares, .key = key_from(options_.seed, out_name_)};
  for (const std::size_t index : ffn.in) {
    view.rows.push_back(values_of(parameters_, index, stream_));
  }
  kept_ =
      best_channels(channel_scores(options_.rank, view), static_cast<std::size_t>(options_.ffn));
  dropped_.clear();
  for (std::size_t c = 0, next = 0; c < channels_; ++c) {
    if (next < kept_.size() && kept_[next] == c) {
      ++next;
    } else {
      dropped_.push_back(c);
    }
  }
  if (options_.reconstruct == "lsq") solve(sums, products(layer, missing, sums));
  if (options_.reconstruct == "bias") move_bias(sums);
  rewrite(ffn);
  pruned_ = calibration_.run(layer, pruned_, {});
}

}  // namespace

std::int64_t kept_channels(std::int64_t ffn, double share) {
  const std::int64_t unit = ffn >= 256 ? 32 : 8;
  const auto units = std::llround(static_cast<double>(ffn) * (1.0 - share) / unit);
  const std::int64_t kept = units * unit;
  if (!(share > 0.0 && share < 1.0) || kept <= 0 || kept >= ffn) {
    fail(ExitCode::kUsage,
         "--prune: ffn={} of {} channels leaves {}, in steps of {}; give a share that takes some "
         "and leaves some",
         share, ffn, std::clamp<std::int64_t>(kept, 0, ffn), unit);
  }
  return kept;
}

std::unique_ptr<PrunedWeights> prune_ffn(Calibration& calibration, const PruneOptions& options,
                                         WeightSource& original, Arena& arena,
                                         const std::function<void(std::int64_t)>& layer_done) {
  const ModelConfig& config = calibration.model().config();
  CHECK(options.ffn > 0 && options.ffn < config.ffn, "{} of {}", options.ffn, config.ffn);
  auto result = std::make_unique<PrunedWeights>(original);
  FfnPruner pruner(calibration, options, *result, arena);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    pruner.prune_layer(layer);
    if (layer_done) layer_done(layer);
  }
  return result;
}

}  // namespace lockstep
