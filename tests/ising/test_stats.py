"""Error bars against AR(1) processes, whose autocorrelation time and variance are known exactly.

Data come from fixed seeds. Bounds on z are 4.5 sigma (false alarm 7e-6 each). Coverage bands of 400
replicas are 60-76 % at one sigma and 91-98 % at two: honest error bars fall outside with probability 3e-3.
"""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import chi2

from ising import stats
from ising.stats import ChainTooShort, Estimate


def ar1(a: float, chains: int, n: int, seed: int = 0) -> np.ndarray:
    """Stationary x' = a x + noise of unit variance: tau_int = (1 + a) / (2 (1 - a))."""
    rng = np.random.default_rng(seed)
    start = a * rng.normal(size=(chains, 1))
    noise = math.sqrt(1 - a * a) * rng.normal(size=(chains, n))
    return lfilter([1], [1, -a], noise, axis=-1, zi=start)[0]


def coverage(estimates: list[Estimate], exact: float) -> tuple[float, float]:
    z = np.array([e.sigmas_from(exact) for e in estimates])
    return float((z < 1).mean()), float((z < 2).mean())


def assert_honest(estimates: list[Estimate], exact: float) -> None:
    one, two = coverage(estimates, exact)
    assert 0.60 <= one <= 0.76, f"one sigma covers {one:.0%}"
    assert 0.91 <= two <= 0.98, f"two sigma cover {two:.0%}"


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(-1.41973, 0.00124), "-1.4197(12)"),
        (Estimate(0.5, 0.0), "0.5"),
        (Estimate(1.0, 0.0996), "1.00(10)"),
        (Estimate(1.0, 0.996), "1.0(1.0)"),
        (Estimate(251.31, 4.2), "251.3(4.2)"),
        (Estimate(1234.0, 9.96), "1234(10)"),
        (Estimate(1234.5, 123.0), "1234(123)"),
        (Estimate(1e20, 1.2e15), "1.000000(12)e+20"),
        (Estimate(1.5e-9, 2e-11), "1.500(20)e-09"),
        (Estimate(0.0, 1e-7), "0.0(1.0)e-07"),
        (Estimate(1.0, math.nan), "1(nan)"),
        (Estimate(math.nan, 0.1), "nan"),
        (Estimate(math.inf, math.inf), "inf"),
    ],
)
def test_an_estimate_prints_as_a_table_entry(estimate, text):
    assert str(estimate) == text


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(min_value=0, allow_infinity=False))
def test_every_estimate_prints(mean, error):
    assert str(Estimate(mean, error))


def test_distances_in_sigmas():
    a, b = Estimate(1.0, 0.3), Estimate(2.0, 0.4)
    assert a.z(b) == -2.0 == -b.z(a)
    assert [a.sigmas_from(x) for x in (1.6, 0.4)] == pytest.approx([2.0, 2.0])
    assert Estimate(1.0, 0.0).sigmas_from(1.0) == 0.0
    assert Estimate(1.0, 0.0).sigmas_from(1.1) == math.inf
    assert Estimate(1.0, 0.0).z(Estimate(2.0, 0.0)) == -math.inf


@pytest.mark.parametrize(("a", "tolerance"), [(0.0, 0.03), (0.5, 0.05), (0.9, 0.08), (0.98, 0.15)])
def test_tau_of_an_autoregressive_process(a, tolerance):
    """Relative tolerance: four times sqrt(4 M / total) with M = 5 tau, plus 1 % for the cut at M."""
    exact = (1 + a) / (2 * (1 - a))
    assert stats.tau_int(ar1(a, chains=16, n=20_000)) == pytest.approx(exact, rel=tolerance)


@pytest.mark.parametrize(("a", "chains", "n"), [(0.8, 3, 200), (0.95, 1, 300), (0.0, 2, 50)])
def test_tau_and_the_error_of_a_mean_are_plain_sums(a, chains, n):
    """The window of Madras and Sokal, and Wolff's correction for the mean of the same data."""
    x = ar1(a, chains, n)
    d = x - x.mean()
    C = np.array([(d[:, : n - t] * d[:, t:]).sum() / (chains * (n - t)) for t in range(n)])
    tau, m = 0.5, 0
    while m < 5 * tau:
        m += 1
        tau += C[m] / C[0]
    C += 2 * tau * C[0] / x.size
    expected = max(0.5, 0.5 + C[1 : m + 1].sum() / C[0])
    assert stats.tau_int(x) == pytest.approx(expected, rel=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ChainTooShort)
        assert stats.mean(x).error == pytest.approx(math.sqrt(2 * expected * C[0] / x.size), rel=1e-9)


