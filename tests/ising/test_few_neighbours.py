"""Metropolis where a flip is free with a single unsatisfied bond: chains, and the corners of open lattices.

False alarms: 4.5 standard errors for each of 6 energies and 2 flip counts (7e-6 each): 1 in 18,000 new seeds.
"""

import math

import numpy as np
import pytest

from ising import exact, kernels, lattices
from ising.model import Ising
from ising.updates.metropolis import LAZINESS

LATTICES = {
    "chain": lattices.chain(8),
    "open chain": lattices.chain(8, pbc=False),
    "open square": lattices.square(3, pbc=False),
}


def sampler(model: Ising, beta: float, spins: np.ndarray) -> kernels.Multispin:
    return kernels.Multispin(model, "metropolis", beta, spins, np.random.SeedSequence(1))


@pytest.mark.parametrize("J", [1.0, -1.0])
@pytest.mark.parametrize("name", LATTICES)
def test_it_reaches_the_exact_energy_from_the_ordered_state(name, J):
    model, chains = Ising(LATTICES[name], J=J), 4096
    after = sampler(model, 0.5, np.ones((chains, model.lattice.n_sites), dtype=np.int8))
    after.sweep(200)
    energy = after.measure()[0]
    exactly = exact.enumerate_observables(model, 0.5)["energy"] * model.lattice.n_sites
    assert abs(energy.mean() - exactly) < 4.5 * energy.std() / math.sqrt(chains)


@pytest.mark.parametrize("site", [0, 2])
def test_a_corner_with_one_unsatisfied_bond_flips_freely(site):
    """All other sites are up: 3 by 3 sites, of which one neighbour of each corner is turned over."""
    model, chains = Ising(LATTICES["open square"]), 4096
    spins = np.ones((chains, 9), dtype=np.int8)
    spins[:, 1] = -1
    first = model.lattice.colour_classes[0].tolist()
    assert site in first
    after = sampler(model, 0.5, spins)
    after.sweep(1)
    flipped = int((after.spins()[:, site] == -1).sum())
    spread = math.sqrt(chains * LAZINESS * (1 - LAZINESS))
    assert abs(flipped - chains * LAZINESS) < 4.5 * spread
