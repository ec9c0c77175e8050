"""T_c and exponents from curves of several sizes: pulls of many seeds, and what the systematic error is for.

The exact T_c, nu = 1, beta/nu = 1/8 and gamma/nu = 7/4 of the square lattice are the truth. Quick tests use
synthetic data and no random numbers but fixed ones; the slow one states its false-alarm rates.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from ising import Ising, criticality, exact, lattices, scaling, simulate
from ising.reweighting import Multihistogram

CRITICAL = exact.critical_beta("square")
CLASS = scaling.ISING[2]
SIZES = (8, 12, 16, 24, 32)
TRUTH = {"T_c": 1 / CRITICAL, "nu": 1.0, "beta/nu": 0.125, "gamma/nu": 1.75}


class Curves:
    """What an infinitely long simulation of one size would tell: curves with the corrections given."""

    def __init__(self, L: int, corrections: dict[float, float]):
        self.L, self.resamples = L, 30
        self.betas = CRITICAL * (1 + np.array([-2, 2]) / L)
        self.factor = 1 + sum(b * L**-power for power, b in corrections.items())


def synthetic(corrections: dict[float, float], monkeypatch) -> criticality.Critical:
    """Crossing cumulants and powers of L, the same corrections to each, without any noise."""
    rows = np.ones((31, 1))

    def cumulant(multi, betas):
        return rows * (0.61 * multi.factor + (np.asarray(betas) - CRITICAL) * multi.L)

    def power(kappa):
        return lambda multi, betas: rows * np.ones_like(betas) * multi.L**kappa * multi.factor

    kappas = {"1/nu": 1.0, "-beta/nu": -0.125, "gamma/nu": 1.75}
    monkeypatch.setattr(criticality, "EXPONENTS", {name: power(kappa) for name, kappa in kappas.items()})
    crossings = scaling.crossings
    monkeypatch.setattr(scaling, "crossings", lambda multis: crossings(multis, cumulant))
    return criticality.measure({L: Curves(L, corrections) for L in SIZES}, CLASS)


def test_the_leading_correction_leaves_no_error(monkeypatch):
    found = synthetic({1.75: 0.1}, monkeypatch)
    for name, value in found.values.items():
        assert value.mean == pytest.approx(TRUTH[name], abs=2e-5), name
        assert found.statistical[name] < 1e-12, name


@pytest.mark.parametrize("further", [-0.15, 0.15])
def test_a_further_correction_is_within_the_systematic_error(further, monkeypatch):
    """As large as those of the exact moments of small lattices; the statistical error alone is zero here."""
    found = synthetic({1.75: 0.1, 3.0: further}, monkeypatch)
    for name, value in found.values.items():
        off = abs(value.mean - TRUTH[name])
        assert off > 1e-6, name
        assert off < 2 * found.systematic[name], name
        assert value.error == pytest.approx(np.hypot(found.statistical[name], found.systematic[name])), name


def test_another_omega_is_compared_with_both_of_the_class(monkeypatch):
    multis = {L: Curves(L, {}) for L in SIZES}
    made = []

    def fitted(multis, pairs, inverse_nu, omega):
        assert (len(multis), pairs, inverse_nu) == (5, {}, 1.0)
        made.append(omega)
        return {"T_c": np.array([omega, omega, omega])}, {"T_c": 0.5}, {}

    monkeypatch.setattr(criticality, "fitted", fitted)
    monkeypatch.setattr(scaling, "crossings", lambda _: {})
    for omega, off in ((None, 0.25), (2.0, 0.25), (1.9, 0.15)):
        made.clear()
        found = criticality.measure(multis, CLASS, omega)
        assert set(made) == {1.75, 2.0} | {omega or 1.75}
        assert found.systematic["T_c"] == pytest.approx(off)


def test_every_exponent_has_the_p_value_of_its_own_fit(monkeypatch):
    def fit(p):
        return SimpleNamespace(replicas=np.full((3, 2), p), p_value=p)

    p_values = {"1/nu": 0.2, "-beta/nu": 0.3, "gamma/nu": 0.4}
    monkeypatch.setattr(criticality, "EXPONENTS", p_values)
    monkeypatch.setattr(scaling, "critical_point", lambda *_: fit(0.1))
    monkeypatch.setattr(scaling, "read", lambda multi, curve, betas: np.full(3, curve))  # noqa: ARG005
    monkeypatch.setattr(scaling, "power_law", lambda sizes, values, omega: fit(values[0, 0]))  # noqa: ARG005
    replicas, p, _ = criticality.fitted({4: None, 8: None}, {}, 1.0, 2.0)
    assert p == {"T_c": 0.1, "nu": 0.2, "beta/nu": 0.3, "gamma/nu": 0.4}
    means = {name: values[0] for name, values in replicas.items()}
    assert means == {"T_c": 10.0, "nu": 5.0, "beta/nu": -0.3, "gamma/nu": 0.4}


def measured(seed: int) -> criticality.Critical:
    multis = {}
    for L in SIZES:
        options = {"update": "wolff", "samples": 60, "chains": 512, "seed": seed, "burn_in": 16 * L + 128}
        temperatures = (1 + np.linspace(-2, 2, 5) / L) / CRITICAL
        runs = [
            simulate(Ising(lattices.square(L)), beta=1 / T, thin=max(2, L // 4 + 2 * k), **options)
            for k, T in enumerate(temperatures)
        ]
        multis[L] = Multihistogram(runs, seed=seed)
    return criticality.measure(multis, CLASS)


@pytest.mark.slow
def test_pulls_of_many_seeds_have_mean_zero_and_variance_one():
    """Of 24 seeds, in units of the stated error: |mean| < 0.8 is 4 sigma of their mean.

    The rms of 24 normal pulls is within 0.55 and 1.5 but for 4e-4 on either side, and more than 5 of them
    beyond two errors have a probability of 1e-3. The negative control is an error three times too small.
    One error of these short runs is 0.05 % of T_c and about 1 % of the exponents, and none is four away.
    """
    found = [measured(seed) for seed in range(300, 324)]
    for name, truth in TRUTH.items():
        off = np.array([each.values[name].mean - truth for each in found])
        pulls = off / np.array([each.values[name].error for each in found])
        assert abs(pulls.mean()) < 0.8, name
        assert 0.55 < np.sqrt((pulls**2).mean()) < 1.5, name
        assert (np.abs(pulls) > 2).sum() <= 5, name
        assert np.abs(off).max() < (0.002 if name == "T_c" else 0.05) * truth, name
        third = np.array([each.statistical[name] / 3 for each in found])
        assert np.sqrt(((off / third) ** 2).mean()) > 1.5, f"{name}: errors three times too small must show"
