"""Potts models: every update against enumeration, q = 2 against Ising, the critical energy, the chain.

False alarms: 1e-5 for each p-value, about 40 of them, and 7e-6 for each |z| < 4.5, about 60, on fixed seeds.
"""

import functools
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from ising import Ising, Potts, exact, glasses, lattices, potts, stats
from ising.equilibrium import NotEquilibrated
from ising.kernels import potts as kernels
from ising.lattices import Lattice
from tests.checks import FALSE_ALARM

BETA, DRAWS = 0.7, 6_000
DRAWN = np.random.default_rng(3).normal(size=(2, 18))
MODELS = {
    "q = 2": Potts(lattices.square(3), 2),
    "q = 3": Potts(lattices.square(3), 3),
    "q = 4": Potts(lattices.rectangular(3, 2, pbc=(True, False)), 4),
    "chain, q = 5": Potts(lattices.chain(5), 5, J=1.5),
    "random bonds": Potts(lattices.square(3), 3, J=np.abs(DRAWN[0])),
    "antiferromagnet": Potts(lattices.square(3), 3, J=-1.0),
    "glass": Potts(lattices.square(3), 3, J=DRAWN[1]),
}
CASES = [
    (update, name)
    for update, name in itertools.product(kernels.UPDATES, MODELS)
    if update != "swendsen_wang" or name not in ("antiferromagnet", "glass")
]


def equilibrium(model: Potts, beta: float, draws: int = DRAWS) -> np.ndarray:
    """Independent exact draws, int8, ``(draws, N)``."""
    law = exact.potts_boltzmann(model, beta)
    rows = torch.multinomial(law, draws, replacement=True, generator=torch.Generator().manual_seed(0))
    return exact.potts_states(model.lattice.n_sites, model.q)[rows].numpy()


def p_value(spins: np.ndarray, model: Potts, beta: float) -> float:
    """The smallest p-value, tripled, of three chi-squared tests.

    Over all states; over pairs of energy and largest population, which joins what symmetry does not tell
    apart; over pairs of states of the sites 0 and 1, which would show a state that is preferred.
    """
    places = model.q ** torch.arange(model.lattice.n_sites - 1, -1, -1)
    rows, law = torch.from_numpy(spins).long() @ places, exact.potts_boltzmann(model, beta)
    return 3 * min(_pearson(group, rows, law) for group in groups(model))


@functools.cache
def groups(model: Potts) -> tuple[Tensor, Tensor, Tensor]:
    """By state, by energy and largest population, by the states of two sites."""
    states = exact.potts_states(model.lattice.n_sites, model.q)
    largest = torch.stack([(states == k).sum(-1) for k in range(model.q)], dim=-1).amax(-1)
    key = 1000 * model.energy(states).round(decimals=6) + largest
    pair = model.q * states[:, 0].long() + states[:, 1]
    return torch.arange(len(states)), key.unique(return_inverse=True)[1], pair


def _pearson(group: Tensor, rows: Tensor, law: Tensor) -> float:
    """States that expect few draws share a bin with others of about the same probability."""
    counts = torch.bincount(group[rows], minlength=int(group.max()) + 1).double()
    expected = torch.zeros_like(counts).index_add_(0, group, law) * len(rows)
    order = expected.argsort()
    bins = (expected[order].cumsum(0) / 10).long().unique(return_inverse=True)[1]  # 10 draws in each, or more
    pooled = (
        torch.zeros(int(bins.max()) + 1).double().index_add_(0, bins, x[order]) for x in (counts, expected)
    )
    return float(chisquare(*(x.numpy() for x in pooled)).pvalue)


def swept(update: str, model: Potts, beta: float, spins: np.ndarray, sweeps: int) -> np.ndarray:
    sampler = model.sampler(beta, update, spins, np.random.SeedSequence(1))
    sampler.sweep(sweeps)
    return sampler.spins()


