r"""The exact law of the magnetisation of narrow square lattices, by a transfer matrix that counts up spins.

The state of one row of W sites and the number of up spins so far are carried from row to row, so the cost
grows as :math:`2^W` but only polynomially with the length. All terms are positive: nothing cancels.
"""

import functools
import math

import numpy as np

from ..model import check_beta

MAX_WIDTH = 12
_BLOCK = 2**22  # float64 numbers in one block of starting rows


def strip_magnetisation(
    Lx: int,
    Ly: int,
    beta: float,
    J: float = 1.0,
    h: float = 0.0,
    *,
    pbc: bool | tuple[bool, ...] = True,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Values of the total magnetisation M = -N, -N + 2, …, N and their probabilities, each ``(N + 1,)``.

    Hence :math:`\langle |m| \rangle`, all :math:`\langle m^k \rangle`, :math:`\chi` and :math:`U_4`. The
    shorter side may have at most 12 sites: time and memory double, and more, with each.

    Arguments:
        Lx, Ly: Sides; periodic ones at least 3. ``Lx = 1`` with ``pbc=(False, True)`` is a ring.
        beta: Inverse temperature.
        J, h: Uniform coupling and field, any signs.
        pbc: Whether each axis is periodic.

    Example:
        >>> M, p = strip_magnetisation(4, 4, beta=0.44)
        >>> round(float(np.abs(M) @ p) / 16, 6)
        0.842716
    """
    log_weights = _log_weights(Lx, Ly, check_beta(beta), J, h, pbc)
    p = np.exp(log_weights - log_weights.max())
    return np.arange(-Lx * Ly, Lx * Ly + 1, 2), p / p.sum()


def strip_log_z(
    Lx: int,
    Ly: int,
    beta: float,
    J: float = 1.0,
    h: float = 0.0,
    *,
    pbc: bool | tuple[bool, ...] = True,
) -> float:
    r""":math:`\log Z` in nats, with a field and open sides too; arguments as :func:`strip_magnetisation`.

    Example:
        >>> round(strip_log_z(4, 5, beta=0.44, h=0.1, pbc=False), 6)
        17.345716
    """
    log_weights = _log_weights(Lx, Ly, check_beta(beta), J, h, pbc)
    top = log_weights.max()
    return float(top + math.log(np.exp(log_weights - top).sum()))


@functools.lru_cache(maxsize=64)
def _log_weights(
    Lx: int, Ly: int, beta: float, J: float, h: float, pbc: bool | tuple[bool, ...]
) -> np.ndarray:
    """Log of the Boltzmann weight of all states with k = 0 … N spins up."""
    axes = (pbc, pbc) if isinstance(pbc, bool) else pbc
    (width, around), (length, along) = sorted([(Lx, axes[0]), (Ly, axes[1])])
    if width > MAX_WIDTH or width < 1:
        raise ValueError(
            f"the shorter side must have 1 to {MAX_WIDTH} sites, got {Lx} x {Ly}; simulate instead"
        )
    if (around and width < 3) or (along and length < 3):
        raise ValueError(f"a periodic side needs at least 3 sites to have distinct bonds, got {Lx} x {Ly}")
    n_sites, n_rows, K = width * length, 2**width, beta * J
    spins = 2.0 * ((np.arange(n_rows)[:, None] >> np.arange(width)) & 1) - 1
    neighbours = np.roll(spins, -1, axis=1)[:, : width if around else width - 1]
    row = K * (spins[:, : neighbours.shape[1]] * neighbours).sum(1) + beta * h * spins.sum(1)
    ups = (spins > 0).sum(1)
    scale = length * row.max() + (length - 1 + along) * width * abs(K)
    row = np.exp(row - row.max())
    if not along:
        begin = np.zeros((n_rows, 1, n_sites + 1))
        begin[np.arange(n_rows), 0, ups] = row
        return scale + _carry(begin, np.ones((n_rows, 1)), row, ups, length, K)
    starts, sizes = _orbits(spins, around)
    closing = np.exp(K * spins @ spins[starts].T - width * abs(K)) * sizes
    total = np.full(n_sites + 1, -np.inf)
    per_block = max(1, _BLOCK // (n_rows * (n_sites + 1)))
    for first in range(0, len(starts), per_block):
        chosen = starts[first : first + per_block]
        begin = np.zeros((n_rows, len(chosen), n_sites + 1))
        begin[chosen, np.arange(len(chosen)), ups[chosen]] = row[chosen]
        ends = _carry(begin, closing[:, first : first + per_block], row, ups, length, K)
        total = np.logaddexp(total, ends)
    return scale + total


def _carry(
    v: np.ndarray, closing: np.ndarray, row: np.ndarray, ups: np.ndarray, length: int, K: float
) -> np.ndarray:
    """Log of the sums over all rows below ``v`` (rows, starts, up spins), with the last row weighted."""
    log_scale = 0.0
    for _ in range(length - 1):
        v = _count(_step(v, K), row, ups)
        log_scale += math.log(v.max())
        v /= v.max()
    with np.errstate(divide="ignore"):  # some numbers of up spins have no weight at all
        return np.log(np.einsum("sb,sbk->k", closing, v)) + log_scale


def _step(v: np.ndarray, K: float) -> np.ndarray:
    """One new row below: every site is summed over against :math:`e^{K s s' - |K|}`."""
    same, other = math.exp(K - abs(K)), math.exp(-K - abs(K))
    for site in range(len(v).bit_length() - 1):
        pair = v.reshape(-1, 2, 2**site, *v.shape[1:])
        up, down = pair[:, 1], pair[:, 0]
        v = np.stack([same * down + other * up, other * down + same * up], axis=1).reshape(v.shape)
    return v


def _count(v: np.ndarray, row: np.ndarray, ups: np.ndarray) -> np.ndarray:
    """Multiplies by the weights of the new rows and adds their up spins."""
    moved = np.zeros_like(v)
    for k in range(int(ups.max()) + 1):
        rows = ups == k
        moved[rows, :, k:] = v[rows, :, : v.shape[-1] - k] * row[rows, None, None]
    return moved


def _orbits(spins: np.ndarray, around: bool) -> tuple[np.ndarray, np.ndarray]:
    """One row of each class under reflections and, around a ring, translations; and the classes' sizes."""
    width = spins.shape[1]
    images = [np.roll(s, k, axis=1) for s in (spins, spins[:, ::-1]) for k in range(width if around else 1)]
    numbers = [(s > 0) @ (1 << np.arange(width)) for s in images]
    return np.unique(np.min(numbers, axis=0), return_counts=True)
