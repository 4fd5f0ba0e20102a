// model.init_from: a run whose shapes and first weights come from another model. The source is read
// once, when the run starts; afterwards the run's own checkpoints say everything.
#pragma once

#include "app/model_source.h"

#include <memory>

namespace lockstep {

// Fills what `model` leaves open with what `source`, opened from `path`, says. Throws
// UserError(kConfig) when a size that is set does not fit its weights, or when the tokenizer has
// more entries than it has rows.
void inherit_model(ModelConfig& model, const ModelConfig& source, const std::string& path,
                   std::int64_t tokenizer_vocab);

// Collective. Opens options.model.init_from and inherits from it; null if there is none.
std::unique_ptr<ModelSource> open_init_from(Options& options, World& world, Log& log);

// Collective. The same for a run that may have checkpoints: then, or when checkpoint.resume names
// another run's, they say the shapes and null is returned.
std::unique_ptr<ModelSource> open_init_from_unless_resumed(Options& options, World& world,
                                                           Log& log);

}  // namespace lockstep
