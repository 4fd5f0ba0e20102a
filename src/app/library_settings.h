// What libraries read from the environment before main(), where their own choice is a bad one:
// - OpenMP's threads spin while they wait, which makes a step several times as long as soon as
//   anything else runs on the cores (another rank, a test); sleeping costs nothing that can be
//   measured when nothing does.
// - OpenBLAS takes kernels for SSE3 on a processor that is younger than the library: a step takes
//   three times as long as with those for AVX-512.
#pragma once

namespace lockstep {

// Starts the program over with OMP_WAIT_POLICY and OPENBLAS_CORETYPE set, unless the user has set
// them or nothing is to be changed. Returns if that cannot be done. Call first in main().
void prefer_good_library_settings(char** argv);

}  // namespace lockstep
