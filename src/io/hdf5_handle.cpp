// Thread settings of HDF5 and the one useful line of its error stack.
#include "io/hdf5_handle.h"

#include "io/checkpoint.h"

#include <fmt/core.h>

namespace lockstep {
namespace {

extern "C" herr_t keep_first_message(unsigned, const H5E_error2_t* error, void* out) {
  auto& message = *static_cast<const char**>(out);
  if (message == nullptr) message = error->desc;
  return 0;
}

}  // namespace

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  if (H5get_libversion(&major, &minor, &release) < 0) return "unknown";
  return fmt::format("{}.{}.{}", major, minor, release);
}

void prepare_hdf5() {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);
}

std::string hdf5_error() {
  const char* message = nullptr;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first_message, &message);
  return message == nullptr ? "" : message;
}

}  // namespace lockstep
