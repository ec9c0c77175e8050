"""Figures of one machine: every artist holds the numbers it was given, every axis a label."""

import torch
from matplotlib.figure import Figure

from physgen import machine_plots


def test_receptive_fields_are_the_columns_of_w_strongest_first():
    weight = torch.arange(12.0).reshape(4, 3) * torch.tensor([1.0, -2.0, 0.5])
    figure = machine_plots.receptive_fields(Figure(), weight, (2, 2), most=2)
    images = [ax.images[0] for ax in figure.axes if ax.images]
    order = weight.norm(dim=0).argsort(descending=True)
    for image, unit in zip(images[:2], order, strict=False):
        assert image.get_array().tolist() == weight[:, unit].reshape(2, 2).tolist()
        assert image.get_clim() == (-20.0, 20.0)
    assert "2 of 3 hidden units" in figure.get_suptitle()
    assert any("weight W" in ax.get_ylabel() for ax in figure.axes)


def test_chains_are_drawn_evenly():
    spins = torch.tensor([[1.0, -1.0, 1.0, 1.0]]).repeat(100, 1)
    figure = machine_plots.chains(Figure(), spins, (2, 2), most=9)
    assert len(figure.axes) == 9
    assert figure.axes[0].images[0].get_array().tolist() == [[1, -1], [1, 1]]


def test_curves_have_their_numbers_errors_and_labels():
    ax = machine_plots.curve(Figure().subplots(), [1, 2], [0.5, 0.6], "gap", [0.1, 0.2])
    assert ax.get_ylabel() == "free energy, unseen\nminus training (nats)"
    assert ax.get_xlabel() == "training step"
    low, high = ax.containers[0].lines[2][0].get_segments()[1][:, 1]
    assert abs(low - 0.4) < 1e-12
    assert abs(high - 0.8) < 1e-12
    ax = machine_plots.spectrum(Figure().subplots(), [1, 2, 3], [[2.0, 1.0], [3.0, 1.0], [4.0, 1.0]])
    assert [line.get_ydata().tolist() for line in ax.lines] == [[2, 3, 4], [1, 1, 1]]
    assert ax.get_ylabel() == "singular values of W"
