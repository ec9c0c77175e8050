"""Steps of training in one pass over their numbers, which near caches do not hold, instead of several."""

import math

import numpy as np
import torch
from numba import float32
from torch import Tensor

from .compiled import exponential, inner_reordered, jit, jit_reordered
from .lookup import HIGH, LEAST, multiply, pack_columns, scratch
from .units import Units


def shifted(W: Tensor, b: Tensor, c: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """``b - W @ right`` and ``c - left @ W``, W of shape ``(D, H)``, without gradients.

    Example:
        >>> shifted(torch.eye(2), torch.ones(2), torch.zeros(2), *torch.tensor([[3.0, 4.0], [1.0, 2.0]]))
        (tensor([ 0., -1.]), tensor([-3., -4.]))
    """
    parts = W, left, right
    if not all(x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous() for x in parts):
        return b - W @ right, c - left @ W
    out = b.detach().clone(), c.detach().clone()
    _shift(*(x.detach().numpy() for x in (*parts, *out)))
    return out


def difference(
    units: tuple[Units, Units], data: Tensor, chains: Tensor, fields: Tensor, about: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    r"""What :func:`physgen.energy.moments.difference` finds, or nothing where these kernels do not apply.

    They take float32 on a CPU, at least 32 rows and units, and states of two-valued units.

    Arguments:
        units: Of the visible and of the hidden layer.
        data, chains: Configurations, ``(n, D)`` and ``(m, D)``.
        fields: Fields of the hidden units in both, ``(n + m, H)``.
        about: Offsets of both layers.
    """
    D, (both, H) = data.shape[1], fields.shape
    parts = data, chains, fields, *about
    plain = all(x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous() for x in parts)
    if not (plain and all(layer.binary for layer in units) and min(both, D, H) >= LEAST):
        return None
    hidden, left, right, out = (torch.empty(s) for s in ((both, H), (2, D), (2, H), (D, H)))
    words = np.zeros((-(-both // HIGH), D), np.uint32)
    lows = tuple(np.float32(layer.values[0][0]) for layer in units)
    rooms = (x.numpy() for x in (hidden, left, right, out))
    value = _difference(*(x.detach().numpy() for x in parts), lows, words, *rooms, scratch(D))
    if math.isnan(value):
        return None
    return torch.scalar_tensor(value, dtype=out.dtype), out, left[1], right[0]


@jit
def _difference(data, chains, fields, mu, rest, lows, words, hidden, left, right, out, scratch):
    """Fills the arrays from ``hidden`` on; returns the sum of means times fields, or NaN for other rows."""
    n, (low, other) = len(data), lows
    if pack_columns(data, words, 0) != low or pack_columns(chains, words, n) != low:
        return np.float32(np.nan)
    for k in range(mu.size):
        left[0, k], left[1, k] = -mu[k], np.float32(0)
    for j in range(rest.size):
        right[0, j], right[1, j] = np.float32(0), -rest[j]
    down, up = np.float32(-1 / n), np.float32(1 / len(chains))
    _add_rows(data, down, left[1])
    _add_rows(chains, up, left[1])
    value = _add_means(fields[:n], down, other, hidden[:n], right[0])
    value += _add_means(fields[n:], up, other, hidden[n:], right[0])
    shape = (len(fields), rest.size, 1)
    multiply(words, hidden.reshape(-1), shape, (left, right), low, np.float32(1), scratch, out)
    return value


@inner_reordered
def _add_rows(rows, weight, sums):
    for i in range(len(rows)):
        row = rows[i]
        for k in range(row.size):
            sums[k] += weight * row[k]


@inner_reordered
def _add_means(fields, weight, low, out, sums):
    """Weighted means of units whose upper value is 1, and sums; returns their product with the fields."""
    value, span = float32(0), float32(1) - low
    for i in range(len(fields)):
        row, target = fields[i], out[i]
        for j in range(row.size):
            u = weight * (low + span / (float32(1) + exponential(-span * row[j])))
            target[j] = u
            sums[j] += u
            value += u * row[j]
    return value


@jit_reordered
def _shift(W, left, right, b, c):
    for i in range(left.size):
        row, factor, total = W[i], left[i], float32(0)
        for j in range(row.size):
            total += row[j] * right[j]
            c[j] -= factor * row[j]
        b[i] -= total
