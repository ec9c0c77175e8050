r"""Log-weights of all states of a layer of bits that couples to another such layer, by tables.

With :math:`y = (p, q)` cut in halves, the fields of the other layer are sums of a term for each, so that

.. math::
    \log \sum_x f(x, y) = \ell_1(p) + \ell_2(q) + \sum_i \log(1 + A_{pi} B_{qi}), \qquad
    A_{pi} = e^{\theta_i(p)}, \quad B_{qi} = e^{\theta_i(q)} .

Tables of :math:`2^{H/2}` rows stand for :math:`2^H` exponentials per unit, and the logarithm of a product for
as many logarithms: a multiplication and an addition are left, float64. The logarithm is taken before the
product could leave the range of numbers. Fields of a half beyond 300 have no such table;
:meth:`physgen.distributions.RestrictedBoltzmann.log_weights` then sums in logarithms.
"""

import numpy as np
import torch
from torch import Tensor

from .bits import Bits, cuts
from .compiled import jit

MAX_FIELD = 300.0  # of either half, so that a factor stays below e^601
_TILE = 64  # states q at a time: 784 rows of them stay in the second cache


@torch.no_grad()
def log_weights(machine: Bits) -> Tensor | None:
    r""":math:`\log \sum_x f(x, y)` of every y by number, float64 ``(2**H,)``; nothing if out of range."""
    half = len(machine.c) // 2
    tables, separate = [], [machine.constant]
    for part, bias in ((slice(0, half), 0.0), (slice(half, None), machine.b)):
        states = _states(len(machine.c[part]))
        separate.append(states @ machine.c[part])
        tables.append((states @ machine.W[:, part].mT + bias).numpy())
    if not all(abs(table).max() <= MAX_FIELD for table in tables):
        return None
    stretches = cuts(np.logaddexp(0, sum(table.max(0) for table in tables)))
    A, B = (np.exp(table) for table in tables)
    tile = min(_TILE, len(B))
    B = np.ascontiguousarray(B.reshape(-1, tile, B.shape[1]).swapaxes(1, 2))
    out = np.empty((len(A), len(B) * tile))
    _log_products(A, B, stretches, np.empty(tile), out)
    constant, of_p, of_q = separate
    return (torch.from_numpy(out) + of_p.unsqueeze(-1) + of_q + constant).flatten()


def _states(n: int) -> Tensor:
    """All states of n bits in the order of their number, float64 ``(2**n, n)``."""
    return (torch.arange(2**n).unsqueeze(-1) >> torch.arange(n - 1, -1, -1) & 1).double()


@jit
def _log_products(A, B, cuts, product, out):
    tile = product.size
    for block in range(B.shape[0]):
        rows = B[block]
        for p in range(A.shape[0]):
            a, target = A[p], out[p, block * tile : (block + 1) * tile]
            i = 0
            for j in range(tile):
                target[j] = 0.0
            for cut in cuts:
                for j in range(tile):
                    product[j] = 1.0
                while i + 4 <= cut:
                    a0, a1, a2, a3 = a[i], a[i + 1], a[i + 2], a[i + 3]
                    b0, b1, b2, b3 = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
                    for j in range(tile):
                        two = (1 + a0 * b0[j]) * (1 + a1 * b1[j])
                        product[j] *= two * ((1 + a2 * b2[j]) * (1 + a3 * b3[j]))
                    i += 4
                while i < cut:
                    for j in range(tile):
                        product[j] *= 1 + a[i] * rows[i, j]
                    i += 1
                for j in range(tile):
                    target[j] += np.log(product[j])
