// What the tests of the program's front end share: running something that must fail with a
// UserError, and looking at its code and message.
#pragma once

#include "core/error.h"

#include <gtest/gtest.h>

#include <string>

namespace lockstep::test {

struct Caught {
  ExitCode code = ExitCode::kDone;
  std::string message;  // "" if nothing was thrown
};

template <typename Step>
Caught catch_error(Step&& step) {
  try {
    step();
  } catch (const UserError& error) {
    return {error.code(), error.what()};
  }
  return {};
}

}  // namespace lockstep::test
