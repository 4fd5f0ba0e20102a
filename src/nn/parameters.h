// Named parameters over flat buffers: fp32 masters, fp32 gradients and the weights that layers
// read. The flat order is the order in which backward completes the gradients, so that buckets,
// optimizer ranges and checkpoint parts are ranges of it and nothing is copied in or out. In
// inference each weight may have a format of its own. Identity is by name, never by position.
#pragma once

#include "core/weight.h"
#include "device/arena.h"
#include "kernels/table.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

enum class Init { kZeros, kOnes, kNormal };

// What a parameter is to those who prune, quantize or export: a weight (out, in) of a linear map, a
// table of rows that are looked up (the head's too), or a vector (norms, biases).
enum class ParameterKind { kLinear, kTable, kVector };

struct Parameter {
  std::string name;  // as in Hugging Face's state dict
  Shape shape;       // logical: no padding
  ParameterKind kind = ParameterKind::kVector;
  bool decay = false;  // weight decay applies (matrices)
  Init init = Init::kZeros;
  float init_std = 0.0f;
  bool joined = false;           // lies directly behind the one before: see group_weight()
  bool pad_rows = false;         // rows are a vocabulary's: more of them in device buffers
  std::int64_t padded_rows = 0;  // rows in device buffers; add() sets it
  std::int64_t offset = 0;       // first element in the flat buffers
  std::int64_t count() const { return shape.count(); }
  std::int64_t padded_count() const { return padded_rows * (count() / shape[0]); }
  std::int64_t end() const { return offset + padded_count(); }
};

// Rows in device buffers of a matrix that has one row per vocabulary entry.
inline std::int64_t padded_vocabulary(std::int64_t vocab) { return (vocab + 127) / 128 * 128; }

// Fills `out` with rows [row_begin, row_begin + n) of the named parameter; n follows from
// out.size().
using ReadRows =
    std::function<void(const std::string& name, std::int64_t row_begin, std::span<float> out)>;

// Which format a parameter's weight has in inference.
using WeightFormats = std::function<WeightFormat(const Parameter&)>;

class ParameterSet {
 public:
  // Appends a parameter; returns its index.
  std::size_t add(Parameter parameter);

  // Allocates the flat buffers. Without `training` only weights exist (masters when fp32). With
  // `formats`, which excludes training, there are no masters, and each weight has the format that
  // it says; vectors always have the compute dtype.
  void allocate(Arena& arena, DType compute, bool training, const WeightFormats& formats = {});

  const std::vector<Parameter>& all() const { return parameters_; }
  const Parameter& operator[](std::size_t index) const { return parameters_[index]; }
  std::size_t find(const std::string& name) const;  // CHECKs that it exists
  std::int64_t logical_count() const;
  std::int64_t flat_count() const { return flat_count_; }  // padding included
  DType compute_dtype() const { return compute_; }

  // Flat buffers; weights() is masters() when the compute dtype is fp32, and absent with formats.
  const Tensor& masters() const { return masters_; }
  const Tensor& grads() const { return grads_; }
  const Tensor& weights() const { return weights_; }

  // One parameter, padded shape: 1-D stays 1-D, else (padded_rows, cols).
  Weight weight(std::size_t index) const { return group_weight(index, 1); }
  Tensor grad(std::size_t index) const { return group_grad(index, 1); }
  // `n` joined parameters as one (sum of rows, cols) matrix, or one longer vector; they share one
  // format.
  Weight group_weight(std::size_t first, std::size_t n) const;
  Tensor group_grad(std::size_t first, std::size_t n) const { return group(grads_, first, n); }

  // Draws the initial values on the host, by name and seed, and uploads them (masters and weights).
  // Complete on return. `threads` only changes the speed.
  void initialize(std::uint64_t seed, int threads, Stream& stream);
  // The same from elsewhere: asks `read` for every parameter, at most 8 MiB at a time (or one row
  // where that is larger). Without masters the values are rounded into weights. Complete on return.
  void load(const ReadRows& read, Stream& stream);
  // What pruning and quantization do to a weight: rows as fp32 out of what layers compute with, and
  // other values in their place (masters too, where there are any). Whole rows; blocking.
  void read_rows(std::size_t index, std::int64_t row_begin, std::span<float> out, Stream& stream);
  void write_rows(std::size_t index, std::int64_t row_begin, std::span<const float> rows,
                  Stream& stream);
  // One parameter's initial values, as initialize() draws them.
  static void draw(const Parameter& parameter, std::uint64_t seed, std::int64_t first,
                   std::span<float> out);
  // Rounds every master into weights (nothing to do in fp32).
  void refresh_weights(Stream& stream);

  // The pieces that grad_norm and adamw work on: all parameters, padding left out, cut at chunks of
  // 1 Mi elements of the logical gradient. segment_parameter[s] is the index of the parameter
  // that segment s is part of.
  struct Work {
    std::vector<WorkItem> items;
    std::vector<std::size_t> segment_parameter;
  };
  Work work() const;
  // work().items.size(), without making them.
  std::int64_t work_item_count() const;

 private:
  // Where a weight of a format of its own lies.
  struct Packed {
    WeightFormat format = WeightFormat::kF32;
    std::int64_t offset = 0;  // bytes into packed_
    std::int64_t scale = 0;   // elements into scales_
  };
  void place_packed(Arena& arena, const WeightFormats& formats);
  Tensor group(const Tensor& flat, std::size_t first, std::size_t n) const;
  std::int64_t group_rows(std::size_t first, std::size_t n) const;
  void check_rows(const Parameter& parameter, std::int64_t row_begin, std::size_t values) const;

  std::vector<Parameter> parameters_;
  std::int64_t flat_count_ = 0;
  DType compute_ = DType::kF32;
  Tensor masters_;              // (flat) fp32
  Tensor grads_;                // (flat) fp32
  Tensor weights_;              // (flat) compute dtype
  std::vector<Packed> places_;  // per parameter, with formats
  Tensor packed_;               // (bytes) uint8
  Tensor scales_;               // (rows that have scales) fp32
};

}  // namespace lockstep
