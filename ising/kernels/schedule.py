"""In which order the rows of a layout are updated, and which pairs of rows its energy is made of."""

import numpy as np

from .chances import GROUP
from .tiles import NOWHERE, Tiles


def groups(layout: Tiles) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of 16 rows of one colour and degree; the last of a kind is filled up with the spare row.

    That row, which takes what is written beyond the last site, comes after all rows and ghosts; the next one
    stays zero.

    Returns:
        The rows, ``(16 groups,)``; the place of the degree of each group among all degrees; where each colour
        ends.
    """
    spare = layout.rows + len(layout.ghosts)
    kinds, kind = np.unique(layout.degree, return_inverse=True)
    rows, kind_of, ends = [], [], []
    for colour in range(layout.colours.max() + 1):
        for k in range(len(kinds)):
            alike = np.flatnonzero((layout.colours == colour) & (kind == k))
            rows.append(np.append(alike, np.full(-len(alike) % GROUP, spare)))
            kind_of += [k] * (len(rows[-1]) // GROUP)
        ends.append(len(kind_of))
    return np.concatenate(rows), np.array(kind_of, dtype=np.int64), np.array(ends, dtype=np.int64)


def ghosts(layout: Tiles) -> tuple[np.ndarray, np.ndarray]:
    """Row, words, bits and copy of each ghost, int64 ``(ghosts, 4)``, and where those of each colour end."""
    colours = layout.colours[layout.ghosts[:, 0]]
    by_colour = np.argsort(colours, kind="stable")
    copies = layout.rows + np.arange(len(layout.ghosts))
    ends = np.searchsorted(colours[by_colour], np.arange(layout.colours.max() + 1), side="right")
    return np.column_stack([layout.ghosts, copies])[by_colour].astype(np.int64), ends.astype(np.int64)


def pairs(layout: Tiles) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What :func:`ising.kernels.tally.tally` compares for the energy and for the magnetisation.

    Returns:
        The two ends of every bond, int32 ``(2, E)``; whether it has J < 0; every row with the one that is
        zero, ``(2, rows)``.
    """
    i, k = np.nonzero(layout.neighbours != NOWHERE)
    j = layout.neighbours[i, k]
    itself = np.append(np.arange(layout.rows), layout.ghosts[:, 0])[j]
    once = i < itself  # no row is its own neighbour, not even in another tile: it would have the same colour
    i, j, against = (x[once] for x in (i, j, layout.against[i, k]))
    nothing = np.full(layout.rows, layout.rows + len(layout.ghosts) + 1)
    sites = np.stack([np.arange(layout.rows), nothing])
    return np.stack([i, j]).astype(np.int32), against, sites.astype(np.int32)
