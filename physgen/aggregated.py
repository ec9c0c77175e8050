r"""The aggregated posterior: what a layer of hidden units looks like to the machine above it.

Given one configuration the hidden units are independent, :math:`q(h|x) = \prod_j q_j(h_j|x)`. Over all data

.. math:: q(h) = \frac{1}{n} \sum_{i=1}^n \prod_j q_j(h_j | x_i)

is a mixture and has correlations, which is why a second layer has something to learn. What independent units
with the same means lack is the total correlation :math:`\mathrm{KL}(q \| \prod_j q_j) \ge 0`: an upper bound
of what the layer above can add to the likelihood of independent units.

References:
    | Information Theoretical Analysis of Multivariate Correlation (Watanabe, 1960)
"""

import math

import torch
from torch import Tensor

from .distributions.units import Bernoulli


def log_prob(probabilities: Tensor, h: Tensor) -> Tensor:
    r""":math:`\log q(h)`, nats, of states ``(*, H)``, from :math:`q_j(h_j = 1 | x_i)` of shape ``(n, H)``.

    Example:
        >>> posteriors = torch.tensor([[0.9, 0.9, 0.1, 0.1], [0.1, 0.1, 0.9, 0.9]])
        >>> h = torch.tensor([1.0, 1, 0, 0])
        >>> round(log_prob(posteriors, h).exp().item(), 4)  # (0.9^4 + 0.1^4) / 2
        0.3281
        >>> round(factorial_log_prob(posteriors, h).exp().item(), 4)  # 0.5^4
        0.0625
    """
    fields = probabilities.logit()
    none = torch.zeros_like(fields)
    log_given = h @ fields.T - Bernoulli(fields.shape[-1]).log_sum(none, fields)
    return log_given.logsumexp(-1) - math.log(len(fields))


def factorial_log_prob(probabilities: Tensor, h: Tensor) -> Tensor:
    """Log-probability of states ``(*, H)`` under independent units with the means of the data, nats."""
    return log_prob(probabilities.mean(0, keepdim=True), h)


def total_correlation(
    probabilities: Tensor, draws: int = 10_000, generator: torch.Generator | None = None
) -> tuple[float, float]:
    r""":math:`\mathrm{KL}(q \| \prod_j q_j)`, nats, and its one-sigma error; an exact sum up to 12 units.

    Arguments:
        probabilities: ``(n, H)``, strictly between 0 and 1.
        draws: Of h, beyond 12 units.
        generator: Source of those draws; torch's global one if not given.

    Example:
        >>> posteriors = torch.tensor([[0.9, 0.9, 0.1, 0.1], [0.1, 0.1, 0.9, 0.9]])
        >>> [round(x, 3) for x in total_correlation(posteriors)]
        [0.833, 0.0]
    """
    n, H = probabilities.shape
    if H <= 12:
        states = Bernoulli(H).states(probabilities)
        log_q = log_prob(probabilities, states)
        return float((log_q.exp() * (log_q - factorial_log_prob(probabilities, states))).sum()), 0.0
    rows = torch.randint(n, (draws,), generator=generator, device=probabilities.device)
    h = torch.bernoulli(probabilities[rows], generator=generator)
    gain = log_prob(probabilities, h) - factorial_log_prob(probabilities, h)
    return float(gain.mean()), float(gain.std() / draws**0.5)
