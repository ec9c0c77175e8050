"""What users write for the square lattice: numba loops for Metropolis and Wolff, a numpy checkerboard.

They are meant to be good code of their kind. Every decision has its own random number, of numpy's generator.
"""

import numba
import numpy as np


@numba.njit(cache=True)
def _metropolis(spins, table, n, rng):
    L = len(spins)
    for _ in range(n):
        for i in range(L):
            above, below = spins[i - 1], spins[i + 1 - L]  # negative indices close the torus
            row = spins[i]
            for j in range(L):
                field = above[j] + below[j] + row[j - 1] + row[j + 1 - L]
                cost = row[j] * field  # half of the energy that a flip costs
                if cost <= 0 or rng.random() < table[cost]:
                    row[j] = -row[j]


@numba.njit(cache=True)
def _wolff(spins, joins, stack, n, rng):
    L, sites = len(spins), 0
    for _ in range(n):
        i, j = rng.integers(0, L), rng.integers(0, L)
        old = spins[i, j]
        spins[i, j] = -old
        stack[0] = i * L + j
        size, sites = 1, sites + 1
        while size:
            size -= 1
            i, j = divmod(stack[size], L)
            for x, y in ((i - 1, j), (i + 1 - L, j), (i, j - 1), (i, j + 1 - L)):
                if spins[x, y] == old and rng.random() < joins:
                    spins[x, y] = -old
                    stack[size] = x % L * L + y % L
                    size += 1
                    sites += 1
    return sites


class _Loop:
    """One lattice, all up at first."""

    def __init__(self, L: int, beta: float):
        self._spins = np.ones((L, L), dtype=np.int8)
        self._beta = beta
        self._rng = np.random.default_rng(1)

    def set_beta(self, beta: float) -> None:
        self._beta = beta

    def series(self, n: int, thin: int) -> dict[str, np.ndarray]:
        energy, abs_m = np.empty((2, 1, n))
        for k in range(n):
            self.run(thin)
            s = self._spins.astype(np.int64)
            energy[0, k] = -(s * (np.roll(s, 1, 0) + np.roll(s, 1, 1))).mean()
            abs_m[0, k] = abs(s.mean())
        return {"energy": energy, "abs_m": abs_m}


class Metropolis(_Loop):
    """Site after site, compiled by numba; the exponentials are in a table."""

    def run(self, n: int) -> dict[str, float]:
        _metropolis(self._spins, np.exp(-2 * self._beta * np.arange(5)), n, self._rng)
        return {"updates": n, "sites": n * self._spins.size}


class Checkerboard(_Loop):
    """All black sites, then all white ones, by whole-array arithmetic of numpy."""

    def __init__(self, L: int, beta: float):
        super().__init__(L, beta)
        black = np.indices((L, L)).sum(0) % 2 == 0
        self._colours = black, ~black

    def run(self, n: int) -> dict[str, float]:
        s, probability = self._spins, np.exp(-2 * self._beta * np.arange(-4, 5)).astype(np.float32)
        for _ in range(n):
            uniform = self._rng.random(s.shape, dtype=np.float32)
            for colour in self._colours:
                field = np.roll(s, 1, 0) + np.roll(s, -1, 0) + np.roll(s, 1, 1) + np.roll(s, -1, 1)
                flip = (uniform < probability[s * field + 4]) & colour
                s[flip] *= -1
        return {"updates": n, "sites": n * s.size}


class Wolff(_Loop):
    """A cluster on a stack, compiled by numba."""

    def __init__(self, L: int, beta: float):
        super().__init__(L, beta)
        self._stack = np.empty(L * L, dtype=np.int64)

    def run(self, n: int) -> dict[str, float]:
        sites = _wolff(self._spins, -np.expm1(-2 * self._beta), self._stack, n, self._rng)
        return {"updates": n, "sites": sites}
