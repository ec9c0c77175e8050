"""Which spin sits in which bit: chains side by side, and where these are few, tiles of a lattice as well.

A row of 512 bits holds one site of 512 chains, or of fewer chains the sites that lie alike in the tiles into
which each chain's lattice is cut. Then one kernel serves many small lattices and one big one. A neighbour in
another tile is a row whose bits are rotated from tile to tile: it is kept as a copy, a ghost.

Tiles split the last axis (within words) and the first (among words). They must be alike in bonds, signs and
colours; lattices that are not, such as open ones, are not cut.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..model import Ising
from . import bits
from .chances import GROUP
from .lanes import LANES, WORDS, aligned

NOWHERE = -1
POWERS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, eq=False)
class Tiles:
    """A model laid out in rows of lanes.

    Attributes:
        chains: How many there are.
        cuts: Tiles along the first axis, at most 8, and along the last, at most 64; powers of two.
        sites: Number of each site by tile and row, shape ``(tiles, rows)``.
        neighbours: Rows, or ghosts numbered after the rows, ``(rows, z)``; ``NOWHERE`` where there is none.
        against: Whether the bond to that neighbour has J < 0, shape ``(rows, z)``.
        ghosts: Row, words and bits by which it is rotated, shape ``(ghosts, 3)``.
        colours: Colour of each row.
    """

    chains: int
    cuts: tuple[int, int]
    sites: np.ndarray
    neighbours: np.ndarray
    against: np.ndarray
    ghosts: np.ndarray
    colours: np.ndarray

    @property
    def rows(self) -> int:
        return self.sites.shape[1]

    @property
    def degree(self) -> np.ndarray:
        """How many neighbours each row has."""
        return (self.neighbours != NOWHERE).sum(1)

    @property
    def columns(self) -> int:
        """Rows needed side by side for all chains."""
        return -(-self.chains * math.prod(self.cuts) // LANES)

    @cached_property
    def lanes(self) -> tuple[np.ndarray, np.ndarray]:
        """Tile and chain of every lane, ``(columns, 512)``; lanes not needed repeat earlier chains."""
        word, bit = np.divmod(np.arange(LANES), 64)
        words, lanes = WORDS // self.cuts[0], 64 // self.cuts[1]  # of one tile
        tile = word // words * self.cuts[1] + bit // lanes
        chain = word % words * lanes + bit % lanes
        chain = chain + words * lanes * np.arange(self.columns)[:, None]
        return np.broadcast_to(tile, chain.shape), chain % self.chains

    @cached_property
    def counted(self) -> np.ndarray:
        """The lanes that do not repeat a chain, bool, ``(columns, 512)``."""
        seen = self.lanes[1] * len(self.sites) + self.lanes[0]
        first = np.zeros(seen.shape, dtype=bool)
        first.reshape(-1)[np.unique(seen, return_index=True)[1]] = True
        return first

    @property
    def used(self) -> np.ndarray:
        """The lanes that do not repeat a chain, as rows of bits ``(columns, 8)``."""
        return _words(self.counted)

    def pack(self, spins: np.ndarray) -> np.ndarray:
        """``(chains, N)`` spins to ``(columns, rows, 8)`` words."""
        packed = aligned((self.columns, self.rows, WORDS))
        for column, tile, chain in zip(packed, *self.lanes, strict=True):
            up = np.empty((self.rows, LANES), dtype=bool)
            for t in range(len(self.sites)):
                here = tile == t
                up[:, here] = (spins[np.ix_(chain[here], self.sites[t])] > 0).T
            column[:] = _words(up)
        return packed

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`pack`: ``(columns, rows, 8)`` words to bits ``(chains, ceil(N/8))``."""
        if len(self.sites) == 1:
            return np.concatenate([bits.transpose(column) for column in packed])[: self.chains]
        up = np.empty((self.chains, self.sites.size), dtype=bool)
        for column, tile, chain, counted in zip(packed, *self.lanes, self.counted, strict=True):
            lanes = np.unpackbits(bits.transpose(column), axis=1, count=self.rows).view(bool)
            for t in range(len(self.sites)):
                here = (tile == t) & counted
                up[chain[here][:, None], self.sites[t]] = lanes[here]
        return np.packbits(up, axis=-1)

    def per_chain(self, counts: np.ndarray) -> np.ndarray:
        """Adds up ``(columns, 512)`` numbers over the tiles of each chain, ``(chains,)``."""
        cuts = self.cuts
        counts = counts.reshape(-1, cuts[0], WORDS // cuts[0], cuts[1], 64 // cuts[1])
        return counts.sum((1, 3)).reshape(-1)[: self.chains]


def best(model: Ising, chains: int) -> Tiles:
    """The layout with the fewest rows to update in a sweep, and of several the one with the fewest tiles."""
    colours, n_sites = len(model.lattice.colour_classes), model.lattice.n_sites

    def rows(cuts: tuple[int, int]) -> int:
        tiles = math.prod(cuts)
        return -(-chains * tiles // LANES) * -(-n_sites // (tiles * colours * GROUP))

    for cuts in sorted(itertools.product(POWERS[:4], POWERS), key=lambda cuts: (rows(cuts), math.prod(cuts))):
        if (tiles := cut(model, chains, cuts)) is not None:
            return tiles
    raise AssertionError("one tile always fits")


def cut(model: Ising, chains: int, cuts: tuple[int, int]) -> Tiles | None:
    """The layout with so many tiles along the first and the last axis; None where they would not be alike."""
    shape = model.lattice.shape
    first, last = (1, shape[0]) if len(shape) == 1 else (shape[0], shape[-1])
    if first % cuts[0] or last % cuts[1]:
        return None
    inner = math.prod(shape) // (first * last)
    split = (cuts[0], first // cuts[0], inner, cuts[1], last // cuts[1])
    order = np.arange(math.prod(shape)).reshape(split).transpose(0, 3, 1, 2, 4)
    sites = order.reshape(math.prod(cuts), -1)
    tile, row = np.empty((2, sites.size), dtype=np.int64)
    tile[sites], row[sites] = np.indices(sites.shape)

    table, bonds = (x.numpy() for x in model.lattice.neighbours)
    missing = bonds == len(model.lattice.edges)
    signs = model.neighbour_couplings.numpy() < 0
    there = np.stack(np.divmod(tile[table], cuts[1])) - np.stack(np.divmod(tile, cuts[1]))[..., None]
    shift = there % np.array(cuts)[:, None, None]
    key = ((row[table] * cuts[0] + shift[0]) * cuts[1] + shift[1]) * 2 + signs
    key = np.sort(np.where(missing, NOWHERE, key), axis=-1)[sites]  # (tiles, rows, z)
    colours = model.lattice.colours.numpy()[sites]
    if (key != key[0]).any() or (colours != colours[0]).any():
        return None
    target, against = np.divmod(key[0], 2)
    rotated = (target % math.prod(cuts) > 0) & (key[0] != NOWHERE)
    kinds, ghost = np.unique(target[rotated], return_inverse=True)
    neighbours = np.where(key[0] == NOWHERE, NOWHERE, target // math.prod(cuts))
    neighbours[rotated] = sites.shape[1] + ghost
    words, lanes = np.divmod(kinds % math.prod(cuts), cuts[1])
    ghosts = np.stack([kinds // math.prod(cuts), words * (WORDS // cuts[0]), lanes * (64 // cuts[1])], -1)
    against = against.astype(bool) & (key[0] != NOWHERE)
    return Tiles(chains, cuts, sites, neighbours, against, ghosts, colours[0])


def _words(lanes: np.ndarray) -> np.ndarray:
    """Booleans ``(*, 512)`` to words ``(*, 8)``."""
    octets = np.packbits(lanes, axis=-1, bitorder="little")
    return np.ascontiguousarray(octets).view("<u8").astype(np.uint64)
