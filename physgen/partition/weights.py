r"""Importance weights of annealed chains: their mean in log space, its error, and whether to believe it.

Weights spread over orders of magnitude look healthy until the chain that carries the mean is met. Two numbers
tell before: the effective sample size :math:`(\sum w)^2 / \sum w^2`, and the index k of the power law
:math:`P(w > x) \sim x^{-1/k}` that fits the largest weights; from k = 1/2 on they have no variance, from
k = 1 on no mean.

References:
    | Pareto Smoothed Importance Sampling (Vehtari, Simpson, Gelman, Yao and Gabry, 2015)
    | A New and Efficient Estimation Method for the Generalized Pareto Distribution (Zhang and Stephens, 2009)
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ising.stats import Estimate

from ..divergence import effective_sample_size

MIN_EFFECTIVE = 20  # chains; with fewer the jackknife error is itself a guess
MAX_TAIL = 0.7  # index k beyond which averages of weights settle too slowly to be used
MIN_TAIL = 20  # weights to fit it to


class UnevenWeights(UserWarning):
    """A few chains carry all the weight, so neither the estimate nor its error can be trusted."""


class Weights(NamedTuple):
    r"""Log-weights of independent chains with :math:`\langle w \rangle = (Z / Z_0)^{\pm 1}`.

    Attributes:
        log_w: Float64 ``(n,)``.
        log_z0: :math:`\log Z_0`.
        sign: +1 where the chains walked to the model, -1 where they walked away from it.
    """

    log_w: Tensor
    log_z0: float
    sign: int = 1

    @property
    def ess(self) -> float:
        """How many chains of equal weight they are worth."""
        return len(self.log_w) * effective_sample_size(self.log_w.cpu().numpy())

    @property
    def estimate(self) -> Estimate:
        r""":math:`\log Z` with the jackknife error of :math:`\log \bar w`.

        The jackknife also removes the bias :math:`-\mathrm{Var}(w) / 2 n \bar w^2` of the logarithm.
        """
        n, top = len(self.log_w), float(self.log_w.max())
        w = (self.log_w - top).exp()
        left_out = ((w.sum() - w).clamp(min=0) / (n - 1)).log()
        mean = n * math.log(w.mean()) - (n - 1) * float(left_out.mean())
        error = math.sqrt((n - 1) * float(left_out.var(correction=0)))
        return Estimate(self.log_z0 + self.sign * (top + mean), error)

    @property
    def doubt(self) -> str:
        """What is wrong with the weights, a sentence or nothing."""
        n, size, k = len(self.log_w), self.ess, tail_index(self.log_w)
        if not size >= min(MIN_EFFECTIVE, n / 2):
            found = f"are worth {size:.1f} equal ones"
        elif k > MAX_TAIL:
            found = f"have a tail of index {k:.2f}, too heavy to average"
        else:
            return ""
        return (
            f"the weights of {n} chains {found}; take more temperatures or chains, or a base closer to the "
            "data"
        )

    def checked(self) -> Estimate:
        """:attr:`estimate`, with a warning where it is in doubt."""
        if self.doubt:
            warnings.warn(self.doubt, UnevenWeights, stacklevel=3)
        return self.estimate


def tail_index(log_w: Tensor) -> float:
    r"""Index k of the power law in the largest :math:`\min(n/5, 3\sqrt n)` weights; -inf if they are too few.

    The generalised Pareto law fitted by the empirical Bayes estimate of Zhang and Stephens, drawn towards 1/2
    as if by ten more weights.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> exponents = -torch.rand(4000, generator=g, dtype=torch.float64).log()
        >>> abs(tail_index(0.9 * exponents) - 0.9) < 0.2  # P(w > x) = x ** (-1 / 0.9)
        True
    """
    n = len(log_w)
    m = int(min(n / 5, 3 * math.sqrt(n)))
    if m < MIN_TAIL:
        return -math.inf
    largest = np.sort(log_w.cpu().numpy())[-m - 1 :]
    w = np.exp(largest - largest[-1])
    excess = w[1:] - w[0]
    if not excess[0] > 0:
        return -math.inf
    grid = 30 + int(math.sqrt(m))
    steps = 1 - np.sqrt(grid / (np.arange(grid) + 0.5))
    theta = 1 / excess[-1] + steps / (3 * excess[int(m / 4 + 0.5) - 1])
    k = np.log1p(-theta[:, None] * excess).mean(-1)
    log_likelihood = m * (np.log(-theta / k) - k - 1)
    posterior = np.exp(log_likelihood - log_likelihood.max())
    best = (posterior * theta).sum() / posterior.sum()
    return float((m * np.log1p(-best * excess).mean() + 10 * 0.5) / (m + 10))
