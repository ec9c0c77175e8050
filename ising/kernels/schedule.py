"""In which order the rows of a layout are updated, and which pairs of rows its energy is made of.

One colour after another would fetch the rows of a big lattice from a slow memory once for each. They are
updated band by band: a colour follows the one before it as soon as that has passed all its neighbours. What
a spin sees when it is updated is the same.
"""

import heapq

import numpy as np

from .chances import GROUP
from .tiles import NOWHERE, Tiles

BAND, NEAR = 1024, 4096  # rows of a band, and how many all fit the second-fastest cache as they are


def groups(layout: Tiles) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of 16 rows of one step and degree; the last of a kind is filled up with the spare row.

    That row, which takes what is written beyond the last site, comes after all rows and ghosts; the next one
    stays zero. A step is one colour of one band.

    Returns:
        The rows, ``(16 groups,)``; the place of the degree of each group among all degrees; where each step
        ends.
    """
    spare = layout.rows + len(layout.ghosts)
    kinds, kind = np.unique(layout.degree, return_inverse=True)
    rows, kind_of, ends = [], [], []
    for step in _steps(layout):
        for k in range(len(kinds)):
            alike = step[kind[step] == k]
            rows.append(np.append(alike, np.full(-len(alike) % GROUP, spare)))
            kind_of += [k] * (len(rows[-1]) // GROUP)
        ends.append(len(kind_of))
    return np.concatenate(rows), np.array(kind_of, dtype=np.int64), np.array(ends, dtype=np.int64)


def ghosts(layout: Tiles) -> tuple[np.ndarray, np.ndarray]:
    """Row, words, bits and copy of each ghost, int64 ``(ghosts, 4)``, and where those of each step end."""
    steps = _steps(layout)
    step_of = np.empty(layout.rows, dtype=np.int64)
    step_of[np.concatenate(steps)] = np.repeat(np.arange(len(steps)), [len(step) for step in steps])
    of_ghosts = step_of[layout.ghosts[:, 0]]
    by_step = np.argsort(of_ghosts, kind="stable")
    copies = layout.rows + np.arange(len(layout.ghosts))
    ends = np.searchsorted(of_ghosts[by_step], np.arange(len(steps)), side="right")
    return np.column_stack([layout.ghosts, copies])[by_step].astype(np.int64), ends.astype(np.int64)


def _steps(layout: Tiles) -> list[np.ndarray]:
    """The rows of one colour of a band, after their neighbours of lower colours and while these are near."""
    bands = 1 if layout.rows <= NEAR else -(-layout.rows // BAND)
    step = layout.colours.astype(np.int64) * bands + np.arange(layout.rows) // (BAND if bands > 1 else NEAR)
    itself, n = np.append(np.arange(layout.rows), layout.ghosts[:, 0]), (layout.colours.max() + 1) * bands
    i, k = np.nonzero(layout.neighbours != NOWHERE)
    there, here = step[itself[layout.neighbours[i, k]]], step[i]
    before, after = np.divmod(np.unique((there * n + here)[there // bands < here // bands]), n)
    after_of = {b: after[before == b].tolist() for b in np.unique(before).tolist()}
    waiting = np.bincount(after, minlength=n)
    ready = [(-(s // bands), s) for s in np.unique(step).tolist() if waiting[s] == 0]
    heapq.heapify(ready)
    order = []
    while ready:  # the highest colour that can, and of it the first band
        _, s = heapq.heappop(ready)
        order.append(np.flatnonzero(step == s))
        for later in after_of.get(s, []):
            waiting[later] -= 1
            if waiting[later] == 0:
                heapq.heappush(ready, (-(later // bands), later))
    return order


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
