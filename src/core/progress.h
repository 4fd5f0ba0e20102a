// Progress: what work that takes long calls now and then, so that whoever waits for it knows that
// it is alive. It must be cheap and may be empty.
#pragma once

#include <functional>

namespace lockstep {

using Progress = std::function<void()>;

inline void report(const Progress& progress) {
  if (progress) progress();
}

}  // namespace lockstep
