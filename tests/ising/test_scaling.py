"""Finite-size scaling on synthetic data of known exponents, and on exact curves of small tori.

Seeds are fixed; bounds on z are 4.5 standard errors (false alarm 7e-6 each). Coverage of 300 data sets lies
within 60 and 76 % at one sigma (honest errors fall outside with probability 2e-3).
"""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from ising import Ising, collapse, exact, lattices, reweighting, scaling, simulate
from ising.reweighting import Multihistogram
from ising.stats import Estimate

CRITICAL = exact.critical_beta("square")
SIZES = np.array([8, 12, 16, 24, 32, 48])


def noisy(rng, truth, errors, resamples=100):
    """A data set around the truth and its replicas around the data, with these relative errors."""
    data = truth * (1 + errors * rng.normal(size=len(truth)))
    return np.concatenate([data[None], data * (1 + errors * rng.normal(size=(resamples, len(truth))))])


def share_inside(estimates, truth):
    return np.mean([e.sigmas_from(truth) < 1 for e in estimates])


def moment(L, beta, k):
    M, p = exact.strip_magnetisation(L, L, beta)
    return float((np.abs(M) / L**2) ** k @ p)


def exact_u4(L, beta):
    return 1 - moment(L, beta, 4) / (3 * moment(L, beta, 2) ** 2)


@pytest.fixture(scope="module")
def multis():
    """Wolff runs of 4 x 4 and 8 x 8 around the transition."""
    options = {"update": "wolff", "samples": 200, "burn_in": 60, "thin": 4, "chains": 64, "seed": 1}
    return {
        L: Multihistogram(
            [simulate(Ising(lattices.square(L)), beta=beta, **options) for beta in (0.37, 0.41, 0.45, 0.49)]
        )
        for L in (4, 8)
    }


@pytest.mark.parametrize("omega", [None, 2.0])
def test_exponents_of_synthetic_powers_are_covered(omega):
    rng, found, p_values = np.random.default_rng(0), [], []
    correction = 1 if omega is None else 1 + 3.0 / SIZES**2
    for _ in range(300):
        fit = scaling.power_law(SIZES, noisy(rng, 0.7 * SIZES**1.75 * correction, 0.004), omega)
        found.append(fit.parameter(1))
        p_values.append(fit.p_value)
    assert 0.60 < share_inside(found, 1.75) < 0.76
    assert 0.005 < np.mean(np.array(p_values) < 0.05) < 0.11


def test_chi2_of_few_replicas_is_that_of_its_degrees_of_freedom():
    """Its mean over 3000 fits within 4.5 sigma of 4; as it stands in the covariance it would be 6.2."""
    rng = np.random.default_rng(4)
    fits = [scaling.power_law(SIZES, noisy(rng, SIZES**1.75, 0.004, resamples=15)) for _ in range(3000)]
    chi2 = np.array([fit.chi2 for fit in fits])
    assert {fit.dof for fit in fits} == {4}
    assert abs(chi2.mean() - 4) < 4.5 * chi2.std() / 3000**0.5


@pytest.mark.parametrize("d", scaling.ISING)
def test_exponents_of_a_class_belong_together(d):
    """Hyperscaling, gamma/nu + 2 beta/nu = d."""
    assert scaling.ISING[d].gamma_nu + 2 * scaling.ISING[d].beta_nu == pytest.approx(d, abs=1e-6)


def test_of_several_crossings_the_steepest_counts():
    """At 0.46; the curves cross at 0.40 too, with half the slope in the data and twice in some replicas."""

    class Curves:
        betas = np.array([0.37, 0.49])

    small, large, shift = Curves(), Curves(), 1e-3 * np.random.default_rng(5).normal(size=(20, 1))

    beyond = np.where(np.arange(20) < 12, 0.35, 0.51)[:, None]

    def curve(multi, betas):
        x = betas - shift
        return (multi is large) * (x - 0.40) * (x - 0.46) * (x - beyond)

    found = scaling.crossing(small, large, curve)
    assert found == pytest.approx(0.46 + shift[:, 0], abs=1e-6)


def test_every_replica_has_its_own_higher_peak():
    """Two peaks of a curve, at 0.40 and 0.46, of which noise decides; between them is a minimum."""

    class Curves:
        betas = np.array([0.37, 0.49])

    tilt = 1e-5 * np.random.default_rng(6).choice([-1, 1], size=(20, 1))

    def curve(_, betas):
        return tilt * betas - (betas - 0.40) ** 2 * (betas - 0.46) ** 2

    at, height = scaling.maximum(Curves(), curve)
    betas = np.linspace(0.37, 0.49, 120_001)
    values = curve(None, betas)
    np.testing.assert_allclose(at, betas[values.argmax(1)], atol=2e-4)
    np.testing.assert_allclose(height, values.max(1), atol=1e-8)


def test_a_neglected_correction_is_caught():
    """The negative control: a pure power through corrected data misses, and its p-value says so."""
    rng = np.random.default_rng(1)
    replicas = noisy(rng, SIZES**1.75 * (1 + 3.0 / SIZES**2), 0.001)
    fit = scaling.power_law(SIZES, replicas)
    assert fit.parameter(1).sigmas_from(1.75) > 6
    assert fit.p_value < 1e-4
    assert scaling.power_law(SIZES, replicas, omega=2.0).parameter(1).sigmas_from(1.75) < 4.5


def test_an_extrapolation_is_covered():
    rng = np.random.default_rng(2)
    found = [
        scaling.extrapolate(SIZES, noisy(rng, 2.269 * (1 - 0.8 / SIZES**1.5), 0.001), 1.5).parameter(0)
        for _ in range(300)
    ]
    assert 0.60 < share_inside(found, 2.269) < 0.76


