"""Replica exchange: the joint law stays, the rates and the averages are the enumerated ones.

False alarms: 1e-5 for each p-value, 7e-6 for each |z| < 4.5; about 40 of them on fixed seeds.
"""

import numpy as np
import pytest
import torch

from ising import exact, lattices, tempering, updates
from ising.equilibrium import NotEquilibrated
from ising.model import Ising
from ising.observables import REGISTRY
from ising.replicas import Block, Replicas
from tests.checks import FALSE_ALARM
from tests.ising import laws

BETAS = [0.6, 0.45, 0.3]
SQUARE = Ising(lattices.square(4))
GLASS = Ising(lattices.square(4), J=torch.randn(32, generator=torch.Generator().manual_seed(8)), h=0.1)


def replicas_at_equilibrium(model: Ising, update: str, ladders: int) -> Replicas:
    """Exact draws at every temperature."""
    replicas = Replicas(model, BETAS, update, ladders, "random", 1, "cpu", 1)
    draws = [laws.equilibrium(model, beta, ladders, seed=k) for k, beta in enumerate(BETAS)]
    start, first = torch.stack(draws, dim=1).numpy(), 0
    for k, block in enumerate(replicas.blocks):
        last = first + len(block.exchanges.walkers)
        betas, spins = np.array(BETAS)[block.exchanges.place], start[first:last].reshape(-1, start.shape[-1])
        sampler = type(block.sampler)(model, update, betas, spins, np.random.SeedSequence([2, k]))
        replicas.blocks[k] = Block(sampler, block.exchanges)
        first = last
    return replicas


def expected_rates(model: Ising, betas: list[float]) -> list[float]:
    """Mean of min(1, exp((a - b)(E_a - E_b))) over both enumerated laws."""
    energies = model.energy(exact.states(model.lattice.n_sites))
    levels, level = energies.round(decimals=9).unique(return_inverse=True)
    laws_of_energy = [
        torch.zeros_like(levels).index_add_(0, level, exact.boltzmann(model, beta)) for beta in betas
    ]
    gain = levels[:, None] - levels[None, :]
    return [
        float(p @ ((a - b) * gain).exp().clamp(max=1) @ q)
        for a, b, p, q in zip(betas, betas[1:], laws_of_energy, laws_of_energy[1:], strict=False)
    ]


@pytest.mark.parametrize("update", updates.names())
@pytest.mark.parametrize(
    "model", [SQUARE, Ising(lattices.triangular(3), J=-1.0, h=0.3)], ids=["square", "frustrated"]
)
def test_the_joint_boltzmann_law_is_invariant(update, model):
    """As many ladders as test_mutants.py needs to see a wrong sign, or one exchange too many."""
    ladders = 64 * 100
    replicas = replicas_at_equilibrium(model, update, ladders)
    replicas.sweep(3)
    spins, energies, magnetisations = replicas.sample()
    for at, beta in zip(spins, BETAS, strict=True):
        assert laws.p_value(torch.from_numpy(at), model, beta) > FALSE_ALARM
    np.testing.assert_array_equal(magnetisations, spins.sum(-1, dtype=float))
    np.testing.assert_allclose(energies, model.energy(torch.from_numpy(spins)).numpy(), rtol=1e-14)


def test_exchange_rates_are_the_enumerated_ones():
    """|z| < 4.5 of a binomial law."""
    ladders = 64 * 300
    replicas = replicas_at_equilibrium(SQUARE, "metropolis", ladders)
    replicas.sweep(2)  # one round of either parity
    for rate, expected in zip(replicas.exchange_rates, expected_rates(SQUARE, BETAS), strict=True):
        assert abs(rate - expected) < 4.5 * np.sqrt(expected * (1 - expected) / ladders)