def test_anticorrelated_samples_count_as_independent():
    assert stats.tau_int(ar1(-0.5, chains=4, n=5_000)) == 0.5


def test_offsets_between_chains_are_not_hidden():
    """Chains stuck in different places: the pooled mean sees it, one mean per chain would not."""
    x = ar1(0.0, chains=8, n=500)
    stuck = x + 5 * np.arange(8)[:, None]
    with pytest.warns(ChainTooShort):
        error = stats.mean(stuck).error
    assert error > 10 * stats.mean(x).error
    assert error > 0.8 * (5 * np.arange(8)).std() / math.sqrt(8)


@pytest.mark.parametrize(
    ("a", "chains", "n"), [(0.0, 64, 20), (0.5, 4, 500), (0.9, 64, 200), (0.9, 1, 4_000)]
)
def test_the_error_of_a_mean_covers(a, chains, n):
    assert_honest([stats.mean(ar1(a, chains, n, seed)) for seed in range(400)], exact=0.0)


def test_naive_errors_do_not_cover():
    """Negative control: the same data, as if its samples were independent, fails the same band."""
    naive = []
    for seed in range(400):
        x = ar1(0.9, 1, 4_000, seed)
        naive.append(Estimate(float(x.mean()), float(x.std() / math.sqrt(x.size))))
    one, _ = coverage(naive, 0.0)
    assert one < 0.30
    with pytest.raises(AssertionError, match="one sigma covers"):
        assert_honest(naive, 0.0)


@pytest.mark.parametrize(
    ("a", "chains", "n"), [(0.0, 64, 100), (0.8, 64, 300), (0.8, 4, 4_000), (0.8, 200, 100)]
)
def test_the_jackknife_covers_a_variance(a, chains, n):
    """<x^2> - <x>^2 has the bias -2 tau / total without correction, and strongly correlated inputs."""
    estimates = []
    for seed in range(400):
        x = ar1(a, chains, n, seed)
        estimates.append(stats.jackknife(lambda m, m2: m2 - m * m, x, x * x))
    assert_honest(estimates, exact=1.0)


def test_the_jackknife_covers_a_binder_cumulant():
    estimates = []
    for seed in range(400):
        x = ar1(0.7, 32, 400, seed)
        estimates.append(stats.jackknife(lambda m2, m4: 1 - m4 / (3 * m2 * m2), x**2, x**4))
    assert_honest(estimates, exact=0.0)


def test_the_jackknife_of_a_mean_is_the_mean():
    x = ar1(0.5, 50, 400)
    linear = stats.jackknife(lambda m: m, x)
    assert linear.mean == pytest.approx(x.mean(), abs=1e-12)
    assert linear.error == pytest.approx(x.reshape(100, -1).mean(1).std(ddof=1) / 10)  # two blocks a chain


@pytest.mark.filterwarnings("ignore::ising.stats.ChainTooShort")  # a few of them look more correlated
def test_blocks_of_a_jackknife_are_longer_than_the_correlation():
    """With blocks of one tau the squared error would be half of the true one; here it is right to 3 %."""
    a, n = 0.9, 950
    found = [stats.jackknife(lambda m: m, ar1(a, 1, n, seed)).error ** 2 for seed in range(300)]
    exact = ((1 + a) / (1 - a) - 2 * a * (1 - a**n) / (n * (1 - a) ** 2)) / n
    assert 0.84 < np.mean(found) / exact < 1.10  # 4.5 sigma


@pytest.mark.filterwarnings("ignore::ising.stats.ChainTooShort")  # a few of 4000 short series look correlated
def test_the_jackknife_removes_the_leading_bias():
    """exp(mean) of 100 samples is high by 1/200; averaged over 4000 data sets the corrected one is not."""
    data = np.random.default_rng(0).normal(size=(4_000, 1, 100))
    corrected = np.array([stats.jackknife(math.exp, x, blocks=20).mean for x in data])
    plain = np.exp(data.mean((1, 2)))
    assert abs(corrected.mean() - 1) < 4.5 * corrected.std() / math.sqrt(4_000)
    assert plain.mean() - 1 == pytest.approx(0.005, abs=4.5 * plain.std() / math.sqrt(4_000))
    assert np.mean(plain - corrected) == pytest.approx(0.005, rel=0.1)


def test_unequal_blocks_weigh_by_their_size():
    """67 chains in 64 groups: three groups are twice as long."""
    x = ar1(0.0, 67, 10)
    estimate = stats.jackknife(lambda m: m, x, blocks=64)
    assert estimate.mean == pytest.approx(x.mean(), abs=1e-12)


