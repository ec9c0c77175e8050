r"""Heat bath of three coupled configurations in 512 lanes: top, bottom, and one carried between them.

The same random numbers decide in all three. With n of its z neighbours up a spin becomes +1 where

.. math:: u < p_n, \qquad p_n = \frac{1}{1 + e^{-2 \beta (J (2n - z) + h)}} ,

and since :math:`p_n` rises with n for a ferromagnet, :math:`\text{bottom} \le \text{carried} \le \text{top}`
stays so. The random part of a row, whether :math:`u < p_n` for each n, is worked out once; after that a
configuration costs eight logic instructions per site on the square lattice.

Without a field half of it is saved: by :math:`p_{z-n} = 1 - p_n` a spin follows a random sign with the
probability :math:`2 \min(p_n, p_{z-n})`, and its neighbours' majority otherwise.

The first seven or eight digits of u number cells. Almost all of these are given to a threshold as a whole; in
the few left over new digits decide, to :math:`2^{-53}` as in the probabilities themselves or better. Of 16
rows, two open ones per lane are decided together in two slots, as in :mod:`ising.kernels.chances`.
"""

import copy

import numpy as np

from ..model import Ising
from . import schedule, tiles
from .chances import GROUP
from .coupled_sweep import ALL, BOTTOM, CARRIED, CHAINS, FIRST_ROWS, SCRATCH, TOP, cells, sweeper
from .lanes import OR_DIFFER, PARTS, WORDS, aligned, load, logic, part, splat, store
from .tables import DIGITS, digits
from .tally import lane_counts, tally
from .xoshiro import bare


