"""Figures say what they show, and show everything that they are given."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ising.stats import Estimate
from physgen import plots, report
from physgen.comparison import NOISE_FLOOR, Comparison, Sample
from physgen.divergence import FORWARD, REVERSE, Divergence
from physgen.train import Record
from physgen.weights import weigh

SYMBOLS = {"energy": "e", "u4": "U₄"}


def sample(rng, shape=(4, 4), energy=-1.0):
    values = {"energy": Estimate(energy, 0.01), "u4": Estimate(0.5, 0.02)}
    series = rng.integers(-8, 9, size=(4, 50)) / 8
    g = tuple(Estimate(0.5**r, 0.01) for r in range(3))
    return Sample(series, series, values, g, rng.choice([-1, 1], size=(8, *shape)))


def comparison(T, *divergences, name="", shape=(4, 4), energy=-1.0, exact=None):
    rng = np.random.default_rng(0)
    target = {"lattice": "square", "size": [4], "pbc": [True, True], "J": 1.0, "h": 0.0}
    return Comparison(
        name=name,
        target=target,
        beta=1 / T,
        shape=shape,
        divergences=divergences,
        ess=None,
        model=sample(rng, shape, energy),
        monte_carlo=sample(rng, shape),
        symbols=SYMBOLS,
        exact={"energy": -1.0} if exact is None else exact,
        joint=None,
    )


def axes():
    return Figure().subplots()


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def by_temperature():
    return {f"{name} {T}": comparison(T, name=name) for name in ("MADE", "VAE") for T in (1.8, 3.0)}


def test_an_observable_has_points_errors_units_and_its_exact_curve():
    T = np.linspace(1.5, 3.5, 9)
    figure = plots.observable_with_pulls(Figure(), by_temperature(), "energy", (T, -2 + 0.1 * T))
    above, below = figure.axes
    assert texts(above) == ["exact", "Monte Carlo", "MADE", "VAE"]
    assert len(above.containers) == 3  # error bars of Monte Carlo and of two models
    assert all(len(c.lines[0].get_xdata()) == 2 for c in above.containers)
    for bars in above.containers:
        ends = np.array(bars.lines[2][0].get_segments())[:, :, 1]
        assert ends == pytest.approx(np.tile([-1.01, -0.99], (2, 1)))  # one standard error either way
    assert above.get_ylabel() == "energy per site e"
    assert "J / k" in below.get_xlabel()
    assert below.get_ylabel() == "z (exact)"


def test_monte_carlo_is_the_whole_run_and_not_a_half():
    whole, half = comparison(2.0), comparison(2.0, name=NOISE_FLOOR)
    other = dataclasses.replace(
        half.monte_carlo, observables=half.monte_carlo.observables | {"energy": Estimate(-5.0, 0.1)}
    )
    whole = dataclasses.replace(whole, noise_floor=dataclasses.replace(half, monte_carlo=other))
    ax = plots.observable(axes(), {"MADE": whole}, "energy")
    assert ax.containers[0].lines[0].get_ydata().tolist() == [-1.0]
    drawn = plots.pulls(axes(), {"MADE": whole}, "energy").lines
    assert [line.get_ydata().tolist() for line in drawn if line.get_marker() == "o"] == [[0.0]]


def test_pulls_are_distances_from_the_exact_value_where_it_is_known():
    for exact, z in ((None, -5.0), ({}, -5.0 / math.sqrt(2))):
        drawn = plots.pulls(axes(), {"MADE": comparison(2.0, energy=-1.05, exact=exact)}, "energy").lines
        assert drawn[-1].get_ydata().tolist() == pytest.approx([z])


def test_exact_points_are_marked_where_there_is_no_curve():
    assert "exact" in plots.observable(axes(), by_temperature(), "energy").get_legend_handles_labels()[1]
    assert "exact" not in plots.observable(axes(), by_temperature(), "u4").get_legend_handles_labels()[1]
    assert plots.pulls(axes(), by_temperature(), "u4").get_ylabel() == "z (MC)"


@pytest.mark.parametrize("energy", [-1.0, -1.5, 7.0, 1e6, math.inf])
def test_no_pull_is_outside_of_the_frame(energy):
    ax = plots.pulls(axes(), {"bad": comparison(2.0, energy=energy)}, "energy")
    low, high = ax.get_ylim()
    drawn = np.concatenate([line.get_ydata() for line in ax.lines if line.get_marker() != "None"])
    assert len(drawn) == 2  # the model and Monte Carlo
    assert low <= drawn.min() <= drawn.max() <= high


@pytest.mark.parametrize("of", ["e", "m"])
def test_a_histogram_has_unit_area_and_every_model(of):
    rows = {"MADE": comparison(2.0), "VAE": comparison(2.0)}
    lower = dataclasses.replace(rows["VAE"].model, energies=rows["VAE"].model.energies - 3)
    rows["VAE"] = dataclasses.replace(rows["VAE"], model=lower)
    ax = plots.histogram(axes(), rows, of)
    assert texts(ax) == ["Monte Carlo", "MADE", "VAE"]
    assert len(ax.patches) == 3
    for patch, mean in zip(ax.patches, (0, 0, -3 if of == "e" else 0), strict=True):
        (x, y), dx = patch.get_xy()[:-1].T, np.diff(patch.get_xy()[:, 0])
        level = np.append(np.diff(y) == 0, False)
        assert (y * dx)[level].sum() == pytest.approx(1)
        assert (y * dx * (x + dx / 2))[level].sum() == pytest.approx(mean, abs=0.3)
    values = np.random.default_rng(1).integers(-8, 9, size=1000) / 8
    edges = plots._aligned_edges(values)
    assert np.histogram(values, edges)[0].sum() == 1000
    assert len(edges) == 18  # one bin for each of 17 values, with its value in the middle
    assert edges[0] == pytest.approx(-1 - 1 / 16)
    assert len(plots._aligned_edges(np.array([0.25]))) == 2


def test_correlations_have_error_bars():
    ax = plots.correlation(axes(), {"MADE": comparison(2.0), NOISE_FLOOR: comparison(2.0)})
    assert texts(ax) == ["Monte Carlo", "MADE"]
    assert "r" in ax.get_xlabel()
    open_edges = dataclasses.replace(comparison(2.0).model, correlation=())
    assert not plots.correlation(
        axes(), {"x": dataclasses.replace(comparison(2.0), model=open_edges, monte_carlo=None)}
    ).containers


@pytest.mark.parametrize("shape", [(4, 4), (16,), (3, 3, 3)])
def test_configurations_of_any_dimension(shape):
    rows = {"MADE": comparison(2.0, shape=shape), NOISE_FLOOR: comparison(2.0, shape=shape)}
    figure = plots.configurations(Figure(), rows, count=3)
    assert len(figure.axes) == 6
    assert [ax.get_title(loc="left") for ax in figure.axes[::3]] == ["Monte Carlo", "MADE"]
    assert all(len(ax.images) == 1 for ax in figure.axes)
    shown, picture = figure.axes[3].images[0], rows["MADE"].model.pictures[0]
    top = picture if len(shape) < 3 else picture[0]
    assert (shown.get_array() == np.atleast_2d(top)).all()
    assert shown.cmap(1.0)[0] < shown.cmap(0.0)[0]  # spin up is dark


def test_every_divergence_is_drawn_whatever_its_value():
    kinds = {
        "good": Divergence(FORWARD, "exact", Estimate(1e-4, 0.0)),
        "zero": Divergence(FORWARD, "estimated", Estimate(-1e-4, 2e-4)),
        "bad": Divergence(REVERSE, "estimated", Estimate(3.0, 0.1)),
        "bound": Divergence(FORWARD, "bound", Estimate(0.1, 0.01)),
    }
    rows = {label: comparison(2.0, d) for label, d in kinds.items()} | {"none": comparison(2.0)}
    ax = plots.divergences(axes(), rows)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(rows)
    positions = sorted(round(float(c.lines[0].get_ydata()[0])) for c in ax.containers)
    assert positions == [0, 1, 2, 3]
    low, high = ax.get_xlim()
    assert all(low < c.lines[0].get_xdata()[0] < high for c in ax.containers)
    markers = {round(float(c.lines[0].get_ydata()[0])): c.lines[0].get_marker() for c in ax.containers}
    assert markers[3] == "<" != markers[0]
    places = {round(float(c.lines[0].get_ydata()[0])): c.lines[0].get_xdata()[0] for c in ax.containers}
    assert places == pytest.approx(
        {0: 1e-4, 1: 4e-4, 2: 3.0, 3: 0.1}
    )  # at two errors where it is not above 0
    assert "nats per site" in ax.get_xlabel()


def test_the_noise_floor_is_shaded():
    floor = comparison(2.0, Divergence(FORWARD, "histogram", Estimate(0.001, 0.002), "m"), name=NOISE_FLOOR)
    rows = {
        "GAN": comparison(2.0, Divergence(FORWARD, "histogram", Estimate(0.5, 0.1), "m")),
        NOISE_FLOOR: floor,
    }
    ax = plots.divergences(axes(), rows, "m")
    assert "noise floor" in texts(ax)
    assert ax.patches[0].get_width() == pytest.approx(0.001 + 2 * 0.002)
    assert "nats, histogram of m" in ax.get_xlabel()


@pytest.mark.filterwarnings("ignore::ising.stats.ChainTooShort")  # a ramp
def test_weights_of_draws_and_of_monte_carlo_are_told_apart():
    found = weigh(
        np.linspace(-1, 0, 50), np.zeros(50), {}, np.linspace(2, 3, 60)[:, None], log_z=0.0, n_sites=4
    )
    [ax] = plots.weights(Figure(), {"MADE": dataclasses.replace(comparison(2.0), weights=found)}).axes
    draws = ax.patches[-1].get_xy()
    assert draws[draws[:, 1] > 0, 0].max() < 0.1
    assert texts(ax) == ["Monte Carlo", "MADE"]


def test_training_curves():
    records = {
        "MADE": [Record(i, 0.0, {"loss": 1 / i}) for i in (1, 2, 3)],
        "VAE": [Record(1, 0.0, {"elbo": 2.0})],
    }
    ax = plots.training(axes(), records, "loss")
    assert texts(ax) == ["MADE"]
    assert ax.get_xlabel() == "training step"


@pytest.mark.parametrize("known", [True, False])
def test_a_density_of_states_stands_beside_the_exact_one(known):
    energies = np.linspace(-32.0, 32.0, 17)
    ln_g = 11 - (energies / 10) ** 2
    figure = plots.density_of_states(
        Figure(), energies, ln_g, np.full(17, 0.1), 16, ln_g + 0.05 if known else None
    )
    above, below = figure.axes
    assert texts(above) == ["exact"] * known + ["Wang–Landau"]
    assert above.lines[-1].get_xdata()[[0, -1]].tolist() == [-2.0, 2.0]
    assert above.lines[-1].get_ydata().max() == pytest.approx(11 / 16)
    assert below.lines[-1].get_ydata() == pytest.approx(-0.05 if known else 0.1)
    assert len(below.containers) == known
    assert (below.get_ylabel(), below.get_xlabel()) == (
        "ln g − exact" if known else "error of ln g",
        "energy per site E / N",
    )


def test_pyplot_is_never_imported():
    sources = [Path(module.__file__).read_text() for module in (plots, report)]
    assert not any("import matplotlib.pyplot" in s or "import pyplot" in s for s in sources)
