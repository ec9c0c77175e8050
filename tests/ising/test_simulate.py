"""Simulations against exact values, the coverage of their error bars, and the promise of equal bytes.

False alarms: |z| < 4.5 is 7e-6, about 200 times; each sum of squares is inside its band but for 2e-5.
"""

import dataclasses
import itertools
import logging
import math
import sys

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from ising import equilibrium, exact, kernels, lattices, stats, tempering, updates
from ising.equilibrium import NotEquilibrated, Pilot, halves_z, pilot, pilots, race
from ising.model import Ising
from ising.observables import REGISTRY, Series
from ising.simulate import join, simulate, stream
from tests.ising import laws

TEMPERATURES = (1.5, 1.8, 2.0, 2.1, 2.2, 2.269, 2.35, 2.5, 2.75, 3.0, 3.5, 5.0)
SQUARE = Ising(lattices.square(4))
SHORT = {"beta": 0.4, "samples": 30, "chains": 70, "burn_in": 20, "thin": 2, "seed": 3}


def pulls(L: int, observables: tuple[str, ...]) -> dict[str, np.ndarray]:
    """(estimate - exact) / error at twelve temperatures, the updates taking turns."""
    model, z = Ising(lattices.square(L)), {name: [] for name in observables}
    for k, (T, update) in enumerate(zip(TEMPERATURES, itertools.cycle(laws.THROUGH_ALL_SECTORS))):
        run = simulate(model, beta=1 / T, update=update, samples=200, seed=k)
        known = exact.known(model, 1 / T)
        for name in observables:
            estimate = REGISTRY[name](run.series)
            z[name].append((estimate.mean - known[name]) / estimate.error)
    return {name: np.array(values) for name, values in z.items()}


@pytest.mark.parametrize(
    ("L", "observables"),
    [
        (4, ("energy", "abs_m", "specific_heat", "chi", "u4")),
        (8, ("energy", "abs_m", "specific_heat", "chi", "u4")),
        (12, ("energy", "specific_heat")),
    ],
)
def test_twelve_temperatures_agree_with_exact_values(L, observables):
    """Sums of squares too small would mean error bars that are too large."""
    for name, z in pulls(L, observables).items():
        assert np.abs(z).max() < 4.5, name
        assert 1e-5 < chi2.cdf((z**2).sum(), len(z)) < 1 - 1e-5, name


@pytest.fixture(scope="module")
def replicas():
    """400 replicas of 8 chains of correlated samples."""
    run = simulate(SQUARE, beta=0.42, samples=500, burn_in=200, thin=1, chains=3200, seed=11)
    return run.energies.reshape(400, 8, -1), run.magnetisations.reshape(400, 8, -1)


def coverage(estimates: list[stats.Estimate], value: float) -> tuple[float, float]:
    z = np.array([estimate.sigmas_from(value) for estimate in estimates])
    return (z < 1).mean(), (z < 2).mean()


def test_error_bars_cover_in_400_replicas(replicas):
    """One sigma 60-76 %, two sigma 91-98 %: a correct error bar misses a band with probability below 1e-3."""
    energies, magnetisations = replicas
    known = exact.known(SQUARE, 0.42)
    for name in ("energy", "abs_m", "specific_heat", "chi", "u4"):
        estimates = [
            REGISTRY[name](Series(E, M, 16, 0.42)) for E, M in zip(energies, magnetisations, strict=True)
        ]
        one, two = coverage(estimates, known[name])
        assert 0.60 < one < 0.76, name
        assert 0.91 < two < 0.98, name


def test_the_naive_error_bar_does_not_cover(replicas):
    energies, _ = replicas
    naive = [stats.Estimate(x.mean() / 16, x.std() / 16 / math.sqrt(x.size)) for x in energies]
    one, two = coverage(naive, exact.known(SQUARE, 0.42)["energy"])
    assert one < 0.5
    assert two < 0.8


