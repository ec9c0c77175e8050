r"""Networks of one hidden layer per site, with the gradient of the log-density written out.

.. math:: \theta_i = b_i + \sum_{j<i} D_{ij} s_j + \sum_{k=1}^{w} v_{ik} h_{ik}, \qquad
    h_{ik} = \tanh\Big( \sum_{j<i} A_{ikj} s_j \Big),

.. math:: \frac{\partial \ln q}{\partial \theta_i} = s_i - \tanh \theta_i .

Whoever knows the fields :math:`\theta` and the units h, as a draw does, has the gradient of
:math:`\ln q` in two products of matrices and need not pass through the network again. Products go by blocks
of sites and leave out those blocks that are empty since j < i.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from .autoregressive import Autoregressive
from .distributions import ancestral
from .nn import spin_log_prob


class PerSite(Autoregressive):
    """An autoregressive model of that form, which says with :attr:`weights` what of."""

    @property
    def weights(self) -> "Weights":
        raise NotImplementedError

    def log_prob(self, values: Tensor) -> Tensor:
        """Normalised: ``(*, N)`` values to ``(*,)`` log-probabilities, nats; can be differentiated once."""
        if self.alphabet.outputs > 1:
            return super().log_prob(values)
        spins = self.alphabet.check(values, self.shape).reshape(-1, self.n_sites)
        weights = self.weights
        return log_prob(weights, spins, forward(weights, spins)).reshape(values.shape[:-1])

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Independent draws and their fields, ``(n, N)`` each, at half the cost of a pass of the network."""
        return self._drawn(n, generator)[:2] if self.compiled else super().draw(n, generator)

    def sample_and_log_prob(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draws ``(n, N)`` and their log-probabilities ``(n,)``, which cost no pass; differentiable once."""
        if not self.compiled:
            return super().sample_and_log_prob(n, generator)
        spins, *known = self._drawn(n, generator)
        return spins, log_prob(self.weights, spins, Pass(*known))

    @torch.no_grad()
    def _drawn(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        direct, inner, outer, bias = self.weights
        bias = direct.new_zeros(len(direct)) if bias is None else bias
        return ancestral.draw_per_site(torch.cat([direct[:, None], inner], 1), outer, bias, n, generator)


class Weights(NamedTuple):
    """D ``(N, N)``, A ``(N, w, N)``, v ``(N, w)`` and b ``(N,)`` or None; only j < i of D and A is read."""

    direct: Tensor
    inner: Tensor
    outer: Tensor
    bias: Tensor | None


class Pass(NamedTuple):
    """Fields ``(n, N)`` and hidden units ``(n, N, w)``."""

    fields: Tensor
    units: Tensor


@torch.no_grad()
def forward(weights: Weights, spins: Tensor) -> Pass:
    """What the network makes of configurations ``(n, N)``."""
    units = torch.tanh(_earlier(weights.inner, spins))
    fields = _earlier(weights.direct[:, None], spins).squeeze(-1) + (units * weights.outer).sum(-1)
    return Pass(fields if weights.bias is None else fields + weights.bias, units)


def log_prob(weights: Weights, spins: Tensor, known: Pass) -> Tensor:
    r""":math:`\ln q` of configurations ``(n, N)``, of which the pass is known; differentiable by the weights.

    Example:
        >>> w = Weights(torch.zeros(2, 2, requires_grad=True), torch.zeros(2, 1, 2), torch.zeros(2, 1), None)
        >>> log_prob(w, torch.ones(1, 2), forward(w, torch.ones(1, 2))).backward()
        >>> w.direct.grad
        tensor([[0., 0.],
                [1., 0.]])
    """
    return _LogProb.apply(spins, *known, *weights)


class _LogProb(Function):
    @staticmethod
    def forward(ctx, spins, fields, units, direct, inner, outer, bias):  # noqa: ARG004
        ctx.save_for_backward(spins, fields, units, outer)
        return spin_log_prob(spins, fields)

    @staticmethod
    @once_differentiable
    def backward(ctx, signal):
        spins, fields, units, outer = ctx.saved_tensors
        by_field = signal[:, None] * (spins - fields.tanh())
        by_unit = by_field[..., None]
        return (
            *(None, None, None),
            _outer_products(by_unit, spins).squeeze(1),
            _outer_products(by_unit * outer * (1 - units * units), spins),
            (by_unit * units).sum(0),
            by_field.sum(0) if ctx.needs_input_grad[-1] else None,
        )


def _blocks(n_sites: int) -> list[slice]:
    side = max(32, -(-n_sites // 8))
    return [slice(first, min(first + side, n_sites)) for first in range(0, n_sites, side)]


def _below(block: slice, like: Tensor) -> Tensor:
    """1 where j < i, for the sites i of a block and all j up to its end, ``(side, 1, end)``."""
    ones = like.new_ones(block.stop - block.start, block.stop)
    return ones.tril(block.start - 1)[:, None]


def _earlier(weights: Tensor, spins: Tensor) -> Tensor:
    r""":math:`\sum_{j<i} W_{ikj} s_j`: ``(N, m, N)`` and ``(n, N)`` to ``(n, N, m)``."""
    parts = []
    for block in _blocks(len(weights)):
        part = weights[block, :, : block.stop] * _below(block, weights)
        parts.append((spins[:, : block.stop] @ part.flatten(0, 1).T).unflatten(-1, part.shape[:2]))
    return torch.cat(parts, 1)


def _outer_products(signal: Tensor, spins: Tensor) -> Tensor:
    r""":math:`\sum_b g_{bik} s_{bj}` where j < i, else 0: ``(n, N, m)`` and ``(n, N)`` to ``(N, m, N)``."""
    n_sites, m = signal.shape[1:]
    out = spins.new_zeros(n_sites, m, n_sites)
    for block in _blocks(n_sites):
        product = signal[:, block].flatten(1).T @ spins[:, : block.stop]
        side = block.stop - block.start
        out[block, :, : block.stop] = product.view(side, m, block.stop) * _below(block, spins)
    return out
