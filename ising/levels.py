"""The grid that the energies of a model lie on, where they do."""

import math
from fractions import Fraction

import numpy as np

from .model import Ising

MAX_LEVELS = 2**20


class Grid:
    r"""The levels that the energies of a model can have.

    In whole multiples of one unit, all energies are :math:`E_0 + k \, \Delta`, where :math:`\Delta` is the
    greatest common divisor of what a flip can cost. Levels that share a bin share a weight.

    Attributes:
        energies: Of all levels, also of those that no state has, ``(levels,)``.
        bin_of: The bin of each level, int64; E and −E share one where the spectrum is symmetric.
        couplings, fields: In units, int64, ``(N, z)`` and ``(N,)``.
        climb: Levels that the flip of a spin s in a field f climbs, at index ``s f + reach``.
    """

    def __init__(self, model: Ising):
        J, h = model.bond_couplings.numpy(), model.site_fields.numpy()
        unit, whole = _whole_multiples(np.concatenate([J, h]))
        self._sites, bonds = (x.numpy() for x in model.lattice.neighbours)
        self.couplings = np.append(whole[: len(J)], 0)[bonds]
        self.fields = whole[len(J) :]
        reach = int((np.abs(self.couplings).sum(1) + np.abs(self.fields)).max())
        all_up = self.couplings.sum(1) + self.fields
        self._step = 2 * math.gcd(*map(int, all_up), *map(int, 2 * self.couplings.ravel()))
        bound, top = int(np.abs(whole).sum()), -int(whole.sum())  # of |E|; the energy with all spins up
        self._lowest = top - (top + bound) // self._step * self._step
        n_levels = (bound - self._lowest) // self._step + 1
        if n_levels > MAX_LEVELS:
            raise ValueError(
                f"{n_levels} levels of energy are too many for a flat histogram (at most {MAX_LEVELS}); "
                "choose J and h with a larger common unit"
            )
        self.energies = unit * (self._lowest + self._step * np.arange(n_levels))
        k = np.arange(n_levels)
        symmetric = not h.any() and len(model.lattice.colour_classes) <= 2
        self.bin_of = np.minimum(k, k[::-1]) if symmetric else k
        self.climb = 2 * np.arange(-reach, reach + 1) // self._step

    def level(self, spins: np.ndarray) -> np.ndarray:
        """Number of the level of each ``(chains, N)`` configuration."""
        field = (self.couplings * spins[:, self._sites]).sum(-1)
        energy = -(spins * field).sum(-1) // 2 - spins.astype(np.int64) @ self.fields
        return (energy - self._lowest) // self._step


def _whole_multiples(values: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest unit of which all values are whole multiples, and these multiples, int64."""
    size = np.abs(values[values != 0])
    if not len(size):
        raise ValueError("without couplings and fields all energies are zero; give the model a J or an h")
    ratios = [Fraction(value / size.min()).limit_denominator(1000) for value in values]
    if not np.allclose([float(r) for r in ratios], values / size.min(), rtol=1e-9, atol=0):
        raise ValueError(
            "the energies lie on no grid, because J and h are not whole multiples of one unit; "
            "use tempering and reweighting instead"
        )
    unit = Fraction(math.gcd(*(r.numerator for r in ratios)), math.lcm(*(r.denominator for r in ratios)))
    return float(size.min() * float(unit)), np.array([int(r / unit) for r in ratios])
