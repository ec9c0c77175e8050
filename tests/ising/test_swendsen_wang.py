"""The 64 bonds at a time of the Swendsen-Wang kernel: which are active, what is connected, energies.

False alarms: the labels are exact, but for an active bond that is drawn as none once in 2**32 times (about
3e4 bonds: 1e-5, on fixed seeds); 1e-5 for the p-values and 4.5 standard errors, 7e-6, for each of three
estimates: 1 in 20 000 new sets of seeds.
"""

import math

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import chi2

from ising import exact, kernels, lattices, stats
from ising.kernels import bonds
from ising.kernels.xoshiro import jit
from ising.lattices import Lattice
from ising.model import Ising
from tests.checks import FALSE_ALARM

LATTICES = {
    "open chain": lattices.chain(200, pbc=False),
    "ring": lattices.chain(63),
    "square": lattices.square(64),
    "small square": lattices.square(6),
    "rectangle": lattices.rectangular(14, 50),
    "cylinder": lattices.square(33, pbc=(True, False)),
    "honeycomb": lattices.honeycomb(20),
    "triangular": lattices.triangular(17),
    "cubic": lattices.cubic(7),
}
CERTAIN = 100.0  # a coupling of this strength makes a bond with probability 1 - 2**-32


def labels(lattice: Lattice, J: np.ndarray, spins: np.ndarray) -> np.ndarray:
    """Of one sweep, ``(N,)``."""
    model = Ising(lattice, J=torch.from_numpy(J))
    seed = np.random.SeedSequence(1)
    return kernels.SwendsenWang(model, "swendsen_wang", 1.0, spins[None], seed).clusters()[0]


def components(lattice: Lattice, active: np.ndarray) -> np.ndarray:
    """The first site of the connected component of each site, ``(N,)``, if these bonds are active."""
    i, j = lattice.edges.numpy()[active].T
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(lattice.n_sites, lattice.n_sites))
    component = connected_components(graph, directed=False)[1]
    return np.unique(component, return_index=True)[1][component]


