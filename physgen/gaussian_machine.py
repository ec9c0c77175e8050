r"""Machines of Gaussian units on both sides, whose law and likelihood are known in closed form.

.. math:: p(v) = N(m, P^{-1}), \qquad P = D_v - D_v W D_h W^\top D_v, \qquad D = \mathrm{diag}(1 / \sigma^2)

With equal widths of the visible units this is probabilistic principal component analysis: a covariance
:math:`\sigma^2 + \text{rank } H`, the maximum of whose likelihood needs no training.

References:
    | Probabilistic Principal Component Analysis (Tipping and Bishop, 1999)
"""

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from .distributions import RestrictedBoltzmann, units


def most_likely(covariance: Tensor, hidden: int) -> RestrictedBoltzmann:
    r"""The machine of largest likelihood on data of zero mean: H eigenvalues kept, the others averaged.

    .. math:: \sigma^2 = \frac{1}{N - H} \sum_{i > H} \lambda_i, \qquad
        W_i = u_i\, \sigma \sqrt{1 - \sigma^2 / \lambda_i}

    Arguments:
        covariance: Of the data, ``(N, N)``.
        hidden: Hidden units H of width 1, fewer than N.

    Example:
        >>> law = most_likely(torch.tensor([[2.0, 1.0], [1.0, 2.0]]), hidden=1)
        >>> marginal(law).covariance_matrix.mul(1e4).round().div(1e4).tolist()
        [[2.0, 1.0], [1.0, 2.0]]
    """
    N = len(covariance)
    if not 0 < hidden < N:
        raise ValueError(f"{N} visible units need from 1 to {N - 1} Gaussian hidden units, got {hidden}")
    values, vectors = torch.linalg.eigh(covariance)
    variance, kept = values[: N - hidden].mean(), values[N - hidden :]
    W = vectors[:, N - hidden :] * (variance * (1 - variance / kept)).sqrt()
    visible = units.Gaussian(N, variance.sqrt().expand(N))
    return RestrictedBoltzmann(visible, units.Gaussian(hidden), W, W.new_zeros(N), W.new_zeros(hidden))


def marginal(law: RestrictedBoltzmann) -> MultivariateNormal:
    """p(v) of a machine of Gaussian units, with its normalisation."""
    D, d = (layer.stiffness(law.weight) ** 2 for layer in (law.visible_units, law.hidden_units))
    coupling = D.unsqueeze(-1) * law.weight
    precision = torch.diag(D) - coupling * d @ coupling.T
    mean = torch.linalg.solve(precision, D * law.loc + coupling @ (d * law.hidden_bias))
    return MultivariateNormal(mean, precision_matrix=precision)