@pytest.mark.parametrize("update", updates.names())
@pytest.mark.parametrize("J", [1.0, torch.linspace(-1, 1, 32)], ids=["uniform", "glass"])
def test_seed_threads_and_segments_do_not_change_a_byte(update, J):
    model = Ising(lattices.square(4), J=J)
    reference = simulate(model, update=update, **SHORT)
    assert reference.provenance["kernel"] == kernels.choose(update, model, "cpu", reference.chains).name
    others = [
        simulate(model, update=update, threads=3, **SHORT),
        join(stream(model, update=update, segment=7, **SHORT)),
        join(stream(model, update=update, segment=30, **SHORT)),
    ]
    for run in others:
        np.testing.assert_array_equal(run.spins, reference.spins)
        np.testing.assert_array_equal(run.energies, reference.energies)
        np.testing.assert_array_equal(run.magnetisations, reference.magnetisations)
    assert (simulate(model, update=update, **SHORT | {"seed": 4}).spins != reference.spins).any()


@pytest.mark.parametrize("update", updates.names())
@pytest.mark.parametrize("J", [1.0, torch.linspace(-1, 1, 32)], ids=["uniform", "glass"])
def test_resuming_after_any_segment_equals_not_stopping(update, J):
    model = Ising(lattices.square(4), J=J)
    settings = {"beta": 0.4, "samples": 30, "chains": 5, "seed": 3, "update": update, "segment": 10}
    whole = list(stream(model, **settings))
    assert [(s.index, s.first, s.done) for s in whole] == [(0, 0, False), (1, 10, False), (2, 20, True)]
    for stop in (1, 2):
        resumed = whole[:stop] + list(stream(model, resume=whole[stop - 1], **settings))
        one, other = join(whole), join(resumed)
        np.testing.assert_array_equal(one.spins, other.spins)
        np.testing.assert_array_equal(one.energies, other.energies)
        assert one.provenance == other.provenance
        for name, value in whole[-1].state.items():
            np.testing.assert_array_equal(resumed[-1].state[name], value)


def test_a_finished_simulation_goes_on_with_more_samples():
    short = list(stream(SQUARE, segment=15, **SHORT))
    more = short + list(stream(SQUARE, resume=short[-1], **SHORT | {"samples": 50}))
    np.testing.assert_array_equal(join(more).spins, simulate(SQUARE, **SHORT | {"samples": 50}).spins)
    assert list(stream(SQUARE, resume=short[-1], **SHORT)) == []


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of independent pairs of energies, in standard errors: normal if the runs know nothing of each other."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1] * math.sqrt(one.size))


def energies(beta: float, **change: object) -> np.ndarray:
    """Of 6400 chains, a few sweeps after a random start, where a shared stream is still felt."""
    options = {"samples": 1, "chains": 6400, "burn_in": 2, "thin": 1, "seed": 3}
    return simulate(SQUARE, beta=beta, **options | change).energies


def laddered(betas: list[float]) -> np.ndarray:
    return tempering.simulate(SQUARE, betas, 1, chains=6400, burn_in=2, thin=1, seed=3).runs[0].energies


def test_runs_with_one_seed_are_independent_of_each_other(monkeypatch):
    """|z| < 4.5, a false alarm of 7e-6 each; the planted bug is one stream for all."""
    pairs = [
        lambda: (energies(0.40), energies(0.41)),
        lambda: (energies(0.40), laddered([0.40])),
        lambda: (laddered([0.40, 0.3]), laddered([0.41, 0.3])),
        lambda: (energies(0.40), energies(0.40, chains=6464)[:6400]),
    ]
    for pair in pairs:
        assert abs(correlation(*pair())) < 4.5
    for module in (sys.modules[stream.__module__], sys.modules[tempering.Replicas.__module__]):
        monkeypatch.setattr(module, "root_seed", lambda *settings: np.random.SeedSequence(settings[-1]))
    for pair in pairs[:3]:
        assert correlation(*pair()) > 5


