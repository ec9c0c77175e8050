"""The restricted Boltzmann machines that have a name of their own."""

import math

import torch
from pyro.distributions import constraints
from torch import Size, Tensor

from . import units
from .centred import Centred
from .rbm import RestrictedBoltzmann
from .spin import Shape
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
        log_z, c = self.known_log_z, self.hidden_bias - self.weight.sum(-2)
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


class GaussianRBM(RestrictedBoltzmann):
    r"""Gaussian visible and Gaussian hidden units: a normal law, all of it in closed form.

    .. math::
        E(v, h) = \sum_i \frac{(v_i - b_i)^2}{2\sigma_i^2} + \sum_j \frac{(h_j - c_j)^2}{2\tau_j^2}
                  - \sum_{ij} \frac{v_i}{\sigma_i^2} W_{ij} \frac{h_j}{\tau_j^2}

    With :math:`M = \sigma^{-1} W \tau^{-1}` the hidden units have the precision
    :math:`\tau^{-1} (1 - M^\top M) \tau^{-1}`, positive if the spectral norm of M is below 1, and
    :math:`\mathrm{cov}(v) = \sigma (1 - M M^\top)^{-1} \sigma`.

    Arguments:
        weight: :math:`W`, shape ``(*, D, H)``.
        loc: :math:`b`, shape ``(*, D)``, in the units of v; not the mean of v unless W or c and b vanish.
        hidden_bias: :math:`c`, shape ``(*, H)``, in the units of h.
        scale: :math:`\sigma > 0`, a number or ``(*, D)``.
        hidden_scale: :math:`\tau > 0`, a number or ``(*, H)``.

    Raises:
        ValueError: Where the spectral norm of M reaches 1 and the density has no integral.

    References:
        | Products of Gaussians and Probabilistic Minor Component Analysis (Williams and Agakov, 2002)

    Example:
        >>> import torch
        >>> d = GaussianRBM(torch.full((1, 1), 0.6), torch.zeros(1), torch.zeros(1))
        >>> round(d.variance.item(), 4)  # 1 / (1 - 0.36)
        1.5625
    """

    def __init__(
        self,
        weight: Tensor,
        loc: Tensor,
        hidden_bias: Tensor,
        scale: Tensor | float = 1.0,
        hidden_scale: Tensor | float = 1.0,
        **options: object,
    ):
        visible = units.Gaussian(loc.shape[-1], scale)
        hidden = units.Gaussian(hidden_bias.shape[-1], hidden_scale)
        super().__init__(visible, hidden, weight, loc, hidden_bias, **options)

    @property
    def enumerable(self) -> bool:
        """True: log Z, draws and moments are exact at any size."""
        return True

    def log_partition(self) -> Tensor:
        r""":math:`\log Z`, batch shaped: the weight of h at its mean times the volume of its normal law."""
        if self.known_log_z is not None:
            return self.known_log_z
        root, _, tau = self._hidden_law()
        volume = tau.log().sum(-1) - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * self.n_hidden * math.log(2 * math.pi)
        return self._log_weight_hidden(self.hidden_mean) + volume + constant

    @property
    def hidden_mean(self) -> Tensor:
        """Mean of the hidden units, batch shape + ``(H,)``."""
        root, pull, tau = self._hidden_law()
        return tau * torch.cholesky_solve(pull.unsqueeze(-1), root).squeeze(-1)

    @property
    def mean(self) -> Tensor:
        return self.visible_field(self.hidden_mean)

    @property
    def variance(self) -> Tensor:
        root, _, tau = self._hidden_law()
        # W h / tau^2 has the covariance (W / tau) (1 - M^T M)^-1 (W / tau)^T
        half = torch.linalg.solve_triangular(root, (self.weight / tau.unsqueeze(-2)).mT, upper=False)
        return self.visible_units.variance(self.loc) + half.square().sum(-2)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = Size()) -> Tensor:  # noqa: B008
        """Independent draws: the hidden units from their normal law, then the visible units."""
        root, _, tau = self._hidden_law()
        shape = Size(sample_shape) + self.hidden_bias.shape
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device).unsqueeze(-1)
        spread = torch.linalg.solve_triangular(root.mT, noise, upper=True).squeeze(-1)
        return self.draw_visible(self.hidden_mean + tau * spread)

    def _hidden_law(self) -> tuple[Tensor, Tensor, Tensor]:
        r"""Root of :math:`1 - M^\top M`, what it times the mean of :math:`h/\tau` is, and :math:`\tau`."""
        sigma, tau = (x.scale.to(self.loc) for x in (self.visible_units, self.hidden_units))
        tau = tau.expand(self.hidden_bias.shape)
        m = self.weight / (sigma.expand(self.loc.shape).unsqueeze(-1) * tau.unsqueeze(-2))
        one = torch.eye(self.n_hidden, dtype=m.dtype, device=m.device)
        pull = (self.hidden_bias + self._hidden_shift(self.loc)) / tau
        return torch.linalg.cholesky(one - m.mT @ m), pull, tau


def machine(
    visible: Units, hidden: Units, *plain: Tensor, centred: Centred | None = None, **options: object
) -> RestrictedBoltzmann:
    """The machine of any two layers in plain or centred parameters; two Gaussian ones have a class.

    Example:
        >>> import torch
        >>> layers = units.layer("gaussian", 3), units.layer("gaussian", 2)
        >>> type(machine(*layers, torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))).__name__
        'GaussianRBM'
    """
    if type(visible) is type(hidden) is units.Gaussian:
        scales = visible.scale, hidden.scale
        return GaussianRBM(*(plain or centred.plain()), *scales, centred=centred, **options)
    return RestrictedBoltzmann(visible, hidden, *plain, centred=centred, **options)