def invariance(update: str, model: Potts, beta: float = BETA) -> float:
    return p_value(swept(update, model, beta, equilibrium(model, beta), 2), model, beta)


def self_dual(rings: int, length: int) -> Lattice:
    """Rings around a hub, joined by spokes: a planar graph that is its own dual."""
    ring = torch.arange(rings * length).reshape(rings, length)
    hub = torch.full((length,), rings * length)
    outwards = torch.cat([hub.unsqueeze(0), ring[:-1]])
    around = torch.stack([ring, ring.roll(-1, 1)], dim=-1).reshape(-1, 2)
    spokes = torch.stack([outwards, ring], dim=-1).reshape(-1, 2)
    return Lattice((rings * length + 1,), (False,), torch.cat([around, spokes]))


@pytest.mark.parametrize(("update", "name"), CASES)
def test_the_boltzmann_law_is_invariant(update, name):
    assert invariance(update, MODELS[name]) > FALSE_ALARM


@pytest.mark.parametrize("update", kernels.UPDATES)
def test_it_converges_from_a_start_far_away(update):
    """Invariance alone would pass an update that does nothing."""
    model = MODELS["q = 3"]
    start = np.zeros((DRAWS, 9), dtype=np.int8)
    assert p_value(swept(update, model, 0.5, start, 40), model, 0.5) > FALSE_ALARM


def test_the_check_has_power():
    """Draws at a temperature seven percent away, moved by a correct update, are refused."""
    model = MODELS["q = 3"]
    spins = swept("heat_bath", model, BETA * 1.07, equilibrium(model, BETA * 1.07), 1)
    assert p_value(spins, model, BETA) < FALSE_ALARM


@pytest.mark.parametrize("update", kernels.UPDATES)
def test_wrong_probabilities_are_caught(update):
    """The couplings of the site, or the bond probabilities, off by a tenth; a lost bond; a missing state."""
    model, spins = MODELS["q = 3"], equilibrium(MODELS["q = 3"], BETA)
    lost = replace(model, lattice=replace(model.lattice, edges=model.lattice.edges[1:]))
    assert p_value(swept(update, lost, BETA, spins, 3), model, BETA) < FALSE_ALARM
    sampler = model.sampler(BETA, update, spins, np.random.SeedSequence(1))
    if update in ("wolff", "swendsen_wang"):
        sampler._active = 1.1 * sampler._active
    else:
        sampler._K = 1.1 * sampler._K
    sampler.sweep(3)
    assert p_value(sampler.spins(), model, BETA) < FALSE_ALARM


@pytest.mark.parametrize("update", ["metropolis", "heat_bath", "swendsen_wang"])
def test_a_state_that_is_never_proposed_is_caught(update):
    model = MODELS["q = 4"]
    sampler = model.sampler(BETA, update, equilibrium(model, BETA) % 3, np.random.SeedSequence(1))
    sampler._q = 3
    sampler.sweep(3)
    assert p_value(sampler.spins(), model, BETA) < FALSE_ALARM


@pytest.mark.parametrize("name", ["q = 2", "q = 3", "q = 4", "glass"])
@pytest.mark.parametrize("update", ["metropolis", "wolff"])
def test_averages_are_the_enumerated_ones(update, name):
    model = MODELS[name]
    run = potts.simulate(model, beta=BETA, update=update, samples=150, seed=2)
    for observable, expected in exact.potts_observables(model, BETA).items():
        assert run.observables()[observable].sigmas_from(expected) < 4.5, observable
    np.testing.assert_allclose(run.energies, model.energy(torch.from_numpy(run.spins)).numpy(), atol=1e-12)
    counted = np.stack([(run.spins == k).sum(-1) for k in range(model.q)], axis=-1)
    np.testing.assert_array_equal(run.populations, counted)


