// Closing, for those whom close()'s answer does not interest; FileSystem::close() reports it.
#include "files/descriptor.h"

#include <unistd.h>

namespace lockstep {

void Descriptor::reset() {
  if (value_ >= 0) ::close(release());
}

}  // namespace lockstep