@pytest.mark.parametrize("model", [SQUARE, GLASS], ids=["square", "glass"])
@pytest.mark.parametrize("betas", [BETAS, BETAS[::-1]], ids=["falling", "rising"])
def test_averages_at_every_temperature(model, betas):
    ladder = tempering.simulate(model, betas, 150, chains=20, seed=3)
    assert [run.beta for run in ladder.runs] == betas
    for run in ladder.runs:
        known = exact.known(model, run.beta)
        assert run.spins.shape == (20, 150, 16)
        for name in ("energy", "abs_m", "specific_heat", "chi", "u4"):
            assert REGISTRY[name](run.series).sigmas_from(known[name]) < 4.5, name
        np.testing.assert_allclose(
            run.energies, model.energy(torch.from_numpy(run.spins)).numpy(), rtol=1e-12
        )
    assert ladder.round_trips > 0
    assert (ladder.exchange_rates > 0.3).all()


@pytest.mark.parametrize(("L", "ladders", "cut"), [(16, 2, True), (4, 200, False)])
def test_exchanges_in_compiled_code_are_those_one_by_one(L, ladders, cut):
    """Bit for bit, also where a chain has several lanes, and where lanes repeat chains."""
    model = Ising(lattices.square(L), h=0.1)
    betas = [0.42, 0.41, 0.4]
    compiled, by_hand = (Replicas(model, betas, "metropolis", ladders, "random", 1, "cpu", 1) for _ in "ab")
    for block in by_hand.blocks:
        assert (len(block.sampler.layout.sites) > 1) is cut
        block._packed = None
    for _ in range(3):
        for replicas in (compiled, by_hand):
            replicas.sweep(5)
        for one, other in zip(compiled.sample(), by_hand.sample(), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(compiled.exchange_rates, by_hand.exchange_rates)


def test_round_trips_of_certain_swaps():
    """With equal energies each swap is certain and walkers march through the ladder like clockwork."""
    flat = Ising(lattices.chain(5), J=0.0)
    replicas = Replicas(flat, [0.4, 0.3, 0.2, 0.1], "metropolis", 2, "random", 0, "cpu", 1)
    replicas.sweep(8)  # rounds (01)(23), (12), ...: after eight every walker is back where it was
    np.testing.assert_array_equal(replicas.exchange_rates, [1, 1, 1])
    np.testing.assert_array_equal(replicas.blocks[0].exchanges.walkers[0], [0, 1, 2, 3])
    assert replicas.round_trips == 2  # half a trip, of a walker that began elsewhere, does not count
    before = replicas.round_trips
    replicas.sweep(80)
    assert replicas.round_trips - before == 2 * 4 * 10  # ladders, walkers, cycles
    replicas.restart_counts()
    replicas.sweep(8)
    assert replicas.round_trips == 2


def test_the_seed_decides_every_byte():
    first, again = (tempering.simulate(SQUARE, BETAS, 20, burn_in=10, thin=2, seed=4) for _ in range(2))
    other = tempering.simulate(SQUARE, BETAS, 20, burn_in=10, thin=2, seed=5)
    for a, b, c in zip(first.runs, again.runs, other.runs, strict=True):
        np.testing.assert_array_equal(a.spins, b.spins)
        assert (a.spins != c.spins).any()
    assert (first.runs[0].burn_in, first.runs[0].thin, first.sweeps) == (10, 2, 40)


@pytest.mark.parametrize("update", ["metropolis", "wolff"])
def test_resuming_goes_on_as_if_nothing_had_happened(update):
    """Samples, exchanges and the places of all walkers, of few ladders and of several blocks."""
    for chains in (3, 200):
        settings = {"update": update, "burn_in": 5, "thin": 2, "chains": chains, "seed": 6}
        whole = tempering.simulate(SQUARE, BETAS, 7, **settings)
        part = tempering.simulate(SQUARE, BETAS, 4, **settings)
        rest = tempering.simulate(SQUARE, BETAS, 3, resume=part, **settings)
        for run, first, second in zip(whole.runs, part.runs, rest.runs, strict=True):
            np.testing.assert_array_equal(run.spins, np.concatenate([first.spins, second.spins], axis=1))
        counts = {f"{k}/exchanges/{x}" for k in (0, 1) for x in ("swaps", "trips", "last")}
        for name in whole.state.keys() - counts:
            np.testing.assert_array_equal(whole.state[name], rest.state[name])
        other = Replicas(SQUARE, [0.6, 0.5], update, chains, "random", 6, "cpu", 1)
        with pytest.raises(ValueError, match="cannot resume"):
            other.load({})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"betas": [0.6, 0.5, 0.3]}, r"betas was \[0.6, 0.45, 0.3\] and is now \[0.6, 0.5, 0.3\]"),
        ({"seed": 7}, "seed was 6 and is now 7"),
        ({"update": "heat_bath"}, "update was 'metropolis' and is now 'heat_bath'"),
        ({"model": Ising(lattices.square(4), J=0.5)}, r"model was .*'J': 1.0.* and is now .*'J': 0.5"),
        ({"chains": 4}, "chains was 3 and is now 4"),
        ({"start": "ordered"}, "start was 'random' and is now 'ordered'"),
        ({"thin": 2}, "thin was 1 and is now 2"),
    ],
)
def test_resuming_another_ladder_is_refused(change, message):
    """Its arrays have the same shapes, so it would go on with states of another law."""
    settings = {
        "model": SQUARE,
        "betas": BETAS,
        "samples": 1,
        "burn_in": 1,
        "thin": 1,
        "chains": 3,
        "seed": 6,
    }
    before = tempering.simulate(**settings)
    with pytest.raises(ValueError, match=f"cannot resume: {message}"):
        tempering.simulate(**settings | change, resume=before)


