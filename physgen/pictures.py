"""Figures of images, weights and classes. Every function draws on the Axes it is given and returns it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes


def tiles(
    ax: Axes, images: np.ndarray, columns: int, *, signed: bool = False, rows: Sequence[str] = ()
) -> Axes:
    """Images ``(n, height, width)`` side by side in lines of ``columns``, with a gap of one pixel.

    Arguments:
        ax: To draw on.
        images: Grey levels from 0 to 1, dark is 1; with ``signed`` any numbers, each on its own scale.
        columns: Images per line.
        signed: Blue below zero, red above.
        rows: Labels of the lines.
    """
    n, height, width = images.shape
    lines = -(-n // columns)
    canvas = np.full((lines * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for i, image in enumerate(images):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        scale = np.abs(image).max() or 1.0 if signed else 1.0
        canvas[top : top + height, left : left + width] = image / scale
    look = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1} if signed else {"cmap": "binary", "vmin": 0, "vmax": 1}
    ax.imshow(np.ma.masked_invalid(canvas), interpolation="nearest", **look)
    ax.set_xticks([])
    ax.set_yticks([height / 2 + i * (height + 1) for i in range(len(rows))], rows)
    for side in ax.spines.values():
        side.set_visible(False)
    ax.tick_params(length=0)
    return ax


def confusion(ax: Axes, counts: np.ndarray, names: Sequence[str]) -> Axes:
    """How often each class ``(true, found)`` was taken for each; shaded by share of the true class."""
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(counts.shape):
        if counts[i, j]:
            colour = "white" if share[i, j] > 0.5 else "black"
            ax.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=colour, fontsize="small")
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("found class")
    ax.set_ylabel("true class")
    return ax
