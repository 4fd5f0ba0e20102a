// Normal equations in fp64 on the host: the same bits on every machine and at any number of
// threads.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace lockstep {

// Solves (A + diag(damping)) x = b for every row b of `rhs` (n values each), in place.
// `a`: (n, n) row-major, symmetric, positive semi-definite; overwritten by its Cholesky factor.
// Returns false, leaving `rhs` alone, when the damped matrix is not positive definite.
bool solve_damped(std::vector<double>& a, std::span<const double> damping,
                  std::vector<double>& rhs);

}  // namespace lockstep
