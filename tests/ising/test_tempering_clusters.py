"""Replica exchange with Houdayer moves: partners, their joint law, conserved sums, faster travel, resuming.

False alarms: 1e-5 for each p-value, 7e-6 for each |z| < 4.5; about 30 of them on fixed seeds.
"""

import io

import numpy as np
import pytest
import torch

from ising import exact, glasses, lattices, stats, tempering
from ising.model import Ising
from ising.observables import REGISTRY
from ising.replicas import Block, Clusters, Replicas
from tests.checks import FALSE_ALARM
from tests.ising import laws

BETAS = [0.9, 0.6, 0.3]
GLASSES = {
    "bimodal": glasses.bimodal(lattices.square(3), 3),
    "gaussian": glasses.gaussian(lattices.square(3), 3, h=0.2),
}
SETTINGS = {"burn_in": 7, "thin": 2, "seed": 6, "houdayer": 3}


def paired_at_equilibrium(model: Ising, ladders: int, update: str = "metropolis") -> Replicas:
    """Exact draws at every temperature; a cluster move of all partners after every sweep."""
    replicas = Replicas(model, BETAS, update, ladders, "random", 1, "cpu", 1, 1)
    for k, block in enumerate(replicas.blocks):
        place = block.exchanges.place
        spins = np.empty((len(place), model.lattice.n_sites), dtype=np.int8)
        for t, beta in enumerate(BETAS):
            here = np.flatnonzero(place == t)
            spins[here] = laws.equilibrium(model, beta, len(here), seed=3 * k + t).numpy()
        seeds = np.random.SeedSequence([2, k]).spawn(2)
        sampler = type(block.sampler)(model, update, np.array(BETAS)[place], spins, seeds[0])
        clusters = Clusters(model, sampler, block.exchanges, 1, seeds[1])
        replicas.blocks[k] = Block(sampler, block.exchanges, clusters)
    return replicas


def joint_p_value(model: Ising, beta: float, a: np.ndarray, b: np.ndarray) -> float:
    """Chi-squared of (E, E', q) of the pairs, energies rounded, and of each replica by itself."""
    p, states = exact.boltzmann(model, beta), exact.states(model.lattice.n_sites)
    energies, energy = model.energy(states).round().unique(return_inverse=True)
    sites = states.shape[-1]
    both = energy[:, None] * len(energies) + energy
    level = (both * (2 * sites + 1) + (states @ states.T).long() + sites).flatten()
    rows = (np.concatenate([a, b], axis=1) > 0) @ (1 << np.arange(2 * sites)[::-1])
    counts = np.bincount(rows, minlength=len(level)).astype(float)
    found, expected = (
        torch.bincount(level, x) for x in (torch.from_numpy(counts), torch.outer(p, p).flatten() * len(a))
    )
    single = [laws.p_value(torch.from_numpy(x), model, beta) for x in (a, b)]
    return 3 * min(laws._pearson(found, expected), *single)


def smallest_p_value(model: Ising, replicas: Replicas) -> float:
    """Of the joint laws of partners at all temperatures."""
    pairs = zip(BETAS, *np.split(replicas.sample()[0], 2, axis=1), strict=True)
    return len(BETAS) * min(joint_p_value(model, beta, a, b) for beta, a, b in pairs)


@pytest.mark.parametrize(("name", "pairs"), [("bimodal", 20_000), ("gaussian", 4000)])
def test_the_joint_law_of_partners_is_invariant(name, pairs, monkeypatch):
    """The planted bug moves clusters between walkers, whatever temperatures they are at."""
    model = GLASSES[name]
    replicas = paired_at_equilibrium(model, 2 * pairs)
    replicas.sweep(3)
    assert smallest_p_value(model, replicas) > FALSE_ALARM
    in_order = lambda exchanges: np.arange(exchanges.walkers.size).reshape(exchanges.walkers.shape)  # noqa: E731
    monkeypatch.setattr("ising.replicas.chains", in_order)
    replicas = paired_at_equilibrium(model, 2 * pairs)
    replicas.sweep(3)
    monkeypatch.undo()
    assert smallest_p_value(model, replicas) < FALSE_ALARM


def test_the_pilot_watches_overlaps_of_partners():
    """The slowest quantity of a glass, beside the means of both energies and magnetisations."""
    replicas = Replicas(GLASSES["bimodal"], BETAS, "metropolis", 6, "random", 1, "cpu", 1, 1)
    replicas.sweep(5)
    first, second, E, M = *np.split(replicas.sample()[0], 2, axis=1), *replicas.sample()[1:]
    expected = [(x[:, :3] + x[:, 3:]) / 2 for x in (np.abs(E), np.abs(M))]
    expected.append(glasses.overlap(first, second) ** 2)
    np.testing.assert_allclose(replicas.watch(), np.concatenate(expected))