def test_more_samples_begin_as_fewer_do():
    np.testing.assert_array_equal(
        energies(0.4, samples=3, chains=5)[:, :2], energies(0.4, samples=2, chains=5)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"burn_in": 21}, "cannot resume: burn_in was 20 and is now 21"),
        ({"beta": 0.5}, "cannot resume: beta was 0.4 and is now 0.5"),
        ({"seed": 9}, "cannot resume: seed was 3 and is now 9"),
        ({"thin": 3}, "cannot resume: thin was 2 and is now 3"),
        ({"update": "wolff"}, "cannot resume: update was 'metropolis' and is now 'wolff'"),
    ],
)
def test_resuming_something_else_is_refused(change, message):
    last = list(stream(SQUARE, **SHORT))[-1]
    with pytest.raises(ValueError, match=message):
        stream(SQUARE, resume=last, **SHORT | change)


def test_burn_in_may_be_repeated_or_left_out_after_a_pilot():
    settings = {"beta": 0.4, "samples": 2, "chains": 5, "seed": 3}
    last = list(stream(SQUARE, burn_in=7, **settings))[-1]
    assert last.settings.burn_in > last.settings.burn_in_asked == 7
    for burn_in in (None, 7, last.settings.burn_in):
        assert list(stream(SQUARE, burn_in=burn_in, resume=last, **settings)) == []
    with pytest.raises(ValueError, match="burn_in was 7 and is now 8; leave it out or repeat it"):
        stream(SQUARE, burn_in=8, resume=last, **settings)


def test_a_run_carries_what_it_was_made_of():
    run = simulate(SQUARE, beta=0.3, update="wolff", samples=100, seed=5)
    np.testing.assert_array_equal(run.energies, SQUARE.energy(torch.from_numpy(run.spins)).numpy())
    np.testing.assert_array_equal(run.magnetisations, run.spins.sum(-1, dtype=float))
    assert (run.spins.shape, run.spins.dtype, run.shape) == ((64, 100, 16), np.int8, (4, 4))
    assert (run.model, run.beta, run.update, run.seed) == (SQUARE.describe(), 0.3, "wolff", 5)
    assert run.burn_in >= 40 * run.provenance["pilot_tau_sweeps"]
    assert run.thin == max(1, math.ceil(2 * run.provenance["pilot_tau_sweeps"]))
    assert {"kernel", "acceptance", "seconds", "torch", "numpy", "python"} <= run.provenance.keys()


@pytest.mark.parametrize("update", updates.names())
def test_chosen_thinning_leaves_little_correlation(update):
    run = simulate(Ising(lattices.square(8)), beta=0.44, update=update, samples=400, seed=2)
    assert run.provenance["tau_stored_samples"] < 1.0
    if not updates.conserves_magnetisation(update):
        assert max(run.energy.tau, run.abs_m.tau) < 1.0


def test_the_first_segment_settings_are_plain_values():
    segment = next(stream(SQUARE, beta=0.3, samples=5, seed=1))
    plain = (int, float, str, bool, dict, tuple, type(None))
    assert all(isinstance(v, plain) for v in dataclasses.asdict(segment.settings).values())


def test_acceptance_of_metropolis_at_infinite_temperature_is_the_laziness():
    assert simulate(SQUARE, **SHORT | {"beta": 0.0}).provenance["acceptance"] == pytest.approx(
        15 / 16, abs=0.01
    )


def test_the_acceptance_counts_chains_and_not_the_rest_of_the_word():
    """One chain of one spin: the flipped fraction of the last sweep is 0 or 1."""
    build = kernels.choose("heat_bath", model := Ising(lattices.chain(1, pbc=False)), "cpu", 64)
    sampler = build(model, "heat_bath", 0.0, np.ones((1, 1), np.int8), np.random.SeedSequence(1))
    assert sampler.name == "multispin"
    assert {sampler.sweep(1) for _ in range(50)} == {0.0, 1.0}


def test_a_start_that_is_still_felt_is_reported():
    with pytest.warns(
        NotEquilibrated, match=r"first and the last half of the samples differ by .* raise burn_in"
    ):
        simulate(
            Ising(lattices.square(32)), beta=0.44, start="ordered", samples=40, burn_in=0, thin=1, chains=64
        )


