// The list of architectures whose files are understood. A new one is declared and entered here, and
// nowhere else in this room.
#include "core/error.h"
#include "formats/foreign_family.h"

namespace lockstep {

const ForeignFamily& foreign_gpt2();
const ForeignFamily& foreign_llama();
const ForeignFamily& foreign_qwen2();

const std::vector<const ForeignFamily*>& foreign_families() {
  static const std::vector<const ForeignFamily*> families = {
      &foreign_gpt2(),
      &foreign_llama(),
      &foreign_qwen2(),
  };
  return families;
}

const ForeignFamily* find_foreign_family(const std::string& name) {
  for (const ForeignFamily* family : foreign_families()) {
    if (family->name() == name) return family;
  }
  return nullptr;
}

// An architecture that can be trained need not have files that other programs read.
const ForeignFamily& foreign_family(const ModelConfig& config) {
  const ForeignFamily* family = find_foreign_family(config.architecture);
  if (family != nullptr) return *family;
  fail(ExitCode::kUsage, "a {} cannot be exported: other programs have no files for it",
       config.architecture);
}

std::string foreign_family_names() {
  const auto& families = foreign_families();
  std::string names;
  for (std::size_t i = 0; i < families.size(); ++i) {
    names += (i == 0 ? "" : i + 1 == families.size() ? " and " : ", ") + families[i]->name();
  }
  return names;
}

}  // namespace lockstep
