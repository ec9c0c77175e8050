r"""Metropolis and heat bath for 512 lanes at a time: one row of bits per site, one bit per chain or tile.

Covers uniform :math:`|J|` (each bond of either sign), uniform h and up to seven neighbours. Every spin of
every chain gets its own random decision, by the law of :mod:`ising.updates`, colour by colour.

A spin flips with a probability that depends only on its own sign and on how many of its bonds are
unsatisfied. That number is added up in three bits of binary, for all lanes of a row at once; it is the case
in which :mod:`ising.kernels.chances` decides, to :math:`2^{-64}`. The temperature may differ between lanes.

References:
    | Multi-spin coding for a lattice of spins (Jacobs and Rebbi, 1981)
    | A fast algorithm for the Monte Carlo simulation of Ising models (Bhanot, Duke and Salvador, 1986)
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..model import Ising
from . import schedule, tiles
from .chances import SCRATCH
from .flip_law import FLIP_PROBABILITY, Law
from .lanes import WORDS, aligned
from .multispin_sweep import copy_ghosts, flips, sweep_column
from .shishua import streams
from .tally import lane_counts, tally

ALL, NONE = np.uint64(2**64 - 1), np.uint64(0)
NO_SIGNS = np.empty(0, dtype=np.uint64)


class Multispin:
    """See :class:`ising.kernels.Sampler`. What it is made of is for :mod:`ising.kernels.exchange` to use."""

    name = "multispin"

    @staticmethod
    def covers(update: str, model: Ising, device: str) -> bool:
        J, h = model.bond_couplings.abs(), model.site_fields
        uniform = bool((J[:1] == J).all() and (h == h[:1]).all())
        crowded = int(model.lattice.degree.max()) > 7
        return update in FLIP_PROBABILITY and device == "cpu" and uniform and not crowded

    def __init__(
        self,
        model: Ising,
        update: str,
        beta: float | np.ndarray,
        spins: np.ndarray,
        seed: np.random.SeedSequence,
        *,
        device: str = "cpu",  # noqa: ARG002
        threads: int = 1,
    ):
        self.n_sites, self._threads = model.lattice.n_sites, threads
        self.layout = tiles.best(model, len(spins))
        self.J = float(model.bond_couplings.abs().max()) if len(model.lattice.edges) else 0.0
        self.h, self.bonds = float(model.site_fields[0]), len(model.lattice.edges)
        self.law = Law(update, self.J, self.h, np.unique(self.layout.degree))
        self.schedule = _schedule(self.layout)
        ends, against, sites = schedule.pairs(self.layout)
        signs = np.where(against, ALL, NONE) if against.any() else NO_SIGNS
        self.ends = (*ends, signs), (*sites, NO_SIGNS)
        self.used, self.scratch = self.layout.used, aligned((self.layout.columns, SCRATCH, WORDS))
        self.rng = streams(seed, self.layout.columns)
        extra = len(self.layout.ghosts) + 2  # one takes what is written beyond the last site, one is zero
        self.rows = aligned((self.layout.columns, self.layout.rows + extra, WORDS))
        self._fill(self.layout.pack(spins))
        self.signed = bool(self.layout.against.any())
        four = self.schedule[1].shape[1] == 4
        self.form = (*self.law.form, (0,) * self.law.by_spin, (0,) * four, (0,) * self.signed)
        self.set_beta(beta)

    def sweep(self, n: int) -> float:
        """The flipped fraction is that of the last sweep."""

        def sweep(column: int) -> int:
            rows = self.rows[column]
            work = (rows, self.rng[column], self.scratch[column])
            tables = (*self.schedule, self._chances[column % len(self._chances)])
            sweep_column(self.form, *work, n - 1, *tables)
            before = aligned((self.layout.rows, WORDS))
            before[:] = rows[: len(before)]
            sweep_column(self.form, *work, 1, *tables)
            return flips(rows, before, self.used[column : column + 1], len(before))

        return sum(self._over_columns(sweep)) / (self.layout.chains * self.n_sites) if n else 0.0

    def bits(self) -> np.ndarray:
        return self.layout.unpack(self.rows[:, : self.layout.rows])

    def spins(self) -> np.ndarray:
        return tiles.bits.unpack(self.bits(), self.n_sites)

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """Total energy and magnetisation, from the unequal ends of bonds and the spins that are up, counted
        in all lanes at once, see :mod:`ising.kernels.tally`; float64, ``(chains,)`` each.
        """
        ends, sites = self.ends
        counted = self._over_columns(
            lambda column: (tally(self.rows[column], *ends), tally(self.rows[column], *sites))
        )
        unsatisfied, up = (
            self.layout.per_chain(lane_counts(np.stack(x))) for x in zip(*counted, strict=True)
        )
        magnetisation = 2.0 * up - self.n_sites
        return -self.J * (self.bonds - 2.0 * unsatisfied) - self.h * magnetisation, magnetisation

    def set_beta(self, beta: float | np.ndarray) -> None:
        """See :meth:`ising.kernels.Sampler.set_beta`: the tables of the probabilities are written anew."""
        beta = np.asarray(beta, dtype=np.float64)
        if beta.ndim and (beta == beta[0]).all():
            beta = beta[0]
        per_lane = beta[self.layout.lanes[1]] if beta.ndim else beta.reshape(1, 1)
        self._chances = self.law.tables(per_lane)

    def state(self) -> dict[str, np.ndarray]:
        return {"bits": self.rows[:, : self.layout.rows].copy(), "rng": self.rng.copy()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        self._fill(state["bits"])
        self.rng[:] = state["rng"]

    def _fill(self, rows: np.ndarray) -> None:
        self.rows[:, : self.layout.rows] = rows
        for column in self.rows:
            copy_ghosts(column, self.schedule[-2], self.schedule[-1])

    def _over_columns(self, work: Callable) -> list:
        columns = range(self.layout.columns)
        if self._threads == 1 or len(columns) == 1:
            return [work(column) for column in columns]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(work, columns))


def _schedule(layout: tiles.Tiles) -> tuple[np.ndarray, ...]:
    """Groups of rows in the order of their updates, see :mod:`ising.kernels.schedule`.

    Returns:
        The rows, ``(16 groups,)``; their neighbours and the signs of the bonds, ``(16 groups, z)``; the place
        of the degree of each group; where each colour ends; the ghosts, and where those of each colour end.
    """
    order, kinds, ends = schedule.groups(layout)
    spare = layout.rows + len(layout.ghosts)
    width = max(2, layout.neighbours.shape[1])
    neighbours = np.tile(np.arange(spare + 1)[:, None], width)
    against = np.zeros(neighbours.shape, dtype=np.uint64)
    row, k = np.nonzero(layout.neighbours != tiles.NOWHERE)
    neighbours[row, k] = layout.neighbours[row, k]  # a missing one is the site itself, which always agrees
    against[row, k] = np.where(layout.against[row, k], ALL, NONE)
    return (
        order.astype(np.int32),
        np.ascontiguousarray(neighbours[order], dtype=np.int32),
        np.ascontiguousarray(against[order]),
        kinds,
        ends,
        *schedule.ghosts(layout),
    )