def test_a_pilot_that_never_settles_gives_up_with_a_warning(monkeypatch):
    monkeypatch.setattr("ising.equilibrium.PILOT_LIMIT", 1024)
    with pytest.warns(
        NotEquilibrated, match=r"no equilibrium at beta = 0.44 after 1024 sweeps \(tau_int about"
    ):
        next(stream(Ising(lattices.square(48)), beta=0.44, samples=2, chains=64, seed=1))


def test_a_long_pilot_tells_where_it_stands(monkeypatch, caplog):
    monkeypatch.setattr(equilibrium, "LONG", 0.0)
    with caplog.at_level(logging.INFO):
        found = autoregressive_pilot(0.9, chains=64)
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("burn-in: 256 sweeps in ")
    assert len(said) == round(math.log2(found.sweeps / 256))


def autoregressive_pilot(a: float, chains: int) -> Pilot:
    """Of noise and, slower, x_t = a x_(t-1) + noise, whose tau is (1 + a) / (1 - a) / 2 sweeps."""
    rng = np.random.default_rng(0)
    x = np.zeros((1, chains))

    def sweep(n: int) -> None:
        for _ in range(n):
            x[:] = a * x + rng.normal(size=x.shape)

    return pilot(sweep, lambda: np.concatenate([rng.normal(size=x.shape), x]), chains=chains)


def test_the_pilot_measures_the_autocorrelation_time_of_a_known_process():
    """To 25 %, and at least 40 tau of sweeps."""
    found = autoregressive_pilot(0.9, chains=64)
    assert found.settled
    assert found.tau == pytest.approx(9.5, rel=0.25)
    assert found.sweeps >= 40 * found.tau


def test_a_single_chain_comes_to_equilibrium():
    """Of nearly independent sweeps, tau = 1.5: nothing to warn of, and soon."""
    found = autoregressive_pilot(0.5, chains=1)
    assert found.settled
    assert 300 * found.tau < found.sweeps <= 4096


