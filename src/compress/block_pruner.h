// BlockPruner: one block of one layer at a time: which of its units stay, and what the map that
// reads them becomes. Legend: N rows of a chunk, C hidden, K columns of the block's output map.
#pragma once

#include "compress/calibration.h"
#include "compress/prune.h"
#include "compress/pruned_weights.h"

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

// Where a block's residual stream is whole: at the layer's end, or where the parameter `before`
// begins the next block (Calibration::Tap's residual).
struct BlockEnd {
  std::string before;  // "": the layer's output
};

class BlockPruner {
 public:
  // Blocks have at most `columns` columns. All arguments outlive this.
  BlockPruner(Calibration& calibration, const PruneOptions& options, std::int64_t columns,
              PrunedWeights& result, Arena& arena);

  // Leaves `keep` units of the block. `in`: what the layer reads in the pruned model; `goal`: the
  // residual stream at `end` in the dense one. The model's dropped columns become zero and its kept
  // ones what makes up for them; the result gets smaller tensors. Collective.
  void prune(std::int64_t layer, const UnitBlock& block, std::int64_t keep, const Residuals& in,
             Residuals goal, const BlockEnd& end);

 private:
  // Sums over all calibration tokens.
  struct Sums {
    std::vector<double> squares, activations;  // (K)
    std::vector<double> missing;               // (C): of what the goal has more
    double missing_squares = 0.0;              // of all of it
  };
  struct Products {
    std::vector<double> gram;   // (K, K)
    std::vector<double> cross;  // (C, K)
  };

  void open(const UnitBlock& block);
  Sums measure(std::int64_t layer, const Residuals& in, Residuals& missing, const BlockEnd& end);
  void choose(const UnitBlock& block, std::int64_t keep, const Sums& sums);
  Products products(std::int64_t layer, const Residuals& in, const Residuals& missing,
                    const Sums& sums);
  void solve(const Sums& sums, const Products& products);
  std::vector<double> right_hand_sides(const Sums& sums, const Products& products) const;
  void move_bias(const Sums& sums);  // by the mean of what the dropped columns gave
  void rewrite(const UnitBlock& block);
  bool reads_units(std::span<const Parameter> weights) const {
    return weights.size() == 1 && weights[0].name == out_name_;
  }

  Calibration& calibration_;
  const PruneOptions& options_;
  PrunedWeights& result_;
  ParameterSet& parameters_;
  Stream& stream_;
  std::size_t hidden_;
  Tensor gram_, cross_;  // room for (K, K) and (C, K) fp32
  Tensor missing_;       // (N, C) fp32

  // Of the block at work.
  std::string out_name_;
  std::size_t columns_ = 0;                  // K
  std::vector<float> out_;                   // (C, K)
  std::vector<float> bias_;                  // (C) or empty
  std::vector<std::size_t> units_;           // that stay
  std::vector<std::size_t> kept_, dropped_;  // columns
};

}  // namespace lockstep