def test_shared_errors_count_once():
    """An error common to all sizes cancels in the slope and stays in full in the intercept."""
    rng = np.random.default_rng(3)
    own, common = noisy(rng, np.ones(6), 0.001) - 1, 0.1 * rng.normal(size=(101, 1))
    fit = scaling.least_squares([np.ones(6), np.arange(6.0)], 1 + own + common)
    assert fit.parameter(0).error == pytest.approx(0.1, rel=0.3)
    assert fit.parameter(1).error < 0.001


def test_exact_moments_tell_the_exponents():
    """|m| and m² at T_c of exact 5, 6 and 8 sites per side: the correction takes the bias away."""
    sizes = [5, 6, 8]
    for k, kappa in ((1, -0.125), (2, -0.25)):
        values = np.tile([moment(L, CRITICAL, k) for L in sizes], (20, 1))
        corrected = scaling.power_law(sizes, values, omega=2.0).parameter(1)
        plain = scaling.power_law(sizes, values).parameter(1)
        assert corrected.mean == pytest.approx(kappa, rel=0.006)
        assert abs(plain.mean - kappa) > 3 * abs(corrected.mean - kappa)


def test_binder_crossing(multis):
    truth = brentq(lambda beta: exact_u4(4, beta) - exact_u4(8, beta), 0.44, 0.455, xtol=1e-6)
    found = scaling.crossings(multis)
    assert list(found) == [(4, 8)]
    assert reweighting.estimates(found[4, 8]).sigmas_from(truth) < 4.5
    assert reweighting.estimates(found[4, 8]).error < 0.002


def test_the_height_and_place_of_a_maximum(multis):
    truth = minimize_scalar(
        lambda b: -exact.kaufman_specific_heat(8, 8, b), bounds=(0.4, 0.46), method="bounded"
    )
    place, height = map(reweighting.estimates, scaling.maximum(multis[8], reweighting.specific_heat))
    assert place.sigmas_from(truth.x) < 4.5
    assert height.sigmas_from(-truth.fun) < 4.5
    assert height.error < 0.02
    with pytest.raises(ValueError, match="add runs beyond"):
        scaling.maximum(multis[8], reweighting.abs_m)


def test_a_curve_is_read_by_every_replica_at_its_own_temperature(multis):
    betas = np.linspace(0.4321, 0.45, 201)
    found = scaling.read(multis[4], reweighting.energy, betas)
    for row in (0, 7, 200):
        assert found[row] == pytest.approx(reweighting.energy(multis[4], betas[row])[row], rel=1e-6)


def test_sizes_are_paired_by_their_ratio(multis):
    same = dict.fromkeys((8, 12, 16, 24, 32, 36), multis[4])
    pairs = scaling.crossings(same, _sloped(same))
    assert list(pairs) == [(8, 16), (12, 24), (16, 32), (24, 36)]


def _sloped(multis):
    """Curves that all cross at 0.4321, of another slope each time that one is asked for."""
    slopes = iter(range(1, 1000))

    def curve(multi, betas):
        return np.tile(next(slopes) * (betas - 0.4321), (1 + multi.resamples, 1))

    assert multis
    return curve


def test_wrong_arguments_are_refused(multis):
    with pytest.raises(ValueError, match="positive values"):
        scaling.power_law([4, 8, 16], -np.ones((20, 3)))
    with pytest.raises(ValueError, match="as many points"):
        scaling.power_law([4, 8], np.ones((20, 2)), omega=2.0)
    with pytest.raises(ValueError, match="no crossing or maximum"):
        scaling.crossing(multis[4], multis[8], reweighting.abs_m)


def synthetic(rng, error=0.003, sizes=(8.0, 16.0, 32.0)):
    """Curves y = L^-1/8 f(x) at T_c = 2.269, 1/nu = 1, the data and 15 replicas of them."""
    L, x = np.array(sizes), np.linspace(-1.5, 1.5, 21)
    T = 2.269 + x / L[:, None]
    truth = L[:, None] ** -0.125 * (1.2 - np.tanh(x))
    data = truth + error * rng.normal(size=truth.shape)
    every = [data] + [data + error * rng.normal(size=truth.shape) for _ in range(15)]
    return [collapse.Points(L, T, y, np.full_like(y, error)) for y in every]


def test_a_collapse_finds_what_the_data_were_made_with():
    rng, pulls = np.random.default_rng(4), []
    for _ in range(5):
        fit = collapse.fit(synthetic(rng), (2.27, 1.1, -0.1))
        pulls += [
            e.z(Estimate(x, 0.0))
            for e, x in zip(
                (fit.critical_temperature, fit.inverse_nu, fit.kappa), (2.269, 1, -0.125), strict=True
            )
        ]
        assert 0.4 < fit.quality < 1.7
    assert np.abs(pulls).max() < 5  # of errors from 15 replicas, which are uncertain themselves by a fifth
    assert 0.3 < np.mean(np.square(pulls)) < 2.2


@pytest.mark.parametrize("wrong", [(2.28, 1, -0.125), (2.269, 1.2, -0.125), (2.269, 1, -0.2)])
def test_wrong_exponents_do_not_collapse(wrong):
    points = synthetic(np.random.default_rng(5))[0]
    assert collapse.quality(np.array([2.269, 1, -0.125]), points) < 1.4
    assert collapse.quality(np.array(wrong), points) > 2.5


def test_a_collapse_of_simulations(multis):
    fit = collapse.collapse(multis, reweighting.u4, (2.25, 1.0, 0.0), replicas=4)
    assert abs(fit.critical_temperature.mean - 2.25) < 0.1
    assert fit.points.values.shape == (2, 33)
    with pytest.raises(ValueError, match="no collapse was found"):
        collapse.collapse(multis, reweighting.u4, (9.0, 1.0, 0.0), replicas=4)