def test_threads_do_not_change_a_byte():
    runs = [tempering.simulate(SQUARE, BETAS, 5, burn_in=3, thin=1, chains=400, threads=n) for n in (1, 3)]
    for a, b in zip(*(ladder.runs for ladder in runs), strict=True):
        np.testing.assert_array_equal(a.spins, b.spins)


def test_spaced_temperatures_swap_alike():
    """Rates measured afterwards: all within 0.06 of each other and of what was asked for, or more."""
    model = Ising(lattices.square(16))
    betas = tempering.spaced(model, 0.55, 0.35, rate=0.4)
    assert (betas[0], betas[-1]) == (0.55, 0.35)
    assert all(np.diff(betas) < 0)
    rates = tempering.simulate(model, betas, 500, burn_in=500, thin=2, chains=64, seed=2).exchange_rates
    assert rates.min() > 0.34
    assert np.ptp(rates) < 0.12
    even = np.linspace(0.55, 0.35, len(betas)).tolist()
    assert np.ptp(tempering.simulate(model, even, 500, burn_in=500, thin=2, chains=64).exchange_rates) > 0.12
    for wrong in ({"first": 0.3, "last": 0.3}, {"first": 0.5, "last": 0.3, "rate": 1.5}):
        with pytest.raises(ValueError, match=r"differ|between 0 and 1"):
            tempering.spaced(model, **wrong)


def test_a_ladder_that_is_not_one_is_refused():
    for betas in ([0.3, 0.3], [0.3, 0.5, 0.4], []):
        with pytest.raises(ValueError, match="betas must rise or fall from one to the next"):
            tempering.simulate(SQUARE, betas, 10)
    with pytest.raises(ValueError, match="samples must be a whole number >= 1, got 0"):
        tempering.simulate(SQUARE, BETAS, 0)


def test_a_pilot_that_gives_up_says_so(monkeypatch):
    monkeypatch.setattr("ising.equilibrium.PILOT_LIMIT", 512)
    with pytest.warns(NotEquilibrated, match=r"no equilibrium at beta = 0.43 to 0.44 after 512 sweeps"):
        tempering.simulate(Ising(lattices.square(32)), [0.44, 0.43], 1)
