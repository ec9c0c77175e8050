"""Loops over single spins, compiled: array operations cannot update one unit after another."""

from collections.abc import Callable

import numba
import numpy as np
from torch import Tensor

SETTINGS = {"nogil": True, "fastmath": {"contract"}, "no_cfunc_wrapper": True}


def jit(function: Callable) -> Callable:
    """Compiles without the interpreter lock, and keeps the machine code on disk where that is writable."""
    try:
        return numba.njit(cache=True, **SETTINGS)(function)
    except RuntimeError:  # numba finds no folder to cache in
        return numba.njit(**SETTINGS)(function)


def heat_bath(spins: Tensor, first: int, fields: Tensor, J: Tensor, noise: Tensor) -> None:
    r"""Sets units one after another to the sign of field minus noise, in place.

    Arguments:
        spins: ``(chains, M)``, contiguous; units ``first`` to ``first + n`` are updated.
        first: The first of them.
        fields: Their fields before, ``(chains, n)``; overwritten.
        J: Their couplings with each other, ``(n, n)``.
        noise: ``(chains, n)``.
    """
    if spins.device.type == "cpu":
        arrays = (x.contiguous().numpy() for x in (spins, fields, J, noise))
        _heat_bath(*arrays, first)
        return
    for i in range(len(J)):
        new = 2 * (fields[:, i] > noise[:, i]).to(fields.dtype) - 1
        change = new - spins[:, first + i]
        spins[:, first + i] = new
        fields[:, i + 1 :] += change.unsqueeze(-1) * J[i, i + 1 :]


@jit
def _heat_bath(spins, fields, J, noise, first):
    chains, n = fields.shape
    for c in range(chains):
        for i in range(n):
            new = fields.dtype.type(1) if fields[c, i] > noise[c, i] else fields.dtype.type(-1)
            change = new - spins[c, first + i]
            if change != 0:
                spins[c, first + i] = new
                for j in range(i + 1, n):
                    fields[c, j] += change * J[i, j]


def descend(
    spins: np.ndarray, fields: np.ndarray, J: np.ndarray, tolerance: float, sweeps: int = 2**62
) -> bool:
    r"""Aligns one unit after another with its field, in place, until none has to flip or ``sweeps`` are done.

    Arguments:
        spins: ``(n, N)``, ±1, of the type of J.
        fields: :math:`J s + \theta`, ``(n, N)``; kept up to date.
        J: ``(N, N)``, symmetric, zero diagonal.
        tolerance: A unit flips where :math:`s_i f_i` lies below minus this.
        sweeps: At most so many passes over each configuration.

    Returns:
        Whether some unit flipped in the last pass over its configuration.
    """
    return bool(_descend(spins, fields, J, tolerance, sweeps))


@jit
def _descend(spins, fields, J, tolerance, sweeps):
    rows, n = spins.shape
    unfinished = False
    for r in range(rows):
        moved, done = True, 0
        while moved and done < sweeps:
            moved = False
            done += 1
            for i in range(n):
                if spins[r, i] * fields[r, i] < -tolerance:
                    moved = True
                    spins[r, i] = -spins[r, i]
                    change = 2 * spins[r, i]
                    for j in range(n):
                        fields[r, j] += change * J[i, j]
        unfinished |= moved
    return unfinished
