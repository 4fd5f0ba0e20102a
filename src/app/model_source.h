// MODEL on the command line and what model.init_from names: a run directory (its newest valid
// checkpoint), a checkpoint directory, a Hugging Face directory, an export, or a GGUF file.
#pragma once

#include "app/session.h"
#include "core/weight_source.h"
#include "data/tokenizer.h"
#include "formats/generation_config.h"
#include "io/checkpoint.h"
#include "nn/model.h"
#include "trainer/options.h"

#include <memory>
#include <string>

namespace lockstep {

inline constexpr const char* kModelHelp =
    "Run, checkpoint, Hugging Face directory, export or GGUF file";

struct ModelSource {
  std::unique_ptr<CheckpointReader> reader;  // absent for what other programs (or export) wrote
  Options options;  // of the run that made it; of others: model and precision.dtype only
  std::unique_ptr<WeightSource> weights;  // by our names, of the shapes that options.model asks for
  std::unique_ptr<Tokenizer> tokenizer;   // null when it carries none that is understood
  std::string tokenizer_error;            // why, or ""
  GenerationConfig generation;            // what it says of text's begin and end, if anything
  bool int8_activations = false;          // of a w8a8 export
  std::string description;                // "runs/tiny step 2000"

  bool foreign() const { return reader == nullptr; }
  // Tokens per sequence to judge it on where nobody says: runs as they were trained, others their
  // context, at most 1024.
  std::int64_t judged_seq_len() const;
};

// The checkpoint at `path`, or the newest whole one of the run there, its files verified on every
// rank. Collective. Throws UserError(kData) when there is none; `what` goes before the path in the
// message ("checkpoint.resume: ", or "").
std::unique_ptr<CheckpointReader> open_checkpoint(const std::string& path, const std::string& what,
                                                  World& world, Log& log);

// Collective: every rank opens the same files. Throws UserError(kData) when `path` is none of the
// kinds, is missing, damaged, or holds no whole checkpoint; `what` as above.
ModelSource open_model_source(const std::string& path, const std::string& what, World& world,
                              Log& log);

// All of a checkpoint's tensors, those of the optimizer too, under their stored names; lives no
// longer than `reader`.
std::unique_ptr<WeightSource> checkpoint_state(CheckpointReader& reader);

// What --allow-other-tokenizer says on commands that have it.
inline constexpr const char* kAllowOtherTokenizerHelp =
    "Go on when the tokenizers of model, --tokenizer and data differ";

// The tokenizer that a command should use: `spec` (--tokenizer), or the source's own. Throws
// UserError when there is none, when it has more entries than the model, or when it is another than
// the source's own (unless `allow_other`).
std::unique_ptr<Tokenizer> tokenizer_of(ModelSource& source, const std::string& spec,
                                        bool allow_other);

// Throws UserError(kData) when these shards carry another tokenizer than `tokenizer`, which may be
// null.
void require_tokenizer_of_data(const Tokenizer* tokenizer, const std::string& description,
                               const std::vector<std::string>& shards);

}  // namespace lockstep
