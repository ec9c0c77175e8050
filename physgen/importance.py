r"""Unbiased physics from an approximate density: importance weights and Metropolis with neural proposals.

.. math:: w = e^{-\beta E} / q , \qquad \mathbb{E}_q[w] = Z , \qquad
    \langle O \rangle = \mathbb{E}_q[w O] / \mathbb{E}_q[w] .

Both are right for any q that is nowhere zero; a poor q costs precision, which the effective sample size and
the acceptance tell, unless it misses a region that no draw has ever met.

References:
    | Asymptotically unbiased estimation of physical observables with neural samplers (Nicoli et al., 2020),
      https://arxiv.org/abs/1910.13496
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from ising.stats import Estimate

from .divergence import effective_sample_size
from .nn import stream
from .reverse_kl import Density


@torch.no_grad()
def log_weights(
    model: Density,
    energy: Callable[[Tensor], Tensor],
    beta: float,
    n: int,
    *,
    seed: int = 0,
    rows: int = 1000,
) -> tuple[Tensor, np.ndarray]:
    r"""Draws from q and their :math:`\ln w = -\beta E - \ln q`: ``(n, N)`` spins, ``(n,)`` float64 nats."""
    generator = stream(model, seed, 51)
    parts = [model.sample(min(rows, n - first), generator) for first in range(0, n, rows)]
    values = [-beta * energy(part).double() - model.log_prob(part).double() for part in parts]
    return torch.cat(parts), torch.cat(values).cpu().numpy()


def log_partition(log_w: np.ndarray) -> Estimate:
    r"""Ln Z, the logarithm of the mean weight, in nats.

    .. math:: \ln \bar w + \frac{v}{2}, \qquad v = \frac{1}{n} \Big( \frac{1}{\mathrm{ESS}} - 1 \Big) ,

    with error :math:`\sqrt v`: the second term takes out the leading bias of the logarithm. Where the weights
    have a heavy tail the interval is too short until draws from the tail turn up.

    Example:
        >>> log_partition(np.full(100, 3.0)).mean
        3.0
    """
    n = len(log_w)
    v = (1 / effective_sample_size(log_w) - 1) / (n - 1)
    return Estimate(float(logsumexp(log_w) - math.log(n) + v / 2), math.sqrt(max(v, 0.0)))


def reweighted(log_w: np.ndarray, values: np.ndarray) -> Estimate:
    r"""The mean of an observable under the Boltzmann law, with the error of a ratio of two means.

    .. math:: \bar O = \sum_i \omega_i O_i , \qquad \sigma^2 = \sum_i \omega_i^2 (O_i - \bar O)^2 , \qquad
        \omega_i = w_i / \sum_j w_j .

    The bias is of order 1/n.

    Arguments:
        log_w: ``(n,)`` nats.
        values: ``(n,)``.

    Example:
        >>> round(reweighted(np.log([1.0, 3.0]), np.array([0.0, 1.0])).mean, 9)
        0.75
    """
    weights = np.exp(log_w - logsumexp(log_w))
    mean = float(weights @ values)
    return Estimate(mean, math.sqrt(float(weights**2 @ (values - mean) ** 2)))


def warning(forward: Estimate, reverse: Estimate) -> str | None:
    r"""One sentence where held-out data lie in places that the model hardly draws; None where they do not.

    Small :math:`\mathrm{KL}(q \| p)` and a large effective sample size say nothing about what q has lost;
    :math:`\mathrm{KL}(p \| q)` does. For a q close to p the two divergences are equal to leading order.

    Arguments:
        forward: :math:`\mathrm{KL}(p \| q)` from data, nats of whole configurations.
        reverse: :math:`\mathrm{KL}(q \| p)` from draws.

    Example:
        >>> warning(Estimate(0.11, 0.01), Estimate(0.10, 0.01)) is None
        True
    """
    excess = forward.mean - 2 * max(reverse.mean, 0.0)
    if excess < 0.1 + 5 * math.hypot(forward.error, 2 * reverse.error):
        return None
    return (
        f"KL(p||q) = {forward} nats on held-out data is far above KL(q||p) = {reverse}: the model has lost "
        "configurations that the data have, so do not trust its ESS or ln Z; anneal longer, or train on data"
    )


@dataclass(frozen=True)
class Chains:
    """What Metropolis made of the proposals: spins ``(chains, samples, N)`` and the mean ``acceptance``."""

    spins: Tensor
    acceptance: float


@torch.no_grad()
def metropolis(
    model: Density,
    energy: Callable[[Tensor], Tensor],
    beta: float,
    *,
    chains: int,
    samples: int,
    start: Tensor | None = None,
    between: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
) -> Chains:
    r"""Markov chains whose proposals are independent draws of the model, accepted with :math:`\min(1, w'/w)`.

    The Boltzmann law is their stationary law whatever the model is. Where it is poor, rejections come in long
    runs; moves ``between`` the proposals, such as a cluster update, then carry the chain on.

    Arguments:
        model: Offers ``log_prob`` and ``sample``.
        energy: Total energy of configurations, ``(n, N)`` to ``(n,)``.
        beta: Inverse temperature.
        chains, samples: How many of each; one sample per proposal.
        start: Configurations ``(chains, N)``; draws of the model if not given.
        between: Any update that leaves the Boltzmann law as it is, applied before every proposal.
        seed: Of proposals and decisions.

    References:
        | Equation of State Calculations by Fast Computing Machines (Metropolis et al., 1953)
        | Monte Carlo sampling methods using Markov chains and their applications (Hastings, 1970)

    Example:
        >>> from physgen import models
        >>> made = metropolis(models.build("fvbn", (3,)), lambda s: -s.prod(-1), 0.5, chains=4, samples=10)
        >>> made.spins.shape, 0 < made.acceptance <= 1
        (torch.Size([4, 10, 3]), True)
    """
    generator = stream(model, seed, 52)

    def log_w(spins: Tensor) -> Tensor:
        return -beta * energy(spins).double() - model.log_prob(spins).double()

    state = model.sample(chains, generator) if start is None else start.clone()
    here, accepted, kept = log_w(state), 0, []
    for _ in range(samples):
        if between is not None:
            state = between(state)
            here = log_w(state)
        proposal = model.sample(chains, generator)
        there = log_w(proposal)
        u = torch.rand(chains, generator=generator, dtype=torch.float64, device=there.device)
        taken = u.log() < there - here
        state = torch.where(taken[:, None], proposal, state)
        here = torch.where(taken, there, here)
        accepted += int(taken.sum())
        kept.append(state)
    return Chains(torch.stack(kept, 1), accepted / (chains * samples))
