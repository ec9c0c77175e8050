"""Spin glasses: the law of the disorder, exact disorder averages, overlaps against enumeration.

False alarms: 7e-6 for each |z| < 4.5, about 10 of them on fixed seeds; all else is exact.
"""

import json
import math

import numpy as np
import pytest
import torch

from ising import exact, glasses, lattices
from ising.model import Ising, restore
from ising.stats import Estimate

SQUARE = lattices.square(4)
SMALL = lattices.square(3)
DISORDERS = range(300)


def average(values: list[float]) -> Estimate:
    return Estimate(float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values)))


def nishimori_energy(kind: str, **law: float) -> Estimate:
    """The energy at the inverse temperature of the Nishimori line, averaged over the disorder."""
    beta = 0.5 * math.log(4) if kind == "bimodal" else 0.7 / 1.3**2
    drawn = (getattr(glasses, kind)(SMALL, seed, **law) for seed in DISORDERS)
    return average([9 * exact.enumerate_observables(glass, beta)["energy"] for glass in drawn])


def test_the_law_of_the_couplings():
    lattice = lattices.square(100)
    for fraction in (0.5, 0.2):
        J = glasses.bimodal(lattice, 1, fraction=fraction, J=1.5).bond_couplings
        assert J.unique().tolist() == [-1.5, 1.5]
        share = (J > 0).double().mean()
        assert abs(share - fraction) < 4.5 * math.sqrt(fraction * (1 - fraction) / len(J))
    J = glasses.gaussian(lattice, 1, mean=0.5, width=2.0).bond_couplings
    assert abs(J.mean() - 0.5) < 4.5 * 2 / math.sqrt(len(J))
    assert abs(J.std() - 2.0) < 4.5 * 2 / math.sqrt(2 * len(J))


def test_the_energy_on_the_nishimori_line():
    """Exact on any lattice, for a fraction 4/5 of ferromagnetic bonds, and for a Gaussian of mean 0.7."""
    assert nishimori_energy("bimodal", fraction=0.8).sigmas_from(-18 * math.tanh(0.5 * math.log(4))) < 4.5
    assert nishimori_energy("gaussian", mean=0.7, width=1.3).sigmas_from(-18 * 0.7) < 4.5


def test_another_fraction_or_width_is_off_the_line():
    assert nishimori_energy("bimodal", fraction=0.7).sigmas_from(-18 * math.tanh(0.5 * math.log(4))) > 5
    assert nishimori_energy("gaussian", mean=0.7, width=1.6).sigmas_from(-18 * 0.7) > 5


def test_energy_and_link_overlap_of_the_gaussian_glass():
    r"""Integration by parts over couplings of width one: :math:`[E] = -\beta B (1 - [q_l])`."""
    beta, energies, links = 1.2, [], []
    i, j = SMALL.edges.T
    for seed in DISORDERS:
        glass = glasses.gaussian(SMALL, seed)
        bonds = exact.correlation(glass, beta)[i, j]
        energies.append(-float(glass.bond_couplings @ bonds))
        links.append(float((bonds**2).mean()))
    E, q_l = np.array(energies), np.array(links)
    assert average(E + beta * 18 * (1 - q_l)).sigmas_from(0.0) < 4.5
    assert average(E + beta * 18).sigmas_from(0.0) > 10


def test_the_ground_state_of_a_gauge_transformed_ferromagnet():
    """Turning spins over with their bonds changes no energy: a glass in which nothing is frustrated."""
    signs = torch.from_numpy(np.random.default_rng(3).choice([-1.0, 1.0], 16))
    i, j = SQUARE.edges.T
    hidden = Ising(SQUARE, J=signs[i] * signs[j])
    energies = hidden.energy(exact.states(16))
    assert energies.min() == -32
    assert set(map(tuple, exact.states(16)[energies == -32].tolist())) == {
        tuple(signs.tolist()),
        tuple((-signs).tolist()),
    }


def test_ground_states_of_the_bimodal_glass_follow_from_its_frustrated_plaquettes():
    """Each of F frustrated plaquettes leaves at least half a bond of its own unsatisfied, and F is even."""
    plaquettes = [
        [(x, y, 0), (x, (y + 1) % 4, 1), ((x + 1) % 4, y, 0), (x, y, 1)] for x in range(4) for y in range(4)
    ]
    bond = {}
    for number, (i, j) in enumerate(SQUARE.edges.tolist()):
        horizontal = j == i // 4 * 4 + (i + 1) % 4
        bond[i // 4, i % 4, 0 if horizontal else 1] = number
    for seed in range(12):
        glass = glasses.bimodal(SQUARE, seed)
        J = glass.bond_couplings
        frustrated = sum(float(J[[bond[b] for b in p]].prod()) < 0 for p in plaquettes)
        ground = float(glass.energy(exact.states(16)).min())
        assert frustrated % 2 == 0
        assert ground >= -32 + frustrated
        assert (ground == -32) <= (frustrated == 0)


def test_overlaps_of_enumerated_replicas():
    """Mean q and q_l of all pairs of two Boltzmann laws are those of the enumerated correlations."""
    glass, beta = glasses.gaussian(lattices.square(3), 4, h=0.3), 0.8
    states, p = exact.states(9), exact.boltzmann(glass, beta)
    a = states.to(torch.int8).numpy().repeat(512, axis=0)
    b = np.tile(states.to(torch.int8).numpy(), (512, 1))
    weight = torch.outer(p, p).flatten().numpy()
    G = exact.correlation(glass, beta).numpy()
    m = (p @ states).numpy()
    i, j = glass.lattice.edges.T.numpy()
    assert weight @ glasses.overlap(a, b) == pytest.approx((m**2).mean(), rel=1e-12)
    assert weight @ glasses.overlap(a, b) ** 2 == pytest.approx((G**2).mean(), rel=1e-12)
    assert weight @ glasses.link_overlap(a, b, glass.lattice) == pytest.approx(
        (G[i, j] ** 2).mean(), rel=1e-12
    )


@pytest.mark.parametrize("kind", ["bimodal", "gaussian"])
def test_a_glass_is_written_down_and_restored(kind):
    glass = getattr(glasses, kind)(SQUARE, 7, h=0.25)
    again = restore(**json.loads(json.dumps(glass.describe())))
    assert again.bond_couplings.equal(glass.bond_couplings)
    assert again.h == 0.25


def test_the_seed_decides_the_disorder():
    for kind in (glasses.bimodal, glasses.gaussian):
        first, again, other = (kind(SQUARE, seed).bond_couplings for seed in (1, 1, 2))
        assert first.equal(again)
        assert not first.equal(other)
    same_signs = (glasses.bimodal(SQUARE, 1).bond_couplings * glasses.gaussian(SQUARE, 1).bond_couplings) > 0
    assert 5 < int(same_signs.sum()) < 27  # one seed, two independent draws; the seed is fixed


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="fraction is the probability"):
        glasses.bimodal(SQUARE, 1, fraction=1.5)
    with pytest.raises(ValueError, match="width is a standard deviation"):
        glasses.gaussian(SQUARE, 1, width=-1.0)
    with pytest.raises(ValueError, match="two replicas have the same shape"):
        glasses.overlap(np.ones(4), np.ones((2, 4)))
