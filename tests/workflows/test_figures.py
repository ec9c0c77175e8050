"""What the figures of the workflows show, where a picture once said something else."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from physgen.inverse import Couplings
from workflows import inverse_ising, neural_sampler


def inferred(J):
    """Couplings of all pairs of five sites and what was inferred of them, 0.1 off either way."""
    off = np.triu(np.random.default_rng(0).choice([-0.1, 0.1], size=J.shape), 1)
    found = np.where(J != 0, J + off + off.T, 0)
    return Couplings(found, np.zeros(5), np.full(J.shape, 0.1), np.full(5, 0.1), "exact")


@pytest.mark.parametrize("values", [[1.0], [-1.0, 1.0], np.linspace(-2, 2, 8)])
def test_inferred_couplings_stand_at_the_true_ones(values):
    """Beside the line of truth at every bond, whether few or all of the true couplings differ."""
    J = np.triu(np.random.default_rng(1).choice(values, size=(5, 5)), 1)
    J[0, 4] = 0  # no bond
    J = J + J.T
    figure = inverse_ising.draw(inferred(J), J, {"relative_error": 0.1})
    left, right = figure.axes
    [points] = left.containers
    x, y = points.lines[0].get_data()
    [truth] = [line for line in left.lines if line.get_label() == "true"]
    assert truth.get_xdata() == pytest.approx(x)
    assert abs(y - truth.get_ydata()) == pytest.approx(0.1)
    bonds = J[np.triu_indices(5, 1)]
    assert truth.get_ydata() == pytest.approx(np.sort(bonds[bonds != 0]))
    assert sum(bar.get_height() for bar in right.patches) == 1  # the pair without a bond is shown too


@pytest.mark.parametrize("at", [[100], [25, 50, 75, 100]])
def test_the_divergence_at_the_end_is_shown_whatever_the_records(at, tmp_path):
    """Records of the annealing belong to other temperatures and are left out; the panel is not empty."""
    config = neural_sampler.Config(L=(4,), beta=0.3, steps=100, every=at[0], out=tmp_path)
    rows = [{"step": step, "free_energy": -0.7} for step in at]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {
        "beta_f": {"exact": -0.8},
        "observables": {"energy": {"exact": None}},
        "reverse_kl": {"mean": 1e-3, "error": 1e-4, "tau": 0.5},
    }
    ax = Figure().subplots()
    neural_sampler.learned(ax, config, found, rows)
    [end] = ax.containers
    assert end.lines[0].get_data() == ([100], [1e-3])
    drawn = [line for line in ax.lines if line.get_label().endswith("draws")]
    assert [list(line.get_xdata()) for line in drawn] == ([[50, 75, 100]] if len(at) > 1 else [])
    assert ("--every" in ax.get_title()) == (len(at) == 1)
