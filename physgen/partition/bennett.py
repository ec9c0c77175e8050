r"""The acceptance ratio of Bennett between chains that walk a path in both directions.

With :math:`e^a` the weights of n chains from independent units to the model and :math:`e^b` those of m chains
back, the logarithm r of :math:`Z / Z_0` solves

.. math:: \sum_i \sigma(a_i - r - \ln\tfrac nm) = \sum_j \sigma(b_j + r + \ln\tfrac nm) ,

since the weights are ratios of the probabilities of a walk and of its reverse (Crooks). No other estimate
from both sets has a smaller error, and the largest weights cannot carry it: each counts at most 1.

References:
    | Efficient Estimation of Free Energy Differences from Monte Carlo Data (Bennett, 1976)
    | Equilibrium Free Energies from Nonequilibrium Measurements (Shirts, Bair, Hooker and Pande, 2003)
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from ising.stats import Estimate

from .weights import MIN_EFFECTIVE, UnevenWeights, Weights


class Meeting(NamedTuple):
    r"""Where the two sets of walks meet.

    Attributes:
        estimate: :math:`\log Z`; the error is that of the two means for independent chains.
        overlap: What both sides of the equation sum to, chains; the error is to be trusted from 20 on.
    """

    estimate: Estimate
    overlap: float

    @property
    def doubt(self) -> str:
        """What is wrong, a sentence or nothing."""
        if self.overlap >= MIN_EFFECTIVE:
            return ""
        return (
            f"the walks to the model and those back meet in {self.overlap:.1f} chains; take more "
            "temperatures or chains, or samples that are closer to the law of the model"
        )

    def checked(self) -> Estimate:
        """:attr:`estimate`, with a warning where it is in doubt."""
        if self.doubt:
            warnings.warn(self.doubt, UnevenWeights, stacklevel=3)
        return self.estimate


def meeting(forward: Weights, reverse: Weights) -> Meeting:
    r"""The root of the equation above.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> noise = torch.randn(2, 400, generator=g, dtype=torch.float64)
        >>> forward, reverse = Weights(1.5 + noise[0], 0.0), Weights(-2.5 + noise[1], 0.0, -1)
        >>> meeting(forward, reverse).estimate.sigmas_from(2.0) < 3  # normal a = r - 1/2, b = -r - 1/2
        True
    """
    a, b = forward.log_w.cpu().numpy(), reverse.log_w.cpu().numpy()
    m = math.log(len(a) / len(b))

    def excess(r: float) -> float:
        return expit(a - r - m).sum() - expit(b + r + m).sum()

    ends = np.concatenate([a, -b])
    margin = 40 + abs(m) + math.log(len(ends))
    r = brentq(excess, ends.min() - margin, ends.max() + margin, xtol=1e-10)
    there, back = expit(a - r - m), expit(b + r + m)
    error = math.sqrt(_relative_variance(there) + _relative_variance(back))
    return Meeting(Estimate(forward.log_z0 + r, error), float(there.sum()))


def _relative_variance(x: np.ndarray) -> float:
    """Of the mean of x."""
    return x.var(ddof=1) / (len(x) * x.mean() ** 2)
