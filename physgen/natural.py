r"""Natural gradient steps for tied Boltzmann machines, whose few parameters allow the whole Fisher matrix.

.. math::
    \theta \leftarrow \theta - \epsilon\, (F + \lambda \bar F)^{-1} g, \qquad
    F = \operatorname{Cov}_q[\partial_\theta \log q(v)],

with F over persistent chains, averaged over the last :math:`1 / \epsilon` steps, and :math:`\bar F` the mean
of its diagonal. Over fewer steps the noise of the chains would be in g and in F at once: steps up would be
longer than steps down, and :math:`|m|` of a critical machine too small.

At a critical point the statistics of the law have variances that differ by orders of magnitude. Steps of
equal size in every parameter leave the directions of small variance unlearnt; these steps are of equal size
in the Kullback-Leibler divergence.

References:
    | Natural Gradient Works Efficiently in Learning (Amari, 1998)
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .energy import PersistentCD
from .models.rbm import RBM


class Natural(torch.optim.Optimizer):
    r"""An optimiser that divides the gradient by the covariance of the scores of the chains.

    Biased as the chains are (:class:`~physgen.energy.PersistentCD`); the cost of a step grows as the cube of
    the number of parameters, N times the hidden units per site.

    Arguments:
        rbm: A machine with ``tied``.
        loss: Its persistent chains.
        lr: :math:`\epsilon`, the part of the way that one step goes, and the weight that F gives to the
            newest chains.
        damping: :math:`\lambda` in the end; a hundred times that at first, as F of a machine that has learnt
            nothing says little about the next one, and 2 % less with every step.
        longest: Largest length of a step in the metric F, :math:`\sqrt{2 KL}` of the machines on its ends.

    Example:
        >>> rbm = RBM((3, 3), hidden=2, tied=True, symmetric=True)
        >>> loss = PersistentCD(rbm, start=torch.ones(50, 9), chains=50)
        >>> loss(torch.ones(50, 9)).backward()
        >>> Natural(rbm, loss).step()
    """

    def __init__(
        self,
        rbm: RBM,
        loss: PersistentCD,
        lr: float = 0.05,
        *,
        damping: float = 3e-3,
        longest: float = 0.3,
    ):
        if not rbm.tied:
            raise ValueError("natural gradients over chains need a tied machine; train others by Adam")
        self.trained = [p for p in rbm.parameters() if p.requires_grad]
        super().__init__(self.trained, {"lr": lr})
        self.rbm, self.loss = rbm, loss
        self.damping, self.longest = damping, longest

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """One step along the gradients that the parameters hold, or that ``closure`` gives them."""
        if closure is not None:
            with torch.enable_grad():
                closure()
        rate = self.param_groups[0]["lr"]
        fisher = self._fisher(rate)
        gradient = torch.cat([p.grad.flatten() for p in self.trained if p.grad is not None])
        damping = self.damping * max(1.0, 100 * 0.98 ** self.state[self.trained[0]]["steps"])
        ridge = damping * fisher.diagonal().mean() * torch.eye(len(fisher)).to(fisher)
        move = rate * torch.linalg.solve(fisher + ridge, gradient)
        length = (move @ fisher @ move).sqrt()
        move *= (self.longest / length.clamp(min=self.longest)).item()
        for p, part in zip(self.trained, move.split([p.numel() for p in self.trained]), strict=True):
            p.sub_(part.view_as(p))

    def _fisher(self, rate: float) -> Tensor:
        new = torch.cov(scores(self.rbm, self.loss.chains).T)
        kept = self.state[self.trained[0]]
        kept["steps"] = kept.get("steps", 0) + 1
        old = kept.get("fisher", new)
        kept["fisher"] = old.lerp(new, max(rate, 1 / kept["steps"]))
        return kept["fisher"]


def settle(lr: float, *, after: int) -> Callable[[int], float]:
    r"""Factor on the rate: 1 for a while, then :math:`1 / (1 + \epsilon t)`.

    Steps of size 1 / t along natural gradients leave the mean of the t estimates that they follow, the best
    that these can give (Amari, 1998), while the parameters stay on the surface of good machines.

    Arguments:
        lr: :math:`\epsilon`, the rate that the factor multiplies.
        after: Steps of the full rate.

    Example:
        >>> factor = settle(0.1, after=300)
        >>> factor(0), factor(300), factor(310)
        (1.0, 1.0, 0.5)
    """
    return lambda i: 1 / (1 + lr * max(0, i - after))


def scores(rbm: RBM, v: Tensor) -> Tensor:
    r""":math:`-\partial F(v) / \partial \theta` of a tied machine: ``(n, N)`` to ``(n, parameters)``.

    In the order of its trained parameters, and without the mean over the law, which a covariance removes. A
    weight belongs to a displacement, so its score is a correlation of two layers, a product of their waves.

    Example:
        >>> scores(RBM((3, 3), hidden=2, tied=True, symmetric=True), torch.ones(5, 9)).shape
        torch.Size([5, 18])
    """
    axes = tuple(range(-len(rbm.shape), 0))
    mu = rbm.visible_layer().mean(rbm.base.expand(rbm.n_sites))
    hidden = rbm.hidden(v).mean.reshape(len(v), rbm.n_sites, -1).mT
    seen, felt = (v - mu).reshape(-1, 1, *rbm.shape), (hidden - 0.5).reshape(len(v), -1, *rbm.shape)
    waves = torch.fft.rfftn(seen, dim=axes) * torch.fft.rfftn(felt, dim=axes).conj()
    weight = torch.fft.irfftn(waves, s=rbm.shape, dim=axes).flatten(2).mT.flatten(1)
    known = {"W": weight, "b": v.sum(-1, keepdim=True), "c": hidden.sum(-1)}
    return torch.cat([known[name] for name, p in rbm.named_parameters() if p.requires_grad], 1)
