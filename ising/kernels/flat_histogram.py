"""A random walk with weights that depend on the energy alone; see :mod:`ising.wang_landau`.

One draw of 64 bits makes a flip: the upper half picks the site, the lower half decides, to 2.3e-10.
"""

import math

import numpy as np
from numba import uint64

from .xoshiro import jit, step


@jit
def walk(
    spins, rng, level, ln_g, seen, visits, ln_f, on_clock, walkers, rounds, flips, clock,
    neighbours, couplings, fields, climb, bin_of,
):  # fmt: skip
    """Makes rounds of so many random flips, each accepted with min(1, g(E) / g(E')), all arrays in place.

    Per walker: spins (N,), rng (4,), level, ln_g, seen and visits of all bins, increment ln_f, and whether it
    follows the clock. Where ``clock`` is the number of rounds made before, and not negative, the increment is
    halved or set to 1/t after each round.
    """
    n_sites, z = neighbours.shape
    reach = len(climb) // 2
    for w in walkers:
        s, g, known, count = spins[w], ln_g[w], seen[w], visits[w]
        s0, s1, s2, s3 = rng[w]
        k, add = level[w], ln_f[w]
        b = bin_of[k]
        for r in range(rounds):
            for _ in range(flips):
                bits, s0, s1, s2, s3 = step(s0, s1, s2, s3)
                i = np.int64(((bits >> uint64(32)) * uint64(n_sites)) >> uint64(32))
                field = fields[i]
                for n in range(z):
                    field += couplings[i, n] * s[neighbours[i, n]]
                k_new = k + climb[s[i] * field + reach]
                b_new = bin_of[k_new]
                if not known[b_new]:
                    known[b_new] = True
                    g[b_new] = g[b]
                gain = g[b] - g[b_new]
                if gain >= 0 or (bits & uint64(0xFFFFFFFF)) * 2.0**-32 < math.exp(gain):
                    s[i] = -s[i]
                    k, b = k_new, b_new
                g[b] += add
                count[b] += 1
            if clock >= 0:
                levels, missed = 0, 0
                for x in range(len(g)):
                    levels += known[x]
                    missed += known[x] and count[x] == 0
                tick = levels / ((clock + r + 1) * flips)
                if not on_clock[w] and missed == 0:
                    add *= 0.5
                    count[:] = 0
                on_clock[w] = on_clock[w] or add <= tick
                if on_clock[w]:
                    add = tick
        rng[w] = s0, s1, s2, s3
        level[w], ln_f[w] = k, add