def test_two_states_are_ising():
    """At twice the coupling: the same law, state by state, and the same observables, u4 and chi included."""
    glass = glasses.gaussian(lattices.square(3), 1)
    model = Potts(glass.lattice, 2, J=2 * glass.bond_couplings)
    states = exact.states(9)
    assert exact.potts_states(9, 2).equal(((states + 1) / 2).to(torch.int8))
    torch.testing.assert_close(exact.potts_boltzmann(model, 0.6), exact.boltzmann(glass, 0.6))
    torch.testing.assert_close(
        model.energy(exact.potts_states(9, 2)), glass.energy(states) - glass.bond_couplings.sum()
    )
    ising = exact.enumerate_observables(glass, 0.6)
    for name, value in exact.potts_observables(model, 0.6).items():
        shift = float(glass.bond_couplings.sum()) / 9 if name == "energy" else 0.0
        assert value + shift == pytest.approx(ising[name], rel=1e-9), name


@pytest.mark.parametrize("update", ["heat_bath", "swendsen_wang"])
def test_two_states_follow_kaufman(update):
    beta_ising, torus = 0.40, lattices.square(8)
    run = potts.simulate(Potts(torus, 2), beta=2 * beta_ising, update=update, samples=100, seed=1)
    per_site = exact.kaufman_energy(8, 8, beta_ising) / 2 - 1  # E_Potts = (E_Ising - bonds) / 2 at J = 1
    assert run.energy.sigmas_from(per_site) < 4.5
    assert run.specific_heat.sigmas_from(exact.kaufman_specific_heat(8, 8, beta_ising)) < 4.5
    assert run.abs_m.sigmas_from(exact.known(Ising(torus), beta_ising)["abs_m"]) < 4.5


@pytest.mark.parametrize("q", [2, 3, 4])
def test_the_critical_energy_by_enumeration(q):
    """A finite self-dual graph has, per bond, the energy of the infinite square lattice at its transition."""
    model = Potts(self_dual(2, 3), q)
    energy = exact.potts_boltzmann(model, exact.potts_critical_beta(q)) @ model.energy(
        exact.potts_states(7, q)
    )
    per_bond = exact.potts_critical_energy(q) / 2
    assert float(energy) == pytest.approx(12 * per_bond, rel=1e-12)
    off = exact.potts_boltzmann(model, 1.01 * exact.potts_critical_beta(q)) @ model.energy(
        exact.potts_states(7, q)
    )
    assert float(off) != pytest.approx(12 * per_bond, rel=1e-4)


@pytest.mark.parametrize("update", ["heat_bath", "wolff", "swendsen_wang"])
def test_the_critical_energy_of_three_states(update):
    """The same by simulation, on 16 rings of 16 sites and a hub of 16 neighbours."""
    model, beta = Potts(self_dual(16, 16), 3), exact.potts_critical_beta(3)
    start = np.random.default_rng(1).integers(0, 3, (24, 257), dtype=np.int8)
    sampler = model.sampler(beta, update, start, np.random.SeedSequence(2))
    stride, energies = {"heat_bath": 5, "wolff": 2, "swendsen_wang": 1}[update], []
    sampler.sweep(150 * stride)
    for _ in range(200):
        sampler.sweep(stride)
        energies.append(sampler.measure()[0] / 256)
    energy = stats.mean(np.stack(energies, axis=1))
    assert energy.sigmas_from(exact.potts_critical_energy(3)) < 4.5
    assert energy.error < 0.01


def test_the_chain_in_closed_form():
    for q, J in itertools.product((2, 3, 5), (1.3, -0.8)):
        model = Potts(lattices.chain(6), q, J)
        log_z = float((-0.9 * model.energy(exact.potts_states(6, q))).logsumexp(0))
        assert exact.potts_chain_log_z(6, q, 0.9, J) == pytest.approx(log_z, rel=1e-12)
    assert exact.potts_chain_log_z(10, 3, 500.0, 2.0) == pytest.approx(10_000 + math.log(3))
    assert exact.potts_chain_log_z(9, 3, 500.0, -2.0) == pytest.approx(math.log(2**9 - 2))  # colourings