def test_binning_rises_to_the_plateau():
    x = ar1(0.9, 4, 32_768)
    levels = stats.binning(x)
    assert levels[0].error == pytest.approx(x.std() / math.sqrt(x.size), rel=1e-3)
    plateau = levels[
        9
    ]  # blocks of 512 = 54 tau: short of the plateau by 1 %, 4.5 sigma of 256 blocks is 20 %
    assert plateau.error == pytest.approx(stats.mean(x).error, rel=0.2)
    assert plateau.tau == pytest.approx(9.5, rel=0.4)


@pytest.mark.parametrize(
    ("a", "chains", "n"), [(0.0, 1, 1_000), (0.5, 4, 512), (0.9, 1, 8_192), (0.9, 200, 40), (0.5, 1, 1_500)]
)
def test_blocking_covers(a, chains, n):
    assert_honest([stats.blocking(ar1(a, chains, n, seed)) for seed in range(400)], exact=0.0)


@pytest.mark.filterwarnings("ignore::ising.stats.ChainTooShort")
def test_blocking_takes_the_level_of_a_plain_program():
    for seed in range(60):
        x = ar1(0.8, 1, 1_000, seed)
        y, errors, tests = x - x.mean(), [], []
        while y.size >= 16:
            rho = (y[:, 1:] * y[:, :-1]).mean() / (y * y).mean()
            tests.append((y.size - 1) * (rho + 1 / y.size) ** 2)
            errors.append(math.sqrt(y.var(ddof=1) / y.size))
            y = y[:, : y.size // 2 * 2].reshape(1, -1, 2).mean(-1)
        passed = [sum(tests[k:]) < chi2.ppf(0.99, len(tests) - k) for k in range(len(tests))]
        level = passed.index(True) if any(passed) else -1
        assert stats.blocking(x).error == pytest.approx(errors[level], rel=0.02)  # odd blocks are cut off


def test_blocking_without_its_test_does_not_cover():
    """Negative control: a threshold that lets the first level pass gives the naive error."""
    first = [stats.blocking(ar1(0.9, 1, 8_192, seed), confidence=1.0) for seed in range(400)]
    with pytest.raises(AssertionError, match="one sigma covers"):
        assert_honest(first, 0.0)


def test_blocking_falls_back_to_whole_chains_or_warns():
    """Chains stuck in different places: no level passes."""
    stuck = ar1(0.0, 32, 64) + np.random.default_rng(1).normal(size=(32, 1))
    between = stuck.mean(1).std(ddof=1) / math.sqrt(32)
    assert stats.blocking(stuck).error == pytest.approx(between)
    with pytest.warns(ChainTooShort, match="more chains"):
        stats.blocking(ar1(0.99, 1, 256))
    assert stats.blocking(np.full((2, 8), 0.3)) == Estimate(pytest.approx(0.3), 0.0)
    single = np.arange(30.0)[:, None]
    assert stats.blocking(single).error == pytest.approx(single.std(ddof=1) / math.sqrt(30))


def test_constant_series_have_no_error():
    constant = np.full((4, 100), 0.1)
    assert (stats.tau_int(constant), stats.mean(constant).error) == (0.5, 0.0)
    assert stats.mean(constant).mean == pytest.approx(0.1)
    frozen = stats.jackknife(lambda m, m2: m2 - m * m, constant, constant**2)
    assert (frozen.mean, frozen.error) == (pytest.approx(0.0, abs=1e-17), 0.0)
    assert [level.error for level in stats.binning(constant)] == [0.0] * 5


def test_short_series_warn_and_long_ones_do_not():
    x = ar1(0.9, chains=4, n=2_000)
    stats.mean(x)
    stats.jackknife(lambda m: m, x)
    with pytest.warns(ChainTooShort, match="run longer or thin more"):
        stats.mean(x[:, :60])
    with pytest.warns(ChainTooShort, match="per chain"):
        stats.mean(ar1(0.9, chains=64, n=60))  # 6 tau in each
    with pytest.warns(ChainTooShort, match="25 in all"):
        stats.mean(np.arange(4.0))


def test_one_chain_may_be_flat():
    x = ar1(0.5, 1, 2_000)
    assert stats.mean(x[0]) == stats.mean(x)


@pytest.mark.filterwarnings("ignore::ising.stats.ChainTooShort")
@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: stats.mean(np.array([[1.0, np.nan]])), "must be finite"),
        (lambda: stats.mean(np.zeros((2, 0))), "at least one sample"),
        (lambda: stats.tau_int(np.zeros((2, 2, 2))), "shape"),
        (lambda: stats.jackknife(lambda a, b: a + b, np.zeros((2, 9)), np.zeros((2, 8))), "all of one shape"),
        (lambda: stats.jackknife(lambda a: a, np.arange(5.0), blocks=1), "at least two blocks"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
