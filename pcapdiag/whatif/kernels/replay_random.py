"""Random numbers inside kernels: Marsaglia's xorshift64 (J. Stat. Soft. 8, 14).

So a seed gives one sequence everywhere, compiled or not.
"""

import math

import numpy as np

from pcapdiag.engine.compiler.policy import kernel

_13, _7, _17, _11 = np.uint64(13), np.uint64(7), np.uint64(17), np.uint64(11)
_STEP = 1.1102230246251565e-16  # 2**-53


@kernel
def uniform(random):
    """Return a number from [0, 1)."""
    x = random[0]
    x ^= x << _13
    x ^= x >> _7
    x ^= x << _17
    random[0] = x
    return np.float64(x >> _11) * _STEP


@kernel
def below(random, n):
    """Return an index below `n`."""
    return min(np.int64(uniform(random) * n), np.int64(n - 1))


@kernel
def bell(random):
    """Return a number of about the normal distribution: four uniform ones, never beyond 3.5 standard deviations."""
    return (uniform(random) + uniform(random) + uniform(random) + uniform(random) - 2.0) * 1.7320508075688772


@kernel
def tail(random):
    """Return a number of the exponential distribution of mean 1."""
    return -math.log(1.0 - uniform(random))
