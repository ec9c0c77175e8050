"""The flood of the bit-parallel Wolff kernel marks the connected component of its seed, in all 512 lanes.

Exact: there is no false alarm.
"""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ising import lattices
from ising.kernels import parallel_wolff
from ising.kernels.lanes import LANES, WORDS, aligned
from ising.lattices import Lattice
from ising.model import Ising

LATTICES = {
    "chain": lattices.chain(63),
    "open": lattices.square(9, pbc=False),
    "square": lattices.square(32),
    "honeycomb": lattices.honeycomb(6),
    "triangular": lattices.triangular(9),
    "cubic": lattices.cubic(8),
}


def rows(lanes: np.ndarray) -> np.ndarray:
    """Booleans ``(n, 512)`` as rows of bits, and a row of zeros."""
    packed = aligned((len(lanes) + 1, WORDS))
    packed[:-1] = np.packbits(lanes, axis=-1, bitorder="little").view(np.uint64)
    return packed


def flooded(lattice: Lattice, seeds: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The sites marked by the flood, bool, ``(N, 512)``, from seeds ``(512,)`` along bonds ``(E, 512)``."""
    *_, before, there, bond, first, next_lines = parallel_wolff._graph(Ising(lattice))[0]
    marked = rows(np.arange(lattice.n_sites)[:, None] == seeds)
    dirty = np.empty(len(next_lines), dtype=np.uint8)
    parallel_wolff._flood(marked, rows(active), before, there, bond, first, next_lines, dirty)
    return np.unpackbits(marked[:-1].view(np.uint8), axis=-1, bitorder="little").astype(bool)


def components(lattice: Lattice, seeds: np.ndarray, active: np.ndarray) -> np.ndarray:
    """What :func:`flooded` should mark."""
    there = np.empty((lattice.n_sites, LANES), dtype=bool)
    for lane, seed in enumerate(seeds):
        i, j = lattice.edges[active[:, lane]].numpy().T
        graph = coo_array((np.ones(len(i)), (i, j)), shape=(lattice.n_sites, lattice.n_sites))
        label = connected_components(graph, directed=False)[1]
        there[:, lane] = label == label[seed]
    return there


@pytest.mark.parametrize("density", [0.002, 0.1, 0.4])
@pytest.mark.parametrize("name", LATTICES)
def test_it_marks_the_connected_component(name, density):
    lattice, rng = LATTICES[name], np.random.default_rng(1)
    seeds = rng.integers(0, lattice.n_sites, LANES)
    active = rng.random((len(lattice.edges), LANES)) < density
    np.testing.assert_array_equal(flooded(lattice, seeds, active), components(lattice, seeds, active))


@pytest.mark.parametrize("name", LATTICES)
def test_every_bond_alone_is_followed_from_both_ends(name):
    """Nothing else is marked that could make the flood look again at the line of the seed."""
    lattice = LATTICES[name]
    for number, ends in enumerate(lattice.edges.tolist()[:100]):
        for end in ends:
            active = np.zeros((len(lattice.edges), LANES), dtype=bool)
            active[number] = True
            marked = flooded(lattice, np.full(LANES, end), active)
            assert np.flatnonzero(marked.all(1)).tolist() == sorted(ends)
            assert marked.sum() == 2 * LANES
