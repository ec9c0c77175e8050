"""Figures of Monte Carlo show all that they are given, where it belongs."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.signal import lfilter

from ising import stats
from ising.stats import Estimate
from physgen import curves

X = np.linspace(2.0, 2.5, 11)


def axes():
    return Figure().subplots()


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def correlated(a=0.9, chains=16, n=4000):
    return lfilter([1], [1, -a], np.random.default_rng(0).normal(size=(chains, n)))


def test_reweighted_curves_carry_bands_and_points():
    drawn = {f"L = {L}": (X, X * L, np.full(11, 0.5)) for L in (8, 16)}
    points = {"L = 16": ([2.1, 2.3], [Estimate(33.6, 0.5), Estimate(36.8, 0.5)])}
    ax = curves.reweighted(axes(), drawn, points, "something", critical=2.269)
    assert texts(ax) == ["L = 8", "L = 16"]
    assert ax.get_ylabel() == "something"
    assert "J / k" in ax.get_xlabel()
    assert len(ax.collections) == 2 + 1  # two bands and one set of error bars
    [container] = ax.containers
    assert container.lines[0].get_xdata().tolist() == [2.1, 2.3]
    assert container.lines[0].get_color() == ax.lines[1].get_color()  # that of the curve of L = 16
    assert 2.269 in ax.lines[-1].get_xdata()


def test_power_laws_are_straight_lines_through_the_largest_size():
    sizes = [8, 16, 32]
    values = [Estimate(3.0 * L**1.75, 0.1) for L in sizes]
    values[0] = Estimate(1.1 * values[0].mean, 0.1)  # the smallest size has a correction
    ax = curves.power_laws(axes(), sizes, {"chi": (values, Estimate(1.75, 0.01))})
    line = ax.lines[0].get_ydata()
    assert 1.1 * line == pytest.approx([1, 2**1.75, 4**1.75])
    assert ax.containers[0].lines[0].get_ydata() == pytest.approx([1, *line[1:]])
    assert texts(ax) == ["chi: 1.750(10)"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_collapsed_curves_are_told_apart():
    drawn = {f"L = {L}": (X, X**2, np.full(11, 0.1)) for L in (8, 16, 32)}
    ax = curves.collapsed(axes(), drawn, "x", "y")
    assert texts(ax) == ["L = 8", "L = 16", "L = 32"]
    assert len({c.lines[0].get_color() for c in ax.containers}) == 3


def test_autocorrelation_of_a_known_process():
    """AR(1): rho(t) = a^t, tau_int = (1 + a) / (2 (1 - a)) = 9.5; the figure counts sweeps."""
    x = correlated()
    assert curves.autocorrelation_function(x)[:20] == pytest.approx(0.9 ** np.arange(20), abs=0.05)
    ax = curves.autocorrelation(axes(), {"e": x}, spacing=10)
    assert ax.lines[0].get_xdata()[:3].tolist() == [0, 10, 20]
    assert texts(ax) == [f"e: τ$_{{int}}$ = {10 * stats.tau_int(x):.3g} sweeps"]
    assert ax.lines[1].get_xdata()[0] == pytest.approx(10 * 5 * stats.tau_int(x), abs=10)
    with pytest.raises(ValueError, match="constant"):
        curves.autocorrelation_function(np.ones((2, 5)))


def test_equilibration_shows_a_start_that_is_still_felt():
    """Blocks of equilibrium agree with one another in units of their errors; a relaxing start does not."""
    settled = correlated()
    relaxing = settled + 5 * 0.999 ** np.arange(4000)
    z = {}
    for name, x in {"settled": settled, "relaxing": relaxing}.items():
        ax = curves.equilibration(axes(), {name: x}, "e", spacing=2)
        [container] = ax.containers
        means = container.lines[0].get_ydata()
        errors = np.array([np.ptp(segment[:, 1]) / 2 for segment in container.lines[2][0].get_segments()])
        z[name] = abs(means[0] - means[-1]) / np.hypot(errors[0], errors[-1])
        assert ax.lines[-1].get_ydata()[-1] == pytest.approx(x.mean())
        assert len(means) == 16
    assert z["settled"] < 4.5 < 10 < z["relaxing"]


def test_blocks_of_a_single_chain_scatter_by_their_errors():
    """The errors of its blocks are those of independent chains, which need no autocorrelation time."""
    x = correlated(chains=256)
    errors = {}
    for chains in (1, 256):
        [container] = curves.equilibration(axes(), {"e": x[:chains]}, "e").containers
        segments = container.lines[2][0].get_segments()
        errors[chains] = np.mean([np.ptp(segment[:, 1]) / 2 for segment in segments]) * chains**0.5
    assert errors[1] == pytest.approx(errors[256], rel=0.4)  # naive: a quarter of it; 3 sigma of tau_int
    with pytest.warns(stats.ChainTooShort):
        [container] = curves.equilibration(axes(), {"short": np.arange(4.0)[None]}, "e").containers
    assert np.ptp(container.lines[2][0].get_segments()[0][:, 1]) / 2 <= np.arange(4).std()
