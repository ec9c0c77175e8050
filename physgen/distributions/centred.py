r"""Centred parameters of a machine, in which every change of its weights leaves the mean fields alone.

.. math:: E(v, h) = \dots - b \cdot t(v) - c \cdot t(h) - (t(v) - \mu)^\top W (t(h) - \lambda)

References:
    | Deep Boltzmann Machines and the Centering Trick (Montavon and Müller, 2012)
"""

from typing import Any, NamedTuple

import torch
from numba import float32
from torch import Tensor

from .compiled import jit_reordered


class Centred(NamedTuple):
    r"""Parameters of which the plain ones are W, :math:`b - W \lambda` and :math:`c - \mu W`."""

    weight: Tensor
    loc: Tensor
    hidden_bias: Tensor
    visible: Tensor
    hidden: Tensor

    def plain(self) -> tuple[Tensor, ...]:
        """The plain ones, through which a gradient comes back to these."""
        return _Uncentred.apply(*self)


class _Uncentred(torch.autograd.Function):
    r"""W, :math:`b - W \lambda` and :math:`c - \mu W`, whose gradients meet in two passes over W."""

    @staticmethod
    def forward(ctx: Any, W: Tensor, b: Tensor, c: Tensor, mu: Tensor, rest: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(W, mu, rest)
        return W, *shifted(W, b, c, mu, rest)

    @staticmethod
    def backward(ctx: Any, of_W: Tensor, of_b: Tensor, of_c: Tensor) -> tuple[Tensor | None, ...]:
        W, mu, rest = ctx.saved_tensors
        of_W = torch.addcmul(of_W, of_b.unsqueeze(1), rest, value=-1).addr_(mu, of_c, alpha=-1)
        of_mu = -(W @ of_c) if ctx.needs_input_grad[3] else None
        of_rest = -(of_b @ W) if ctx.needs_input_grad[4] else None
        return of_W, of_b, of_c, of_mu, of_rest


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


@jit_reordered
def _shift(W, left, right, b, c):
    for i in range(left.size):
        row, factor, total = W[i], left[i], float32(0)
        for j in range(row.size):
            total += row[j] * right[j]
            c[j] -= factor * row[j]
        b[i] -= total
