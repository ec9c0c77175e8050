"""Figures of one restricted Boltzmann machine: what hidden units see, chains, spectrum and training.

Every function draws on the Axes or Figure that it is given and returns it, as those of :mod:`physgen.plots`.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from .plots import PALETTE

LABELS = {
    "loss": "loss: energy\ncontrast (nats)",
    "gap": "free energy, unseen\nminus training (nats)",
    "pseudo_likelihood": "pseudo-likelihood,\nlog (nats per unit)",
    "log_likelihood": "log-likelihood, unseen\n(nats per site)",
    "abs_m_chains": "mean |m| of the chains",
    "stuck": "autocorrelation of\nchains since last record",
    "distinct": "share of different chains",
    "grad_norm": "norm of the gradient",
}


def receptive_fields(figure: Figure, weight: Tensor, shape: tuple[int, ...], most: int = 64) -> Figure:
    """The weights of hidden units as images of the lattice, strongest first, on one scale of colours.

    Arguments:
        weight: W, ``(N, H)``.
        shape: Of the lattice; one in more than two dimensions is cut along the first axes and stacked.
        most: Hidden units shown.
    """
    order = weight.norm(dim=0).argsort(descending=True)[:most]
    images = weight[:, order].T.reshape(len(order), -1, shape[-1]).cpu().numpy()
    return _images(
        figure, images, "RdBu_r", f"weights of {len(order)} of {weight.shape[1]} hidden units", True
    )


def chains(figure: Figure, spins: Tensor, shape: tuple[int, ...], most: int = 64) -> Figure:
    """Configurations ``(n, N)`` as images: white is -1, black is +1."""
    chosen = spins[np.linspace(0, len(spins) - 1, min(most, len(spins))).astype(int)]
    images = chosen.reshape(len(chosen), -1, shape[-1]).cpu().numpy()
    return _images(
        figure, images, "Greys", f"{len(chosen)} of {len(spins)} chains; white -1, black +1", False
    )


def spectrum(ax: Axes, steps: Sequence[int], values: Sequence[Sequence[float]]) -> Axes:
    """Singular values of W against the training step: modes that the machine has learned leave the bulk."""
    ax.plot(steps, np.asarray(values), color=PALETTE[0], lw=0.8)
    ax.set_xlabel("training step")
    ax.set_ylabel("singular values of W")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_ylim(bottom=0)
    return ax


def curve(
    ax: Axes, steps: Sequence[int], values: Sequence[float], name: str, errors: Sequence[float] = ()
) -> Axes:
    """One metric against the training step, with one-sigma errors where there are any."""
    ax.errorbar(steps, values, yerr=errors if len(errors) else None, color=PALETTE[0], lw=1, ms=2, fmt=".-")
    ax.set_xlabel("training step")
    ax.set_ylabel(LABELS.get(name, name.replace("_", " ")))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return ax


def _images(figure: Figure, images: np.ndarray, colours: str, title: str, scale: bool) -> Figure:
    side = math.ceil(math.sqrt(len(images)))
    axes = figure.subplots(math.ceil(len(images) / side), side, squeeze=False)
    top = np.abs(images).max() or 1.0
    for ax, image in zip(axes.flat, images, strict=False):
        shown = ax.imshow(image, cmap=colours, vmin=-top, vmax=top, interpolation="nearest")
    for i, ax in enumerate(axes.flat):
        ax.set(xticks=[], yticks=[])
        ax.set_visible(i < len(images))
    figure.suptitle(title, fontsize="medium")
    if scale:
        figure.colorbar(shown, ax=axes, label="weight W (dimensionless)", shrink=0.8)
    return figure
