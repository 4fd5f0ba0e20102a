// How OpenMP threads wait. Spinning, the library's default, makes a step several times as long as
// soon as anything else runs on the cores (another rank, a test); sleeping costs nothing that can
// be measured when nothing does.
#pragma once

namespace lockstep {

// Starts the program over with OMP_WAIT_POLICY=passive unless the user has chosen a policy: the
// library reads it before main(). Returns if that cannot be done. Call first in main().
void prefer_sleeping_threads(char** argv);

}  // namespace lockstep