def test_cold_and_strong_couplings_do_not_overflow():
    """The heat bath at beta J = 5000 orders neighbours, and draws evenly between equal ones."""
    up = np.zeros((256, 9), dtype=np.int8)
    for update in kernels.UPDATES:
        moved = swept(update, Potts(lattices.square(3), 3), 5000.0, up, 2)
        assert (moved == moved[:, :1]).all()
    mixed = np.tile(np.array([0, 0, 1], np.int8), (4000, 1))
    moved = swept("heat_bath", Potts(lattices.chain(3, pbc=False), 3), 5000.0, mixed, 1)
    assert set(np.unique(moved[:, 1])) == {0, 1}
    assert abs((moved[:, 1] == 0).mean() - 0.5) < 4.5 * 0.5 / math.sqrt(4000)


def test_the_order_parameter_and_the_length_of_the_vector():
    """Three states are the corners of a triangle, two the ends of the magnetisation axis of Ising."""
    vectors = np.array([[1.0, 0.0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]])
    populations = np.random.default_rng(0).multinomial(20, [0.2, 0.3, 0.5], size=50)
    squared = ((populations @ vectors / 20) ** 2).sum(-1)
    np.testing.assert_allclose(potts.squared_magnetisation(populations), squared, atol=1e-12)
    two = np.array([[7, 3], [2, 8]])
    np.testing.assert_allclose(potts.order_parameter(two), [0.4, 0.6])
    np.testing.assert_allclose(potts.squared_magnetisation(two), [0.16, 0.36])


def test_the_seed_decides_every_byte_for_any_number_of_threads():
    for update in kernels.UPDATES:
        settings = {"beta": 0.9, "update": update, "samples": 5, "burn_in": 3, "thin": 2, "chains": 10}
        runs = [
            potts.simulate(MODELS["q = 3"], seed=seed, threads=threads, **settings)
            for seed, threads in [(1, 1), (1, 3), (2, 1)]
        ]
        np.testing.assert_array_equal(runs[0].spins, runs[1].spins)
        assert (runs[0].spins != runs[2].spins).any()


def test_a_model_is_written_down_and_restored():
    for model in (MODELS["q = 3"], MODELS["glass"]):
        again = potts.restore(**model.describe())
        assert again.q == model.q
        assert torch.as_tensor(again.J).equal(torch.as_tensor(model.J))
    run = potts.simulate(MODELS["glass"], beta=0.5, samples=2, burn_in=2, thin=1, seed=1)
    assert (run.model, run.shape, run.thin) == (MODELS["glass"].describe(), (3, 3), 1)


def test_no_burn_in_is_noticed():
    settings = {"beta": 1.0, "start": "ordered", "samples": 40, "thin": 1, "seed": 1}
    with pytest.warns(NotEquilibrated):
        potts.simulate(Potts(lattices.square(16), 3), burn_in=0, **settings)


def test_what_makes_no_sense_is_refused():
    torus = lattices.square(3)
    for q in (1, 128, 2.0, True):
        with pytest.raises(ValueError, match="q, the number of states, must be a whole number from 2 to 127"):
            Potts(torus, q)
    with pytest.raises(ValueError, match="J needs one value per bond"):
        Potts(torus, 3, J=torch.ones(4))
    with pytest.raises(ValueError, match="unknown update 'kawasaki' of a Potts model"):
        potts.simulate(Potts(torus, 3), beta=1.0, update="kawasaki")
    with pytest.raises(ValueError, match="swendsen_wang needs couplings J >= 0"):
        potts.simulate(MODELS["glass"], beta=1.0, update="swendsen_wang")
    with pytest.raises(ValueError, match="must hold the 9 sites"):
        Potts(torus, 3).energy(torch.zeros(4))
    with pytest.raises(ValueError, match="enumeration holds up to"):
        exact.potts_states(16, 3)