class Coupled:
    """Three configurations of up to 512 chains, moved by the same random numbers.

    A chain is one lane, or several where there are fewer chains; see :mod:`ising.kernels.tiles`.

    Arguments:
        model: A ferromagnet of uniform J and h, or an antiferromagnet without field on a bipartite lattice:
            that is the same ferromagnet once every second spin is turned.
        beta: Inverse temperature.
        chains: A power of two, at most 512.
        rng: State of a generator, ``(6, 8)``, one of :func:`ising.kernels.shishua.streams`.
    """

    def __init__(self, model: Ising, beta: float, chains: int, rng: np.ndarray):
        self.chains, self.n_sites = chains, model.lattice.n_sites
        self._J = float(model.bond_couplings[0]) if len(model.lattice.edges) else 0.0
        self._h, self._bonds = float(model.site_fields[0]), len(model.lattice.edges)
        turned = model.lattice.staggering.numpy() < 0 if self._J < 0 else np.zeros(self.n_sites, dtype=bool)
        self._turned = np.packbits(turned)
        ferromagnet = Ising(model.lattice, J=abs(self._J), h=self._h)
        self._tiles = tiles.best(ferromagnet, chains)
        self._turned_rows = np.where(turned[self._tiles.sites[0]], ALL, np.uint64(0))
        z, degrees = self._tiles.neighbours.shape[1], np.unique(self._tiles.degree)
        symmetric = self._h == 0 and degrees.tolist() == [z] and z > 0
        self._chances = _thresholds(beta, abs(self._J), self._h, degrees, z, symmetric)
        self._schedule = _schedule(self._tiles)
        bonds, _, sites = schedule.pairs(self._tiles)
        self._pairs = bonds, sites
        self._sweep = sweeper(z, symmetric)
        self.restart(rng)

    def restart(self, rng: np.ndarray) -> "Coupled":
        """A new set of chains with other random numbers; what is carried begins at the top."""
        height = self._tiles.rows + len(self._tiles.ghosts) + 2  # a spare one for writing, and one of zeros
        self._rows, self._rng = aligned((height, CHAINS, WORDS)), rng.copy()
        self._scratch = aligned((SCRATCH, WORDS))
        self._rows[:-2, CARRIED] = ALL
        self.spread()
        return self

    def another(self, rng: np.ndarray) -> "Coupled":
        """Chains of the same law that share nothing that changes."""
        return copy.copy(self).restart(rng)

    def spread(self) -> None:
        """Puts the top to all up and the bottom to all down."""
        self._rows[:-2, TOP], self._rows[:-2, BOTTOM] = ALL, 0

    def sweep(self, n: int) -> None:
        """Moves all three by n sweeps."""
        rows = self._rows.reshape(-1, WORDS)
        self._sweep(rows, self._rng, self._scratch, GROUP, n, *self._schedule, self._chances)

    def met(self) -> np.ndarray:
        """In which chains top and bottom are equal, bool, ``(chains,)``."""
        apart = aligned((1, WORDS))
        _compare(self._rows.reshape(-1, WORDS), self._tiles.rows, apart)
        lanes = np.unpackbits(apart.astype("<u8").view(np.uint8), bitorder="little").astype(np.int64)
        return self._tiles.per_chain(lanes[None]) == 0

    def rows(self, which: int = CARRIED) -> np.ndarray:
        """A copy of the configurations, those that are carried, ``TOP`` or ``BOTTOM``, as rows of lanes."""
        rows = aligned((len(self._rows), WORDS))
        rows[:] = self._rows[:, which]
        return rows

    def measure(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Total energy and magnetisation of configurations in rows, ``(chains,)`` each."""
        bonds, sites = self._pairs
        turned = self._turned_rows if self._turned.any() else np.empty(0, dtype=np.uint64)
        unequal = self._count(tally(rows, *bonds, np.empty(0, dtype=np.uint64)))
        magnetisation = 2.0 * self._count(tally(rows, *sites, turned)) - self.n_sites
        energy = -abs(self._J) * (self._bonds - 2.0 * unequal) - self._h * magnetisation
        return energy, magnetisation

    def bits(self, rows: np.ndarray) -> np.ndarray:
        """Configurations in rows, packed as :mod:`ising.kernels.bits` says, ``(chains, ceil(N/8))``."""
        return self._tiles.unpack(rows[None, : self._tiles.rows]) ^ self._turned

    def _count(self, planes: np.ndarray) -> np.ndarray:
        return self._tiles.per_chain(lane_counts(planes[None]))


def _thresholds(beta: float, J: float, h: float, degrees: np.ndarray, z: int, symmetric: bool) -> np.ndarray:
    """What u is compared with, by degree and n: rows ``(degrees * thresholds * 64, 8)``.

    The first digits of u number :math:`2^k` cells. Whole cells are given to the spins that need n neighbours
    up and not n - 1; in the few cells left over new digits are compared with what was not given away. The
    first 8 rows of a threshold are the digits of its cells, the others those of the second comparison.
    """
    n = np.arange((z + 1) // 2 if symmetric else z + 1)
    field = J * (2 * np.minimum(n, degrees[:, None]) - degrees[:, None]) + h
    q = (1 + symmetric) * np.exp(-np.logaddexp(0, -2 * beta * field))
    first, spare = cells(len(n), symmetric)
    given = np.floor(2**first * np.diff(q, axis=1, prepend=0)).cumsum(1)
    given = np.minimum(given, 2**first - 2**spare) / 2**first
    rest = np.maximum.accumulate((q - given) * 2.0 ** (first - spare), axis=1)
    whole, rest = (digits(x[..., None, None])[..., 0, :] for x in (given, rest))
    rows = aligned((q.size * DIGITS, WORDS))
    rows[:] = np.concatenate([whole[:, :, :FIRST_ROWS], rest[:, :, :-FIRST_ROWS]], axis=2).reshape(-1, WORDS)
    return rows


def _schedule(layout: tiles.Tiles) -> tuple[np.ndarray, ...]:
    """Groups of rows in the order of their updates, see :mod:`ising.kernels.schedule`.

    Returns:
        The rows, ``(16 groups,)``; their neighbours ``(16 groups, z)``; the place of the degree of each
        group; where each colour ends; the ghosts, and where those of each colour end. Rows are the top's.
    """
    order, kinds, ends = schedule.groups(layout)
    zeros = layout.rows + len(layout.ghosts) + 1  # what is not there is not up
    neighbours = np.full((zeros, max(2, layout.neighbours.shape[1])), zeros)
    there = np.where(layout.neighbours == tiles.NOWHERE, zeros, layout.neighbours)
    neighbours[: layout.rows, : there.shape[1]] = there
    ghosts, ghost_ends = schedule.ghosts(layout)
    return (
        (CHAINS * order).astype(np.int32),
        np.ascontiguousarray(CHAINS * neighbours[order], dtype=np.int32),
        kinds,
        ends,
        ghosts * [CHAINS, 1, 1, CHAINS],
        ghost_ends,
    )


@bare
def _compare(rows, n, apart):
    """Where top and bottom differ in any row."""
    for p in range(PARTS):
        own, differ = part(rows, p), splat(np.uint64(0))
        for row in range(n):
            differ = logic(differ, load(own, CHAINS * row), load(own, CHAINS * row + 1), OR_DIFFER)
        store(part(apart, p), 0, differ)