@pytest.mark.parametrize(
    ("model", "update", "ladders"),
    [
        (glasses.bimodal(lattices.square(8), 1), "metropolis", 400),
        (glasses.bimodal(lattices.square(8), 1), "wolff", 400),
        (glasses.gaussian(lattices.square(5), 1), "heat_bath", 20),
        (Ising(lattices.square(8)), "metropolis", 4),
        (Ising(lattices.square(8)), "wolff", 20),
    ],
    ids=["three blocks", "wolff", "gaussian", "tiles", "lines"],
)
def test_a_move_keeps_overlaps_and_the_sums_of_energies(model, update, ladders):
    """And so the returned halves are partners, chain by chain."""
    replicas = Replicas(model, BETAS, update, ladders, "random", 1, "cpu", 1, 10**6)
    replicas.sweep(3)
    samples = [replicas.sample()]
    for block in replicas.blocks:
        block.clusters.move()
    samples.append(replicas.sample())
    halves = [np.split(spins, 2, axis=1) for spins, _, _ in samples]
    np.testing.assert_array_equal(*(a * b for a, b in halves))
    moved = (halves[0][0] != halves[1][0]).any(-1)
    differ = (halves[0][0] != halves[0][1]).any(-1)
    assert moved[differ].mean() > 0.95
    assert not moved[~differ].any()
    for spins, energies, magnetisations in samples:
        np.testing.assert_allclose(energies, model.energy(torch.from_numpy(spins)).numpy(), atol=1e-9)
        np.testing.assert_array_equal(magnetisations, spins.sum(-1, dtype=float))
    sums = [np.add(*np.split(energies, 2, axis=1)) for _, energies, _ in samples]
    np.testing.assert_allclose(*sums, atol=1e-9)


def test_averages_of_each_replica_and_of_pairs_have_honest_errors():
    """Energies, and q² = sum of squared correlations / N², all enumerated."""
    model = glasses.bimodal(lattices.square(4), 2)
    ladder = tempering.simulate(model, BETAS, 200, chains=24, seed=3, houdayer=1)
    states = exact.states(16).double()
    for run, partner, q in zip(ladder.runs, ladder.partners, ladder.overlaps, strict=True):
        known = exact.known(model, run.beta)
        for one in (run, partner):
            assert one.spins.shape == (24, 200, 16)
            assert REGISTRY["energy"](one.series).sigmas_from(known["energy"]) < 4.5
        both = stats.mean((run.energies + partner.energies) / 32)
        assert both.sigmas_from(known["energy"]) < 4.5
        correlations = states.T @ (exact.boltzmann(model, run.beta)[:, None] * states)
        assert stats.mean(q**2).sigmas_from(float((correlations**2).mean())) < 4.5
        assert stats.mean(q).sigmas_from(0.0) < 4.5


def test_replicas_of_a_glass_travel_faster():
    """Twice as many round trips in as many sweeps of as many replicas; asked for 1.5 times."""
    glass = glasses.bimodal(lattices.square(10), 3)
    betas = (1 / np.geomspace(0.25, 2.0, 12)).tolist()
    trips = []
    for houdayer in (0, 1):
        replicas = Replicas(glass, betas, "metropolis", 40, "random", 1, "cpu", 1, houdayer)
        replicas.sweep(200)
        replicas.restart_counts()
        replicas.sweep(1500)
        trips.append(replicas.round_trips)
    assert trips[1] > 1.5 * trips[0] > 300


@pytest.mark.parametrize("name", GLASSES)
def test_resuming_goes_on_as_if_nothing_had_happened(name):
    """Also through a file; the moves come every three sweeps, samples every two."""
    model, chains = GLASSES[name], 100 if name == "bimodal" else 5
    whole = tempering.simulate(model, BETAS, 7, chains=chains, **SETTINGS)
    part = tempering.simulate(model, BETAS, 4, chains=chains, **SETTINGS)
    np.savez(file := io.BytesIO(), **part.state)
    file.seek(0)
    part.state.update(np.load(file))
    rest = tempering.simulate(model, BETAS, 3, chains=chains, resume=part, **SETTINGS)
    for side in ("runs", "partners"):
        for run, first, second in zip(*(getattr(x, side) for x in (whole, part, rest)), strict=True):
            np.testing.assert_array_equal(run.spins, np.concatenate([first.spins, second.spins], axis=1))
    for other in (0, 2):
        with pytest.raises(ValueError, match="cannot resume"):
            tempering.simulate(model, BETAS, 3, chains=chains, resume=part, **SETTINGS | {"houdayer": other})


def test_threads_do_not_change_a_byte():
    ladders = [
        tempering.simulate(GLASSES["bimodal"], BETAS, 3, chains=200, threads=n, **SETTINGS) for n in (1, 3)
    ]
    for a, b in zip(*(ladder.runs + ladder.partners for ladder in ladders), strict=True):
        np.testing.assert_array_equal(a.spins, b.spins)


def test_a_round_trip_time_counts_both_halves():
    ladder = tempering.simulate(GLASSES["bimodal"], BETAS, 50, chains=4, **SETTINGS)
    assert ladder.round_trip_time == pytest.approx(50 * 2 * 3 * 8 / ladder.round_trips)


def test_what_makes_no_sense_is_refused():
    model = GLASSES["bimodal"]
    with pytest.raises(ValueError, match="houdayer must be a whole number >= 1, got -1"):
        tempering.simulate(model, BETAS, 1, houdayer=-1)
    with pytest.raises(ValueError, match="kawasaki conserves the magnetisation and houdayer does not"):
        tempering.simulate(model, BETAS, 1, update="kawasaki", houdayer=1)
    alone = tempering.simulate(model, BETAS, 1, burn_in=1, thin=1)
    assert alone.partners == []
    with pytest.raises(ValueError, match="overlaps are those of partners; simulate with houdayer=1"):
        _ = alone.overlaps
