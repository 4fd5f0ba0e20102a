// Looking backends up.
#include "kernels/backend.h"

#include <algorithm>

namespace lockstep {

std::vector<std::string> device_names() {
  std::vector<std::string> names = {"auto", std::string(kCpuBackend.name)};
  for (const Backend* backend : accelerators()) names.emplace_back(backend->name);
  return names;
}

const Backend* find_backend(std::string_view name) {
  const auto found = std::find_if(std::begin(kBackends), std::end(kBackends),
                                  [&](const Backend* backend) { return backend->name == name; });
  return found == std::end(kBackends) ? nullptr : *found;
}

const Backend& planned_backend(std::string_view device) {
  for (const Backend* backend : kBackends) {
    const bool wanted = device == "auto" || device == backend->name;
    if (wanted && backend->kernels != nullptr) return *backend;
  }
  return kCpuBackend;
}

}  // namespace lockstep
