"""The restricted Boltzmann machines that have a name of their own."""

from pyro.distributions import constraints
from torch import Tensor

from . import units
from .rbm import RestrictedBoltzmann
from .units import Units


class BernoulliRBM(RestrictedBoltzmann):
    r"""0/1 visible and hidden units: :math:`E(v, h) = -b \cdot v - c \cdot h - v^\top W h`.

    Arguments:
        weight: :math:`W`, shape ``(*, D, H)``.
        loc: Visible bias :math:`b`, shape ``(*, D)``.
        hidden_bias: :math:`c`, shape ``(*, H)``.
        log_partition: :math:`\log Z` beyond enumeration; its error shifts every ``log_prob`` alike.

    References:
        | Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002)

    Example:
        >>> import torch
        >>> d = BernoulliRBM(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))
        >>> d.log_prob(torch.ones(3)).exp().item()
        0.125
    """

    visible_kind: type[Units] = units.Bernoulli

    def __init__(self, weight: Tensor, loc: Tensor, hidden_bias: Tensor, **options: object):
        visible, hidden = self.visible_kind(loc.shape[-1]), units.Bernoulli(hidden_bias.shape[-1])
        super().__init__(visible, hidden, weight, loc, hidden_bias, **options)


class SpinRBM(BernoulliRBM):
    r"""Spins :math:`\pm 1` and 0/1 hidden units: :math:`E(s, h) = -b \cdot s - c \cdot h - s^\top W h`.

    Arguments, limits and shapes are those of :class:`BernoulliRBM`.

    Example:
        >>> import torch
        >>> d = SpinRBM(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))
        >>> round(d.log_partition().exp().item())  # 2**3 spin states times 2**2 hidden states
        32
    """

    visible_kind = units.Spin

    def to_bernoulli(self) -> BernoulliRBM:
        r"""The same law of :math:`v = (s + 1)/2`: :math:`2W,\ 2b,\ c - \sum_i W_i`, and a shifted log Z."""
        log_z, c = self._log_partition, self.hidden_bias - self.weight.sum(-2)
        log_z = None if log_z is None else log_z + self.loc.sum(-1)
        return BernoulliRBM(2 * self.weight, 2 * self.loc, c, log_partition=log_z)


class GaussianBinaryRBM(RestrictedBoltzmann):
    r"""Gaussian visible and 0/1 hidden units.

    .. math::
        E(v, h) = \sum_i \frac{(v_i - b_i)^2}{2\sigma_i^2} - \sum_j c_j h_j
                  - \sum_{ij} \frac{v_i}{\sigma_i^2} W_{ij} h_j

    A mixture of :math:`2^H` Gaussians of covariance :math:`\mathrm{diag}(\sigma^2)` at :math:`b + W h`; the
    hidden units alone are a Hopfield network of couplings :math:`W^\top \sigma^{-2} W`.

    Arguments:
        weight: :math:`W`, shape ``(*, D, H)``.
        loc: Visible bias :math:`b`, shape ``(*, D)``, in the units of v.
        hidden_bias: :math:`c`, shape ``(*, H)``.
        scale: :math:`\sigma > 0`, shape ``(*, D)``, in the units of v.
        log_partition: :math:`\log Z` beyond enumeration; its error shifts every ``log_prob`` alike.

    References:
        | Improved Learning of Gaussian-Bernoulli Restricted Boltzmann Machines (Cho et al., 2011)

    Example:
        >>> import torch
        >>> d = GaussianBinaryRBM(torch.zeros(1, 2), torch.zeros(1), torch.zeros(2), torch.ones(1))
        >>> round(d.log_prob(torch.zeros(1)).item(), 4)  # -log sqrt(2 pi)
        -0.9189
    """

    arg_constraints = RestrictedBoltzmann.arg_constraints | {
        "scale": constraints.independent(constraints.positive, 1)
    }

    def __init__(self, weight: Tensor, loc: Tensor, hidden_bias: Tensor, scale: Tensor, **options: object):
        visible = units.Gaussian(loc.shape[-1], scale)
        hidden = units.Bernoulli(hidden_bias.shape[-1])
        super().__init__(visible, hidden, weight, loc, hidden_bias, **options)

    @property
    def scale(self) -> Tensor:
        r""":math:`\sigma`, batch shape + ``(D,)``."""
        return self.visible_units.scale.expand_as(self.loc)
