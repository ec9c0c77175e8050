"""Divergences against closed forms. Seeds are fixed; a |z| of 4.5 is a false alarm 7e-6 of the time."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import kstest

from ising.stats import Estimate
from physgen import divergence
from physgen.divergence import (
    FORWARD,
    REVERSE,
    Divergence,
    averaged,
    counted,
    effective_sample_size,
    enumerated,
    enumerated_from_repeats,
    histogram,
    joint,
)

Z_MAX = 4.5
P_MIN = 1e-5


def ar1(rng, a, shape):
    """Autoregressive series with variance 1 and tau_int = (1 + a) / (2 (1 - a))."""
    noise = rng.normal(size=(shape[0], shape[1] + 200)) * math.sqrt(1 - a * a)
    return lfilter([1], [1, -a], noise)[:, 200:]


def test_both_directions_of_two_coins():
    p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    forward, reverse = enumerated(np.log(p), np.log(q), n_sites=1)
    assert forward.estimate.mean == pytest.approx((p * np.log(p / q)).sum(), abs=1e-14)
    assert reverse.estimate.mean == pytest.approx((q * np.log(q / p)).sum(), abs=1e-14)
    assert (forward.direction, reverse.direction) == (FORWARD, REVERSE)
    assert forward.estimate.mean > 1.3 * reverse.estimate.mean


def test_a_state_without_probability():
    p, q = np.log([1.0, 1e-300]), np.array([math.log(0.5), math.log(0.5)])
    p[1] = -np.inf
    forward, reverse = enumerated(p, q, n_sites=1)
    assert forward.estimate.mean == pytest.approx(math.log(2))
    assert reverse.estimate.mean == math.inf


def test_an_unnormalised_density_is_refused():
    with pytest.raises(ValueError, match="must sum to 1 over all 2 states"):
        enumerated(np.log([0.5, 0.5]), np.log([0.6, 0.6]), n_sites=1)


def test_repeats_remove_the_bias_of_a_noisy_density():
    rng = np.random.default_rng(0)
    log_p, log_q = (np.log(rng.dirichlet(np.ones(512))) for _ in range(2))
    expected = [d.estimate.mean for d in enumerated(log_p, log_q, 9)]
    noise = rng.normal(-0.125, 0.5, size=(60, 8, 512))  # exp(noise) has mean 1
    found = [[d.estimate for d in enumerated_from_repeats(log_p, log_q + x, 9)] for x in noise]
    for k in range(2):
        means, errors = (np.array([getattr(f[k], name) for f in found]) for name in ("mean", "error"))
        assert abs(means.mean() - expected[k]) < Z_MAX * means.std() / math.sqrt(60)
        assert 0.7 < errors.mean() / means.std() < 1.4
    plug_in = np.array(
        [(np.exp(log_p) * (log_p - log_q - np.log(np.exp(x).mean(0)))).sum() / 9 for x in noise]
    )
    assert (plug_in.mean() - expected[0]) / plug_in.std() * math.sqrt(60) > Z_MAX


def test_averages_carry_the_error_of_log_z():
    ratio = np.random.default_rng(0).normal(3.0, 1.0, size=(4, 500))
    alone, carried = (averaged(ratio, 10, FORWARD, log_z_error=x).estimate for x in (0.0, 2.0))
    assert alone.sigmas_from(0.3) < Z_MAX
    assert carried.error == pytest.approx(math.hypot(alone.error, 0.2))


def test_counts_recover_a_known_divergence():
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(256), size=2)
    expected = (q * np.log(q / p)).sum() / 8
    found = counted(rng.choice(256, p=q, size=(1, 200_000)), np.log(p), 8)
    assert found.estimate.sigmas_from(expected) < Z_MAX
    assert (found.kind, found.direction) == ("histogram", REVERSE)
    zero = [counted(rng.choice(256, p=p, size=(1, 20_000)), np.log(p), 8).estimate.mean for _ in range(40)]
    assert abs(np.mean(zero)) < 1e-4  # the bias that was taken off is 8e-4


def test_histograms_of_one_law_differ_by_nothing():
    rng = np.random.default_rng(2)
    pairs = [(ar1(rng, 0.9, (8, 500)), rng.normal(size=(1, 3000))) for _ in range(50)]
    found = [histogram(a, b, "m").estimate for a, b in pairs]
    z = np.array([e.mean / e.error for e in found])
    assert abs(z.mean()) < Z_MAX / 50**0.5
    assert np.abs(z).max() < Z_MAX
    assert 0.6 < (np.abs(z) < 1).mean() < 0.99
    half = rng.chisquare(19, size=100_000) / 2  # the law of n KL for 20 bins: its spread to 2 %
    assert divergence._null_spread(20, 0.5) == pytest.approx(half.std(), rel=0.02)
    naive = [histogram(a.reshape(-1, 1)[rng.permutation(a.size)].T, b, "m").estimate for a, b in pairs]
    z_naive = np.array([e.mean / e.error for e in naive])
    assert z_naive.mean() > Z_MAX / 50**0.5  # blind to the autocorrelation, the bias is not all removed


def test_a_histogram_recovers_a_known_divergence():
    rng = np.random.default_rng(3)
    found = [histogram(rng.normal(0.4, 1, (1, 4000)), rng.normal(size=(8, 1000)), "m") for _ in range(40)]
    means, errors = (np.array([getattr(d.estimate, name) for d in found]) for name in ("mean", "error"))
    assert means.mean() == pytest.approx(0.4**2 / 2, rel=0.03)  # 20 bins lose about 1 %
    assert 0.7 < errors.mean() / means.std() < 1.4


def test_a_bin_that_is_never_drawn_is_finite_and_said():
    rng = np.random.default_rng(4)
    found = histogram(rng.normal(5, 0.1, size=(1, 1000)), rng.normal(size=(1, 1000)), "e")
    assert 2 < found.estimate.mean < math.log(2 * 1000)
    assert "never drawn by the model" in found.note


def test_frozen_samples_have_no_divergence():
    assert histogram(np.ones((2, 50)), np.ones((2, 50)), "m").estimate.mean == 0


def test_p_values_of_the_joint_test_are_uniform():
    rng = np.random.default_rng(5)

    def sample(a, shape, shift=0.0):
        x = ar1(rng, a, shape) + shift
        return {"x": x, "x²": x * x, "|x|": abs(x)}

    p = [joint(sample(0.7, (16, 640)), sample(0.0, (1, 4000))).p_value for _ in range(200)]
    assert kstest(p, "uniform").pvalue > P_MIN
    assert joint(sample(0.7, (16, 640), shift=0.2), sample(0.0, (1, 4000))).p_value < P_MIN


def test_the_joint_test_of_frozen_samples():
    ones = {"e": np.ones((64, 10)), "m": np.ones((64, 10))}
    assert joint(ones, ones).p_value == 1
    assert joint(ones, {"e": np.ones((64, 10)), "m": -np.ones((64, 10))}).p_value == 0
    assert joint({"e": np.ones((1, 3))}, {"e": np.ones((1, 3))}) is None


def test_effective_sample_size():
    assert effective_sample_size(np.full(7, -300.0)) == pytest.approx(1)
    with np.errstate(divide="ignore"):
        assert effective_sample_size(np.log([3.0, 1.0, 0.0])) == pytest.approx(1.6 / 3)
    assert effective_sample_size(np.array([0.0, -1e4, -1e4, -1e4])) == pytest.approx(0.25)


def test_a_bound_is_called_a_bound():
    text = str(Divergence(FORWARD, "bound", Estimate(0.5, 0.01)))
    assert text == "KL(p‖q) <= 0.500(10) nats per site (bound)"
    assert str(Divergence(FORWARD, "histogram", Estimate(0.5, 0.01), "m")).endswith(
        "0.500(10) nats (histogram)"
    )
