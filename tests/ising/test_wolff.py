"""The 64 sites at a time of the Wolff kernel: a cluster is the connected component of its root.

False alarms: as in test_swendsen_wang.py, but for a certain bond that is missed, about once in 1e6 new seeds.
"""

import numpy as np
import pytest
import torch

from ising import kernels
from ising.model import Ising
from tests.ising.test_swendsen_wang import CERTAIN, LATTICES, components

CLUSTERS = 12


def turned(lattice, J, spins, h=0.0):
    """Which sites turn with each of a few clusters, and the spins before it, ``(n, N)`` each."""
    seed = np.random.SeedSequence(1)
    sampler = kernels.Wolff(Ising(lattice, J=torch.from_numpy(J), h=h), "wolff", 1.0, spins[None], seed)
    before = [sampler.spins()[0]]
    for _ in range(CLUSTERS):
        sampler.sweep(1)
        before.append(sampler.spins()[0])
    before = np.array(before)
    return before[1:] != before[:-1], before[:-1]


def whole(lattice, J, spins, turns):
    """Whether the sites that turn are one connected component of the satisfied bonds."""
    satisfied = J * spins[lattice.edges.numpy()].prod(1) > 0
    component = components(lattice, satisfied)
    return turns.any() and (turns == (component == component[turns.argmax()])).all()


@pytest.mark.parametrize("density", [0.02, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("name", LATTICES)
def test_a_cluster_is_a_connected_component(name, density):
    """Bonds are certain or have no strength. The control has one site more or less."""
    lattice, rng = LATTICES[name], np.random.default_rng(1)
    spins = rng.choice(np.array([-1, 1], dtype=np.int8), lattice.n_sites)
    J = CERTAIN * rng.choice([-1.0, 1.0], len(lattice.edges)) * (rng.random(len(lattice.edges)) < density)
    turns, before = turned(lattice, J, spins)
    assert all(whole(lattice, J, s, t) for s, t in zip(before, turns, strict=True))
    site = rng.integers(lattice.n_sites, size=CLUSTERS)
    turns[range(CLUSTERS), site] ^= True
    assert not any(whole(lattice, J, s, t) for s, t in zip(before, turns, strict=True))


def test_the_root_is_any_site():
    """Without bonds clusters are single sites."""
    lattice = LATTICES["rectangle"]
    seed = np.random.SeedSequence(1)
    start = np.ones((4000, lattice.n_sites), dtype=np.int8)
    sampler = kernels.Wolff(Ising(lattice), "wolff", 0.0, start, seed)
    assert sampler.sweep(1) == 1 / lattice.n_sites
    hits = (sampler.spins() < 0).sum(0)
    assert hits.sum() == 4000
    assert abs(((hits - 4000 / 700) ** 2 / (4000 / 700)).sum() - 699) < 5 * np.sqrt(2 * 699)


@pytest.mark.parametrize("h", [1e3, -1e3])
def test_what_is_tied_to_the_ghost_spin_stays(h):
    lattice, rng = LATTICES["square"], np.random.default_rng(2)
    spins = rng.choice(np.array([-1, 1], dtype=np.int8), lattice.n_sites)
    turns, before = turned(lattice, np.full(len(lattice.edges), 0.1), spins, h)
    assert turns.any()
    assert (before[turns] * h < 0).all()
