r"""The likelihood itself, where one layer is small enough to sum over.

Its value is the mean negative log-likelihood in nats, so any optimiser of torch minimises it as it stands,
L-BFGS included. With ``natural`` the gradient is the natural one,

.. math:: (G + \lambda)^{-1} \nabla, \qquad G = \mathrm{Cov}_{p(v)} [\nabla_\theta \log p(v)],

the direction of steepest descent when lengths are measured in KL: a step of size one along it is a Newton
step where the data follow the model.

References:
    | Natural Gradient Works Efficiently in Learning (Amari, 1998)
"""

import math

import torch
from torch import Tensor

from ..distributions import RestrictedBoltzmann
from ..distributions.conversions import swapped
from .moments import Machine, Moments, learns_units, moments, rows_of, surrogate

_BLOCK = 2**13  # states at a time


class ExactLikelihood:
    r"""Mean of :math:`-\log p` over a batch, nats, by enumeration of the layer with fewer states.

    Arguments:
        model: A machine with at most 20 binary units, or 2^20 states, in one of its layers.
        natural: Damping :math:`\lambda` of the natural gradient, relative to the mean of the diagonal of G;
            needs a visible layer that can be enumerated. Default: the plain gradient.

    Example:
        >>> from physgen.models.rbm import RBM
        >>> rbm = RBM((2, 2), hidden=3, spread=0.0)
        >>> loss = ExactLikelihood(rbm)(torch.ones(5, 4)); loss.backward()
        >>> round(loss.item() / 4, 4)  # log 2 per spin
        0.6931
    """

    def __init__(self, model: Machine, natural: float | None = None):
        if natural is not None and not natural > 0:
            raise ValueError(f"natural is a damping and must be positive, got {natural}")
        self.model, self.natural = model, natural
        if not model.distribution().enumerable:
            raise ValueError(
                "the exact gradient needs a layer of at most 20 binary units (2^20 states); take PersistentCD"
            )

    def __call__(self, data: Tensor) -> Tensor:
        law = self.model.distribution()
        data = rows_of(law, data)
        finite = min(law.visible_units.n_states, law.hidden_units.n_states) < math.inf
        if learns_units(law) or not finite:  # two Gaussian layers have a closed form instead of a sum
            return law.free_energy(data).mean() + law.log_partition()
        log_z, of_model = enumerated(law)
        with torch.no_grad():
            value = law.free_energy(data).mean() + log_z
        slope = surrogate(law, moments(law, data), of_model)
        if self.natural is not None:
            slope = self._natural(law, slope)
        return value + (slope - slope.detach())

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if state:
            raise ValueError("the saved state is of another loss; the exact one has none")

    def _natural(self, law: RestrictedBoltzmann, slope: Tensor) -> Tensor:
        """A linear function of the parameters whose gradient is the natural one."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        plain = (law.weight, law.loc, law.hidden_bias)
        flat = torch.cat([p.reshape(-1) for p in plain])
        chain = torch.stack([_flat(torch.autograd.grad(x, parameters, retain_graph=True)) for x in flat])
        metric = chain.mT @ fisher(law).to(chain) @ chain
        gradient = _flat(torch.autograd.grad(slope, parameters))
        damping = self.natural * metric.diagonal().mean()
        direction = torch.linalg.solve(metric + damping * torch.eye(len(metric)).to(metric), gradient)
        return torch.cat([p.reshape(-1) for p in parameters]) @ direction


@torch.no_grad()
def enumerated(law: RestrictedBoltzmann) -> tuple[Tensor, Moments]:
    """Log Z and the moments of the law, by a sum over its smaller layer.

    Example:
        >>> from physgen.models.rbm import RBM
        >>> log_z, mean = enumerated(RBM((2, 2), hidden=3, spread=0.0).distribution())
        >>> round(log_z.exp().item()), mean.hidden
        (128, tensor([0.5000, 0.5000, 0.5000]))
    """
    if law.visible_units.n_states <= law.hidden_units.n_states:
        return _summed(law)
    log_z, m = _summed(swapped(law))
    return log_z, Moments(m.weight.mT, m.hidden, m.visible)


def _summed(law: RestrictedBoltzmann) -> tuple[Tensor, Moments]:
    blocks = law.visible_units.states(law.loc).split(_BLOCK)
    log_weight = law.log_weights(visible=True).double()
    log_z = log_weight.logsumexp(0)
    total = [torch.zeros_like(x) for x in (law.weight, law.loc, law.hidden_bias)]
    for v, p in zip(blocks, (log_weight - log_z).exp().to(law.weight).split(_BLOCK), strict=True):
        t_v, t_h = _statistics(law, v)
        weighted = p.unsqueeze(-1) * t_v
        for mean, part in zip(total, (weighted.mT @ t_h, weighted.sum(0), p @ t_h), strict=True):
            mean += part
    return log_z.to(law.weight), Moments(*total)


@torch.no_grad()
def fisher(law: RestrictedBoltzmann) -> Tensor:
    r"""Covariance of :math:`(t_v \bar t_h^\top, t_v, \bar t_h)` under p(v), flattened, float64 ``(P, P)``."""
    if law.visible_units.n_states > 2**16:
        raise ValueError("the natural gradient sums over visible states, at most 2^16; leave natural= out")
    square: Tensor | float = 0.0
    mean: Tensor | float = 0.0
    blocks = law.visible_units.states(law.loc).split(_BLOCK)
    weights = law.log_weights(visible=True).double().softmax(0).split(_BLOCK)
    for v, p in zip(blocks, weights, strict=True):
        t_v, t_h = (t.double() for t in _statistics(law, v))
        score = torch.cat([(t_v.unsqueeze(-1) * t_h.unsqueeze(-2)).flatten(1), t_v, t_h], 1)
        square, mean = square + (p.unsqueeze(-1) * score).mT @ score, mean + p @ score
    return square - torch.outer(mean, mean)


def _statistics(law: RestrictedBoltzmann, v: Tensor) -> tuple[Tensor, Tensor]:
    hidden = law.hidden_units
    return law.visible_units.coupled(v), hidden.coupled(hidden.mean(law.hidden_field(v)))


def _flat(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([x.reshape(-1) for x in tensors])