def test_halves_are_compared_in_standard_normal_deviates():
    """For 8 chains Student's t with 7 degrees is turned into a normal deviate: 4.5 % beyond 2, not 8.6 %."""
    rng = np.random.default_rng(0)
    z = np.array([halves_z(rng.normal(size=(8, 10))) for _ in range(4000)])
    assert 0.032 < (np.abs(z) > 2).mean() < 0.060  # 4 sigma of the binomial law
    assert halves_z(np.ones((4, 10))) == 0
    assert halves_z(np.ones((1, 10))) == 0
    assert halves_z(np.repeat([[0.0, 1.0]], 4, axis=0)) == -math.inf


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beta": -0.1}, "beta must be a finite number >= 0"),
        ({"beta": math.nan}, "beta must be a finite number >= 0"),
        ({"samples": 0}, "samples must be a whole number >= 1, got 0"),
        ({"chains": 2.5}, "chains must be a whole number >= 1, got 2.5"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ({"thin": 0}, "thin must be a whole number >= 1, got 0"),
        ({"burn_in": -1}, "burn_in must be a whole number >= 0, got -1"),
        ({"start": "cold"}, "start must be 'random'"),
        ({"update": "magic"}, "unknown update 'magic'"),
        ({"device": "abacus"}, "device must be"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(wrong, message):
    with pytest.raises(ValueError, match=message):
        stream(SQUARE, **SHORT | wrong)


def test_a_missing_segment_is_noticed():
    parts = list(stream(SQUARE, segment=10, **SHORT))
    with pytest.raises(ValueError, match=r"needs all its segments in order, got those starting at \[0, 20\]"):
        join([parts[0], parts[2]])


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def runner(clock: Clock, tau: float, seconds: float, far: float = 0.0):
    """64 chains of an AR(1) process of this tau in sweeps, each of which takes so many seconds.

    It begins as ``far`` away from zero as is said, and comes back in 100 sweeps, whatever tau is.
    """
    rng, x, sweeps = np.random.default_rng(0), np.zeros((1, 64)), [0]
    keep = (2 * tau - 1) / (2 * tau + 1)

    def sweep(n: int) -> None:
        clock.now += n * seconds
        sweeps[0] += n
        for _ in range(n):
            x[:] = keep * x + rng.normal(size=x.shape)

    return sweep, lambda: x + far * math.exp(-sweeps[0] / 100)


def test_a_race_is_won_by_the_most_independent_samples_per_second():
    """A sample costs 2 tau times the seconds of a sweep: 24, 16 and 800; tau is known to a quarter."""
    clock = Clock()
    entrants = {
        "quick": runner(clock, tau=400.0, seconds=0.03),
        "best": runner(clock, tau=4.0, seconds=2.0),
        "hopeless": runner(clock, tau=40.0, seconds=10.0),
    }
    found = race(entrants, 64, clock)
    assert min(found, key=lambda name: found[name].seconds) == "best"
    assert found["best"].over
    assert found["best"].seconds == pytest.approx(16.0, rel=0.25)
    assert found["best"].tau == pytest.approx(4.0, rel=0.25)
    assert not found["hopeless"].over  # it was left after its first lap
    assert found["quick"].seconds > found["best"].seconds
    first_lap = next(pilots(*entrants["quick"], 64))
    assert 2 * first_lap.tau * 0.03 < found["best"].seconds  # so one lap is not to be trusted


def test_a_race_waits_until_a_start_far_away_is_forgotten(monkeypatch):
    """The planted bug is to believe the tau of a runner that is still on its way."""
    clock = Clock()

    def winner() -> str:
        found = race({"far": runner(clock, 4.0, 1.0, far=100.0), "near": runner(clock, 12.0, 1.0)}, 64, clock)
        return min(found, key=lambda name: found[name].seconds)

    assert winner() == "far"
    monkeypatch.setattr("ising.equilibrium.RACE_START", 0)
    assert winner() == "near"


def test_auto_is_a_run_of_the_update_that_it_names():
    model = Ising(lattices.square(8))
    settings = {"beta": 0.44, "samples": 12, "chains": 20, "seed": 3}
    whole = list(stream(model, update="auto", segment=5, **settings))
    chosen, measured = whole[0].settings.update, whole[0].settings.measured
    assert measured.keys() == {name for name in updates.names() if not updates.conserves_magnetisation(name)}
    assert chosen == max(measured, key=lambda name: measured[name][1])
    assert whole[0].settings.kernel == kernels.choose(chosen, model, "cpu", whole[0].settings.chains).name
    named = simulate(model, update=chosen, **settings)
    run = join(whole)
    assert (run.update, run.thin, run.burn_in) == (chosen, named.thin, named.burn_in)
    np.testing.assert_array_equal(run.bits, named.bits)
    assert run.provenance[f"auto_{chosen}_independent_per_second"] == measured[chosen][1]
    assert not any(name.startswith("auto") for name in named.provenance)


def test_auto_keeps_its_choice_when_it_is_resumed(monkeypatch):
    settings = {"beta": 0.4, "samples": 12, "chains": 20, "seed": 3, "segment": 5}
    whole = list(stream(SQUARE, update="auto", **settings))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the choice was made again")

    monkeypatch.setattr(sys.modules[stream.__module__], "choose_update", never)
    resumed = whole[:1] + list(stream(SQUARE, update="auto", resume=whole[0], **settings))
    np.testing.assert_array_equal(join(resumed).bits, join(whole).bits)
    assert [part.settings for part in resumed] == [part.settings for part in whole]
    with pytest.raises(AssertionError, match="made again"):
        next(stream(SQUARE, update="auto", **settings))


def test_the_autocorrelation_of_what_is_stored_is_measured():
    """0.5 is independence; spacing by 2 tau leaves little, no spacing leaves all."""
    model = Ising(lattices.square(8))
    apart = simulate(model, beta=0.44, update="wolff", samples=400, seed=2).provenance
    dense = simulate(model, beta=0.44, samples=400, thin=1, seed=2).provenance
    assert 0.5 <= apart["tau_stored_samples"] < 1.0
    assert dense["tau_stored_samples"] == pytest.approx(dense["pilot_tau_sweeps"], rel=0.4)
    assert dense["tau_stored_samples"] > 2
