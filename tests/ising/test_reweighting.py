"""Multi-histogram reweighting against Kaufman's and Beale's exact answers.

Most runs here are independent draws from the exact law of the energy, so that the truth is known at every
temperature. Seeds are fixed; bounds on z are 4.5 standard errors (false alarm 7e-6 each). One sigma has to
cover in 54 to 82 of 100 data sets: honest errors miss that with probability 3e-3, each of six quantities.
"""

import warnings

import numpy as np
import pytest

from ising import Ising, Run, exact, free_energies, lattices, reweighting, simulate, stats
from ising.reweighting import Multihistogram, PoorOverlap, estimates
from ising.stats import Estimate

BETAS = {8: (0.36, 0.42, 0.48), 16: (0.41, 0.44, 0.47)}
BETWEEN = {8: np.linspace(0.36, 0.48, 7), 16: np.linspace(0.41, 0.47, 7)}
EXACT = {
    "log_z": exact.kaufman_log_z,
    "energy": exact.kaufman_energy,
    "specific_heat": exact.kaufman_specific_heat,
}


def run_of(L, beta, energies, magnetisations=None, seed=0):
    """A run of these energies; there are no configurations behind them."""
    model = Ising(lattices.square(L)).describe()
    M = np.zeros_like(energies) if magnetisations is None else magnetisations
    bits = np.zeros((*energies.shape, -(-L * L // 8)), dtype=np.uint8)
    return Run(
        model,
        (L, L),
        beta,
        "wolff",
        seed,
        0,
        1,
        bits=bits,
        energies=energies,
        magnetisations=M,
        provenance={},
    )


def drawn(L, beta, rng, chains=64, samples=100, label=None):
    levels, p = exact.energy_distribution(L, L, beta)
    return run_of(L, label or beta, rng.choice(levels, p=p, size=(chains, samples)))


def pulls(multi, L, betas):
    """z of log Z / Z_0, e and C against the exact values, by name."""
    zero = exact.kaufman_log_z(L, L, multi.betas[0])
    truth = {name: np.array([f(L, L, b) for b in betas]) for name, f in EXACT.items()}
    truth["log_z"] -= zero
    found = {
        "log_z": multi.log_z(betas),
        "energy": reweighting.energy(multi, betas),
        "specific_heat": reweighting.specific_heat(multi, betas),
    }
    return {
        name: np.array(
            [e.z(Estimate(x, 0.0)) for e, x in zip(estimates(found[name]), truth[name], strict=True)]
        )
        for name in EXACT
    }


@pytest.fixture(scope="module")
def wolff():
    """Wolff runs of 8 x 8 at three temperatures."""
    model = Ising(lattices.square(8))
    options = {"update": "wolff", "samples": 200, "burn_in": 60, "thin": 4, "chains": 64, "seed": 1}
    return [simulate(model, beta=beta, **options) for beta in BETAS[8]]


@pytest.mark.parametrize("L", [8, 16])
def test_curves_between_the_temperatures_are_exact_within_errors(L):
    rng = np.random.default_rng(L)
    multi = Multihistogram([drawn(L, beta, rng) for beta in BETAS[L]], seed=1)
    betas = BETWEEN[L][1:]  # at the first temperature log Z / Z_0 is 0 by definition
    for name, z in pulls(multi, L, betas).items():
        assert np.abs(z).max() < 4.5, name
    assert multi.log_z(multi.betas[0]) == pytest.approx(0, abs=1e-8)
    assert multi.inefficiencies == pytest.approx(1, abs=0.1)


def test_a_wrong_temperature_is_caught():
    """A run 1 % away from where it says it is: the negative control of the test above."""
    rng = np.random.default_rng(0)
    runs = [drawn(16, beta, rng) for beta in BETAS[16]]
    runs[1] = drawn(16, 0.4444, rng, label=0.44)
    z = pulls(Multihistogram(runs), 16, BETWEEN[16][1:])
    assert np.abs(z["energy"]).max() > 6


def test_error_bars_cover():
    rng, inside = np.random.default_rng(1), []
    for trial in range(100):
        runs = [drawn(8, beta, rng, samples=20) for beta in BETAS[8]]
        z = pulls(Multihistogram(runs, resamples=60, seed=trial), 8, np.array([0.39, 0.45]))
        inside.append([np.abs(z[name]) < 1 for name in EXACT])
    for name, share in zip(EXACT, np.mean(inside, axis=0), strict=True):
        assert (share > 0.54).all(), (name, share)
        assert (share < 0.82).all(), (name, share)


def test_sizes_are_resampled_independently():
    """Replicas of two sizes would else fluctuate together, and the errors of their crossing be wrong."""
    rng = np.random.default_rng(3)
    a, b, c = (
        Multihistogram([drawn(L, beta, rng) for beta in (0.42, 0.45)], resamples=5) for L in (8, 8, 10)
    )
    drawn_blocks, same, other = (np.rint(x._weights / x._weights[0]) for x in (a, b, c))
    assert (drawn_blocks == same).all()
    assert (drawn_blocks != other).any()


@pytest.mark.parametrize("chains", [4, 64])
def test_correlated_samples_count_for_what_they_are(chains):
    """Every sample five times over changes no value and no error, whether blocks are chains or stretches."""
    rng = np.random.default_rng(2)
    plain = [drawn(8, beta, rng, chains, 6400 // chains) for beta in BETAS[8]]
    repeated = [run_of(8, run.beta, run.energies.repeat(5, axis=1)) for run in plain]
    a, b = (Multihistogram(runs, resamples=800) for runs in (plain, repeated))
    assert b.inefficiencies == pytest.approx(5 * a.inefficiencies, rel=0.25)
    for curve in (reweighting.energy, reweighting.specific_heat):
        x, y = (estimates(curve(multi, 0.44)) for multi in (a, b))
        assert x.mean == pytest.approx(y.mean, abs=0.2 * x.error)
        assert x.error == pytest.approx(y.error, rel=0.3)  # naive errors would be 2.2 times smaller
    assert a.ess(0.44) == pytest.approx(b.ess(0.44), rel=0.25)
    slow = rng.normal(size=(chains, 1280 // chains)).repeat(5, axis=1)  # tau = 5/2
    mixed = Multihistogram([run_of(8, run.beta, run.energies, slow) for run in plain], resamples=2)
    assert mixed.inefficiencies == pytest.approx(5, rel=0.25)


def test_magnetic_curves_of_a_simulation(wolff):
    multi = Multihistogram(wolff)
    for beta in (0.4, 0.44):
        M, p = exact.strip_magnetisation(8, 8, beta)
        m, m2, m4 = (float((np.abs(M) / 64) ** k @ p) for k in (1, 2, 4))
        truth = {
            "abs_m": m,
            "chi": 64 * beta * (m2 - m * m),
            "chi_symmetric": 64 * beta * m2,
            "u4": 1 - m4 / (3 * m2 * m2),
        }
        for name, value in truth.items():
            assert estimates(getattr(reweighting, name)(multi, beta)).sigmas_from(value) < 4.5, name


def test_slopes_are_derivatives(wolff):
    multi, h = Multihistogram(wolff, resamples=2), 1e-4
    slope = (reweighting.u4(multi, 0.44 + h) - reweighting.u4(multi, 0.44 - h)) / (2 * h)
    np.testing.assert_allclose(reweighting.u4_slope(multi, 0.44), slope, rtol=1e-4)
    log_m = np.log(reweighting.abs_m(multi, [0.44 - h, 0.44 + h]))
    np.testing.assert_allclose(
        reweighting.log_abs_m_slope(multi, 0.44), np.diff(log_m)[:, 0] / (2 * h), rtol=1e-4
    )


def test_a_single_run_at_its_own_temperature_is_the_plain_mean(wolff):
    multi = Multihistogram(wolff[:1])
    [m2] = multi.means(wolff[0].beta, lambda _, M: M**2)
    assert m2[0] == pytest.approx((wolff[0].magnetisations ** 2).mean(), rel=1e-12)
    assert reweighting.energy(multi, wolff[0].beta)[0] == pytest.approx(
        wolff[0].energies.mean() / 64, rel=1e-12
    )
    assert estimates(m2).error == pytest.approx(stats.mean(wolff[0].magnetisations ** 2).error, rel=0.4)


def test_the_order_of_runs_and_the_size_of_groups_do_not_matter(wolff, monkeypatch):
    whole = reweighting.u4(Multihistogram(wolff), [0.4, 0.43])
    monkeypatch.setattr(reweighting, "_NUMBERS", 1000)
    np.testing.assert_allclose(reweighting.u4(Multihistogram(wolff[::-1]), [0.4, 0.43]), whole, rtol=1e-9)


def test_two_runs_at_one_temperature_are_one_longer_run(wolff):
    halves = [
        run_of(8, run.beta, run.energies[:, half], run.magnetisations[:, half], seed)
        for run in wolff
        for seed, half in enumerate((slice(100), slice(100, 200)))
    ]
    a, b = (Multihistogram(runs) for runs in (wolff, halves))
    x, y = (estimates(reweighting.u4(multi, 0.45)) for multi in (a, b))
    assert abs(x.mean - y.mean) < 0.5 * x.error
    assert x.error == pytest.approx(y.error, rel=0.4)


def test_free_energies_solve_their_equations():
    rng = np.random.default_rng(3)
    runs = [drawn(8, beta, rng) for beta in BETAS[8]]
    multi = Multihistogram(runs, resamples=5)
    found = np.diff(multi.log_z(multi.betas), axis=1)
    truth = np.diff([exact.kaufman_log_z(8, 8, beta) for beta in BETAS[8]])
    assert (np.abs(found[0] - truth) < 0.1).all()
    levels, counts = np.unique(np.concatenate([run.energies.ravel() for run in runs]), return_counts=True)
    n, a = runs[0].energies.size / multi.inefficiencies, -multi.log_z(multi.betas)[0]
    weights = 1 / np.exp(np.log(n)[:, None] + a[:, None] - multi.betas[:, None] * levels).sum(0)
    by_run = np.array([[(run.energies == level).sum() for level in levels] for run in runs])
    z = (by_run / multi.inefficiencies[:, None] * weights * np.exp(-multi.betas[:, None, None] * levels)).sum(
        (1, 2)
    )
    np.testing.assert_allclose(np.log(z), -a, atol=1e-7)
    assert counts.sum() == by_run.sum()


def test_poor_overlap_warns():
    rng = np.random.default_rng(4)
    with pytest.warns(PoorOverlap, match=r"overlap by .* only; add a run between"):
        Multihistogram([drawn(16, beta, rng) for beta in (0.3, 0.45)])
    multi = Multihistogram([drawn(16, 0.44, rng)])
    with pytest.warns(PoorOverlap, match=r"independent samples carry beta = 0.38"):
        reweighting.energy(multi, [0.44, 0.38])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reweighting.energy(multi, [0.43, 0.45])


def test_runs_that_share_nothing_are_refused():
    rng = np.random.default_rng(5)
    with pytest.raises(ValueError, match="nothing in common"):
        Multihistogram([drawn(16, 0.1, rng), drawn(16, 1.0, rng)])
    counts, n = np.array([[50.0, 50.0]]), np.array([[60.0, 40.0]])
    with pytest.raises(ValueError, match="add runs between"):
        free_energies.joined(
            np.array([0.0, 9.0]), np.array([-500.0, 500.0]), counts, n, np.array([[0.0, 0.0]])
        )


def test_wrong_arguments_are_refused(wolff):
    rng = np.random.default_rng(6)
    with pytest.raises(ValueError, match="at least one run"):
        Multihistogram([])
    with pytest.raises(ValueError, match="one Hamiltonian"):
        Multihistogram([*wolff, drawn(16, 0.44, rng)])
    with pytest.raises(ValueError, match="repeat each other"):
        Multihistogram([*wolff, wolff[0]])
    with pytest.raises(ValueError, match="resamples"):
        Multihistogram(wolff, resamples=1)
    with pytest.warns(stats.ChainTooShort), pytest.raises(ValueError, match="one block"):
        Multihistogram([run_of(8, 0.4, drawn(8, 0.4, rng, 1, 4).energies)])
