r"""Log-weights of all states of a layer of two-valued units, coupled to another such layer, by tables.

With :math:`h = (p, q)` cut in halves, the fields of the other layer are sums of a term for each, so that

.. math::
    \log \sum_v e^{-E(v, h)} = \ell_1(p) + \ell_2(q) + \sum_i \log(1 + A_{pi} B_{qi}), \qquad
    A_{pi} = e^{k \theta_i(p)}, \quad B_{qi} = e^{k \theta_i(q)},

for units v of low and low + k. Tables of :math:`2^{H/2}` rows stand for :math:`2^H` exponentials per unit,
and one logarithm of a product for as many logarithms: a multiplication and an addition are left, float64.
The product is brought back to [1, 2) before it could leave the range of numbers, its exponent counted apart.
Fields of a half beyond 300 have no such table; :func:`log_weights` then returns nothing, and
:meth:`physgen.distributions.RestrictedBoltzmann.log_weights` sums in logarithms.
"""

import math

import numpy as np
import torch
from numba import int64
from torch import Tensor

from .compiled import jit
from .units import Units

MAX_FIELD = 300.0  # of either half; products of one factor then stay below e^601
_MAX_LOG = 640.0  # of a product, below that of the largest number, 709
_TILE = 64  # states q at a time: 784 rows of them stay in the second cache


@torch.no_grad()
def log_weights(summed: Units, other: Units, weight: Tensor, bias: Tensor, own: Tensor) -> Tensor | None:
    r""":math:`\log \sum_v e^{-E(v, h)}` of every state h by number, float64 ``(2**H,)``; or nothing.

    Arguments:
        summed: The layer h, of H two-valued units.
        other: The layer v, of D two-valued units.
        weight: ``(H, D)``.
        bias: Of v, ``(D,)``.
        own: Bias of h, ``(H,)``.
    """
    half = summed.n // 2
    (low,), (high,) = other.values
    slope = high - low
    tables, separate = [], []
    for part, rest in ((slice(0, half), 0.0), (slice(half, None), bias.double())):
        states = _states(summed, len(own[part]))
        field = states @ weight[part].double() + rest
        separate.append(states @ own[part].double() + low * field.sum(-1))
        tables.append((slope * field).numpy())
    most = [table.max(0) for table in tables]
    if not all(abs(table).max() <= MAX_FIELD for table in tables):
        return None
    A, B = (np.exp(table) for table in tables)
    tile = min(_TILE, len(B))
    B = np.ascontiguousarray(B.reshape(-1, tile, B.shape[1]).swapaxes(1, 2))
    out, product = np.empty((len(A), len(B) * tile)), np.empty(tile)
    ends = _ends(np.logaddexp(0, most[0] + most[1]))
    _log_products(A, B, ends, product, product.view(np.int64), np.empty(tile, np.int64), out)
    return (torch.from_numpy(out) + separate[0].unsqueeze(-1) + separate[1]).flatten()


def _states(units: Units, n: int) -> Tensor:
    """All states of n of the units in the order of their number, float64 ``(2**n, n)``."""
    (low,), (high,) = units.values
    bits = torch.arange(2**n).unsqueeze(-1) >> torch.arange(n - 1, -1, -1) & 1
    return low + (high - low) * bits.double()


def _ends(logs: np.ndarray) -> np.ndarray:
    """Where to cut a product of factors of at most these logarithms."""
    ends, total = [], 0.0
    for i, log in enumerate(logs):
        if total + log > _MAX_LOG:
            ends.append(i)
            total = 0.0
        total += log
    return np.array([*ends, len(logs)])


@jit
def _log_products(A, B, ends, product, bits, exponent, out):
    tile = product.size
    for block in range(B.shape[0]):
        rows = B[block]
        for p in range(A.shape[0]):
            a = A[p]
            for j in range(tile):
                product[j] = 1.0
                exponent[j] = 0
            i = 0
            for end in ends:
                while i + 4 <= end:
                    a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
                    b0, b1, b2, b3 = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
                    for j in range(tile):
                        two = (1 + a0 * b0[j]) * (1 + a1 * b1[j])
                        product[j] *= two * ((1 + a2 * b2[j]) * (1 + a3 * b3[j]))
                    i += 4
                while i < end:
                    for j in range(tile):
                        product[j] *= 1 + a[i] * rows[i, j]
                    i += 1
                for j in range(tile):
                    exponent[j] += (bits[j] >> int64(52)) - int64(1023)
                    bits[j] = (bits[j] & int64(0xFFFFFFFFFFFFF)) | int64(0x3FF0000000000000)
            for j in range(tile):
                out[p, block * tile + j] = np.log(product[j]) + exponent[j] * math.log(2)
