// ForeignFamily: how other programs write down a model of one architecture, in Hugging Face's
// directories and in GGUF files. The rest of this room asks the family and never for an
// architecture's name; a new one is a file that implements this, and its entry in
// foreign_families.cpp.
#pragma once

#include "formats/foreign_names.h"
#include "formats/gguf.h"
#include "formats/gguf_keys.h"
#include "formats/json_keys.h"
#include "nn/model_config.h"
#include "nn/parameters.h"

#include <string>
#include <vector>

namespace lockstep {

class ForeignFamily {
 public:
  virtual ~ForeignFamily() = default;

  // model.architecture, config.json's model_type and general.architecture.
  virtual std::string name() const = 0;

  // Where a parameter stands. `parameter` is one of the family's of this configuration.
  virtual ForeignTensor tensor(const ModelConfig& config, const Parameter& parameter,
                               Naming naming) const = 0;
  // A tensor that files carry beside the weights and that holds nothing learned.
  virtual bool is_buffer(const ModelConfig& config, const std::string& name) const = 0;
  // Our name of the parameter that this tensor must equal (an output that is tied), or "".
  virtual std::string repeats(const ModelConfig& config, const std::string& name) const = 0;

  // config.json. read_config() fills the shape; what changes the arithmetic and is not supported is
  // refused by its key. write_config() adds the members after "model_type"; throws UserError(kData)
  // for a shape that Hugging Face's class cannot be told.
  virtual std::string hugging_face_class() const = 0;
  virtual void read_config(ModelConfig& config, const JsonKeys& keys) const = 0;
  virtual void write_config(JsonMembers& out, const ModelConfig& config) const = 0;

  // GGUF. gguf_config() is the model as a file has it: perhaps of another architecture, and with
  // biases that the file needs although the model has none (zeros). Throws UserError(kConfig)
  // naming the key that llama.cpp cannot run. The other two are asked of that one's family.
  virtual ModelConfig gguf_config(const ModelConfig& config) const = 0;
  virtual void add_hyperparameters(GgufMetadata& metadata, const ModelConfig& config) const = 0;
  // Fills the shape from the file; config.architecture is set.
  virtual void read_gguf(ModelConfig& config, const GgufKeys& keys) const = 0;
};

const std::vector<const ForeignFamily*>& foreign_families();
// Null when no family has this name; foreign_family() throws UserError(kUsage) then.
const ForeignFamily* find_foreign_family(const std::string& name);
const ForeignFamily& foreign_family(const ModelConfig& config);
// "gpt2, llama and qwen2"
std::string foreign_family_names();

}  // namespace lockstep
