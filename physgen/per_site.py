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


class PerSite(Autoregressive):
    """An autoregressive model of that form, which says with :attr:`weights` what of."""

    @property
    def weights(self) -> "Weights":
        """The matrices of the formula above."""
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
        direct, inner, outer, bias, _ = self.weights
        bias = direct.new_zeros(len(direct)) if bias is None else bias
        return ancestral.draw_per_site(torch.cat([direct[:, None], inner], 1), outer, bias, n, generator)


class Weights(NamedTuple):
    """D ``(N, N)``, A ``(N, w, N)``, v ``(N, w)``, b ``(N,)`` or None, and 1 where j < i, ``(N, N)``."""

    direct: Tensor
    inner: Tensor
    outer: Tensor
    bias: Tensor | None
    mask: Tensor


class Pass(NamedTuple):
    """Fields ``(n, N)`` and hidden units ``(n, N, w)``."""

    fields: Tensor
    units: Tensor


@torch.no_grad()
def forward(weights: Weights, spins: Tensor) -> Pass:
    """What the network makes of configurations ``(n, N)``."""
    units = torch.tanh(_earlier(weights.inner, spins, weights.mask))
    fields = _earlier(weights.direct[:, None], spins, weights.mask).squeeze(-1)
    fields = fields + (units * weights.outer).sum(-1)
    return Pass(fields if weights.bias is None else fields + weights.bias, units)


def log_prob(weights: Weights, spins: Tensor, known: Pass) -> Tensor:
    r""":math:`\ln q` of configurations ``(n, N)``, of which the pass is known; differentiable by the weights.

    Example:
        >>> D, none = torch.zeros(2, 2, requires_grad=True), torch.zeros(2, 0)
        >>> net = Weights(D, torch.zeros(2, 0, 2), none, None, torch.ones(2, 2).tril(-1))
        >>> log_prob(net, torch.ones(1, 2), forward(net, torch.ones(1, 2))).backward()
        >>> D.grad
        tensor([[0., 0.],
                [1., 0.]])
    """
    return _LogProb.apply(spins, *known, *weights)


class _LogProb(Function):
    @staticmethod
    def forward(ctx, spins, fields, units, direct, inner, outer, bias, mask):  # noqa: ARG004
        aligned = (2 * fields).mul_(spins)
        ctx.save_for_backward(spins, aligned, units, outer, mask)
        rest = aligned.abs().neg_().exp_().log1p_()  # of log sigmoid(x) = min(x, 0) - log(1 + exp(-|x|))
        return aligned.clamp_max(0).sub_(rest).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, signal):
        spins, aligned, units, outer, mask = ctx.saved_tensors
        by_field = torch.sigmoid(-aligned).mul_(spins).mul_(2 * signal[:, None])  # s - tanh(theta)
        by_unit = by_field[..., None]
        direct = _products(by_field, spins, mask)
        inner = _products((by_unit * outer).mul_(1 - units * units).flatten(1), spins, mask)
        bias = by_field.sum(0) if ctx.needs_input_grad[6] else None
        return None, None, None, direct.squeeze(1), inner, (by_unit * units).sum(0), bias, None


def _earlier(weights: Tensor, spins: Tensor, mask: Tensor) -> Tensor:
    r""":math:`\sum_{j<i} W_{ikj} s_j`: ``(N, m, N)`` and ``(n, N)`` to ``(n, N, m)``."""
    n_sites, m, _ = weights.shape
    rows = (weights * mask[:, None]).view(n_sites * m, n_sites)
    out = spins.new_empty(len(spins), n_sites * m)
    for block in _blocks(n_sites):
        part = slice(block.start * m, block.stop * m)
        torch.mm(spins[:, : block.stop], rows[part, : block.stop].T, out=out[:, part])
    return out.view(len(spins), n_sites, m)


def _products(signals: Tensor, spins: Tensor, mask: Tensor) -> Tensor:
    r""":math:`\sum_b g_{bik} s_{bj}` where j < i, else 0: ``(n, N m)`` and ``(n, N)`` to ``(N, m, N)``."""
    n_sites = len(mask)
    m = signals.shape[1] // n_sites
    out = spins.new_zeros(n_sites * m, n_sites)
    for block in _blocks(n_sites):
        rows = slice(block.start * m, block.stop * m)
        torch.mm(signals[:, rows].T, spins[:, : block.stop], out=out[rows, : block.stop])
    return out.view(n_sites, m, n_sites).mul_(mask[:, None])


def _blocks(n_sites: int) -> list[slice]:
    side = max(32, -(-n_sites // 8))
    return [slice(first, min(first + side, n_sites)) for first in range(0, n_sites, side)]
