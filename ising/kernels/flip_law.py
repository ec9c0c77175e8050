"""With what probability a spin flips, by a number of cases small enough for a few bits."""

import numpy as np

from ..updates.metropolis import LAZINESS
from .chances import CERTAIN
from .lanes import WORDS
from .tables import tables

if LAZINESS != CERTAIN:
    raise AssertionError("a certain flip is decided by four random bits: its probability must be 15/16")


def _metropolis(cost: np.ndarray) -> np.ndarray:
    return LAZINESS * np.exp(-np.maximum(cost, 0))


def _heat_bath(cost: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, cost))


FLIP_PROBABILITY = {"metropolis": _metropolis, "heat_bath": _heat_bath}  # of beta times the cost of the flip


class Law:
    """The probability of a flip by degree, own spin and number of unsatisfied bonds, in few cases.

    Attributes:
        cases: 2, where two and more unsatisfied bonds make the flip certain, and fewer never do; 4 or, told
            apart by the spin, 8, where four and more count as three; else 8 or 16.
        by_spin: Whether the own spin matters.
        form: What :func:`sweep_column` calls ``which``, ``asked`` and ``sure``: cases whose flip is certain,
            for all degrees, or that never occur are not asked.
    """

    def __init__(self, update: str, J: float, h: float, degrees: np.ndarray):
        self._probability, self.by_spin = FLIP_PROBABILITY[update], h != 0
        unsatisfied = np.minimum(np.arange(8), degrees[:, None, None])
        spin = np.array([[-1], [1]])
        cost = 2 * J * (degrees[:, None, None] - 2 * unsatisfied) + 2 * h * spin  # degree, spin, unsatisfied
        free = (cost <= 0) & (update == "metropolis")
        self.cases = 16 if self.by_spin else 8
        if ((cost[..., 4:] == cost[..., 3:4]) | (free[..., 4:] & free[..., 3:4])).all():
            self.cases //= 2
        if not self.by_spin and free[..., 2:].all() and not free[..., :2].any() and self.cases == 4:
            self.cases = 2
        width = self.cases // 2 if self.by_spin else self.cases
        self._cost = cost[:, : 1 + self.by_spin, :width].reshape(len(degrees), self.cases)
        certain = free[:, : 1 + self.by_spin, :width].reshape(len(degrees), self.cases).all(0)
        never = np.tile(np.arange(width) > degrees.max(), 1 + self.by_spin)
        asked = [(0,) * (not c) for c in certain | never] + [()] * (16 - self.cases)
        sure = self.cases == 2 or certain.any()
        self.form = (0,) * (self.cases.bit_length() - 1), tuple(asked), (0,) * bool(sure)

    def probability(self, beta: np.ndarray) -> np.ndarray:
        """Of a flip: ``(*, 1, 1, lanes)`` betas to ``(*, degrees, cases, lanes)``."""
        return self._probability(beta * self._cost[..., None])

    def tables(self, beta: np.ndarray) -> np.ndarray:
        """Rows of :func:`ising.kernels.tables.tables`, ``(columns, degrees * 66 * cases, 8)``.

        Arguments:
            beta: By lane, ``(columns, 512)``, or ``(1, 1)`` for all alike.
        """
        return tables(self.probability(beta[:, None, None, :]), self.form[1]).reshape(len(beta), -1, WORDS)