@pytest.mark.parametrize("density", [0.02, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("name", LATTICES)
def test_labels_are_connected_components(name, density):
    """Bonds are certain, some of them satisfied, or have no strength. The control loses one bond."""
    lattice, rng = LATTICES[name], np.random.default_rng(1)
    spins = rng.choice(np.array([-1, 1], dtype=np.int8), lattice.n_sites)
    J = CERTAIN * rng.choice([-1.0, 1.0], len(lattice.edges))
    satisfied = J * spins[lattice.edges.numpy()].prod(1) > 0
    active = rng.random(len(J)) < density
    J[satisfied] *= active[satisfied]
    expected, held = components(lattice, active & satisfied), np.flatnonzero(active & satisfied)
    np.testing.assert_array_equal(labels(lattice, J, spins), expected)
    for lost in held:
        J[lost], active[lost] = 0.0, False
        if (components(lattice, active & satisfied) != expected).any():
            break
    assert (labels(lattice, J, spins) != expected).any()


def test_parallel_bonds_are_one_of_their_sum():
    pair = np.array([[0, 1], [1, 0], [1, 2]])
    made = bonds.grouped(pair, np.array([1.0, -3.0, 0.0]), np.zeros(3))
    assert made.there[0] == made.against[0] == 0b10
    assert made.weights[made.row[0], 1] == 2.0


@jit
def _active(asked, digits, rng, words):
    found = np.empty(words, dtype=np.uint64)
    s0, s1, s2, s3 = rng
    for i in range(words):
        found[i], s0, s1, s2, s3 = bonds.active(asked, digits, np.uint64(0), s0, s1, s2, s3)
    return found


def drawn(p: np.ndarray, asked: int, words: int) -> np.ndarray:
    """Which of 64 bonds are active, bool, ``(words, 64)``."""
    digits = bonds.probability_digits(-0.5 * np.log1p(-p))[None]
    bits = _active(np.uint64(asked), digits, np.random.SeedSequence(1).generate_state(4, np.uint64), words)
    return np.unpackbits(bits.view(np.uint8), bitorder="little").reshape(-1, 64)


def test_bonds_are_active_with_their_probability():
    """64 different ones at once, by their sum of squared deviations; the control is off by 0.01."""
    p, words = (np.arange(64) + 0.5) / 64, 40_000
    yes = drawn(p, 2**64 - 1, words)

    def p_value(p: np.ndarray) -> float:
        return chi2.sf(((yes.mean(0) - p) ** 2 / (p * (1 - p) / words)).sum(), 64)

    assert p_value(p) > FALSE_ALARM
    assert p_value(np.clip(p + 0.01, 0, 0.999)) < FALSE_ALARM


def test_bonds_are_independent():
    """The correlations of 2016 pairs in one word, and of all with the word before; a control shares bits."""
    yes = drawn(np.full(64, 0.6), 2**64 - 1, 40_000).astype(np.float64)

    def p_value(yes: np.ndarray) -> float:
        both = np.corrcoef(yes[1:].T, yes[:-1].T)
        z2 = len(yes) * np.concatenate([both[:64, :64][np.triu_indices(64, 1)], both[:64, 64:].ravel()]) ** 2
        return chi2.sf(z2.sum(), len(z2))

    assert p_value(yes) > FALSE_ALARM
    shared = yes.copy()
    shared[:, 1] = np.where(np.arange(len(yes)) % 4, yes[:, 1], yes[:, 0])
    assert p_value(shared) < FALSE_ALARM


def test_only_bonds_that_are_asked_are_active():
    asked = 0x0123456789ABCDEF
    there = np.array([asked >> k & 1 for k in range(64)])
    assert (drawn(np.full(64, 0.5), asked, 100) <= there).all()


@pytest.mark.parametrize("exponent", [0.0, 1e-9, 0.3, 1.0, 20.0, 1e6])
def test_probabilities_have_32_digits(exponent):
    digits = bonds.probability_digits(np.full(64, exponent))
    assert set(digits.tolist()) <= {0, 2**64 - 1}
    value = sum(2.0 ** -(k + 1) for k, digit in enumerate(digits) if digit)
    assert abs(value + math.expm1(-2 * exponent)) <= 2.0**-32


def mean_energy(model: Ising, beta: float, start: np.ndarray, sweeps: int) -> stats.Estimate:
    """Per site, after a burn-in of 100 sweeps."""
    sampler = kernels.SwendsenWang(model, "swendsen_wang", beta, start, np.random.SeedSequence(1))
    sampler.sweep(100)
    series = []
    for _ in range(sweeps):
        sampler.sweep(1)
        series.append(sampler.measure()[0] / model.lattice.n_sites)
    return stats.mean(np.stack(series, axis=-1))


@pytest.mark.parametrize("J", [1.0, -1.0])
def test_the_energy_of_a_rectangle_is_kaufmans(J):
    """Of 700 sites, no multiple of 64; plus and minus J, gauged, are the same law. Off by 1 % is seen."""
    lattice, beta = LATTICES["rectangle"], 0.43
    sign = np.random.default_rng(1).choice(np.array([-1, 1], dtype=np.int8), lattice.n_sites)
    gauge = sign if J < 0 else np.ones_like(sign)
    couplings = gauge[lattice.edges.numpy()].prod(1).astype(np.float64)
    model = Ising(lattice, J=torch.from_numpy(couplings))
    energy = mean_energy(model, beta, np.tile(gauge, (40, 1)), 400)
    assert energy.sigmas_from(exact.kaufman_energy(14, 50, beta)) < 4.5
    assert energy.sigmas_from(exact.kaufman_energy(14, 50, 0.99 * beta)) > 4.5


def test_the_energy_of_a_random_ring_in_a_random_field():
    """Of three words, every probability another one. Fields and couplings off by 3 % are seen."""
    ring, beta, generator = lattices.chain(150), 0.7, torch.Generator().manual_seed(1)
    J, h = torch.randn(2, 150, generator=generator, dtype=torch.float64)
    energy = mean_energy(Ising(ring, J=J, h=h), beta, np.ones((100, 150), dtype=np.int8), 400)
    in_order = J[ring.edges[:, 0].argsort()]
    assert energy.sigmas_from(exact.chain_energy(150, beta, in_order, h)) < 4.5
    assert energy.sigmas_from(exact.chain_energy(150, beta, in_order, 0.97 * h)) > 4.5
    assert energy.sigmas_from(exact.chain_energy(150, beta, 0.97 * in_order, h)) > 4.5


def test_clusters_in_a_field_are_refused():
    sampler = kernels.SwendsenWang(
        Ising(lattices.chain(4), h=0.1), "swendsen_wang", 1.0, np.ones((1, 4)), np.random.SeedSequence(1)
    )
    with pytest.raises(ValueError, match="without a field only"):
        sampler.clusters()
