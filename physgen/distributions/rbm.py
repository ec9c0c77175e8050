r"""Restricted Boltzmann machines as Pyro distributions.

With hidden units :math:`h \in \{0, 1\}^H`, biases b, c and weights W,

.. math:: E(v, h) = U(v) - c \cdot h - x(v)^\top W h, \qquad p(v) = \frac{1}{Z} \sum_h e^{-E(v, h)},

where a family chooses the alphabet of v, its own energy U(v) and the input x(v) of the hidden units.
"""

import math
from collections.abc import Callable

import pyro
import torch
from pyro.distributions import Bernoulli, Categorical, Normal, TorchDistribution, constraints
from torch import Size, Tensor
from torch.nn.functional import softplus

from .spin import Shape, Spin, below, draw_spins, spin

MAX_ENUMERATED = 20  # units of the smaller layer that log Z, draws and moments sum over exactly
_BLOCK = 2**13  # states held at a time


class _BinaryHiddenRBM(TorchDistribution):
    """What the families share.

    A family says what its units are: ``_input`` x(v), ``_own_energy`` U(v), ``_log_visible_sum`` (the log of
    the sum or integral of exp(-U + shift . x) over v), ``visible`` p(v | h) and ``draw_visible``.
    """

    arg_constraints = {
        "weight": constraints.independent(constraints.real, 2),
        "loc": constraints.real_vector,
        "hidden_bias": constraints.real_vector,
    }
    alphabet: tuple[float, ...] = ()  # the two values of a visible unit, none if continuous

    def __init__(
        self,
        weight: Tensor,
        loc: Tensor,
        hidden_bias: Tensor,
        *,
        log_partition: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        self._set({"weight": weight, "loc": loc, "hidden_bias": hidden_bias}, log_partition, validate_args)

    def _set(
        self, parameters: dict[str, Tensor], log_partition: Tensor | None, validate_args: bool | None
    ) -> None:
        """Checks the shapes, broadcasts the batch and stores the parameters."""
        expected = parameters["loc"].shape[-1:] + parameters["hidden_bias"].shape[-1:]
        found = parameters["weight"].shape[-2:]
        if found != expected:
            hint = " (it looks transposed)" if found == expected[::-1] else ""
            raise ValueError(
                f"weight must end in (visible, hidden) = {tuple(expected)}, got {tuple(found)}{hint}"
            )
        event = {name: x.shape[-2:] if name == "weight" else x.shape[-1:] for name, x in parameters.items()}
        batch_shape = torch.broadcast_shapes(
            *(x.shape[: x.dim() - len(event[name])] for name, x in parameters.items())
        )
        for name, x in parameters.items():
            setattr(self, name, x.expand(batch_shape + event[name]))
        self._log_partition = None if log_partition is None else torch.as_tensor(log_partition)
        TorchDistribution.__init__(self, batch_shape, expected[:1], validate_args=validate_args)

    def _parameters(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.arg_constraints}

    def expand(self, batch_shape: Shape, _instance: "_BinaryHiddenRBM | None" = None) -> "_BinaryHiddenRBM":
        new = self._get_checked_instance(type(self), _instance)
        kept = len(self.batch_shape)
        stretched = {
            name: x.expand(Size(batch_shape) + x.shape[kept:]) for name, x in self._parameters().items()
        }
        log_z = None if self._log_partition is None else self._log_partition.expand(Size(batch_shape))
        new._set(stretched, log_z, False)
        new._validate_args = self._validate_args
        return new

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """:math:`E(v, h)`: ``(*, D)`` and ``(*, H)`` to ``(*,)``."""
        return self._own_energy(v) - (self._hidden_field(v) * h).sum(-1)

    def free_energy(self, v: Tensor) -> Tensor:
        r""":math:`F(v) = -\log\sum_h e^{-E(v, h)}`, ``(*, D)`` to ``(*,)``; :math:`p(v) = e^{-F(v)} / Z`."""
        return self._own_energy(v) - softplus(self._hidden_field(v)).sum(-1)

    def hidden(self, v: Tensor) -> TorchDistribution:
        """:math:`p(h | v)`: independent Bernoulli units, event shape ``(H,)``."""
        return Bernoulli(logits=self._hidden_field(v)).to_event(1)

    def log_partition(self) -> Tensor:
        r""":math:`\log Z`, batch shaped: the one given, or the exact sum over the smaller layer.

        The sum is done again at every call; pass its result as ``log_partition=`` where parameters are fixed.
        """
        return self._enumerated()[1].logsumexp(-1) if self._log_partition is None else self._log_partition

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return -self.free_energy(value) - self.log_partition()

    def log_prob_hidden(self, h: Tensor) -> Tensor:
        r""":math:`\log p(h) = \log \sum_v e^{-E(v, h)} - \log Z`: ``(*, H)`` to ``(*,)``."""
        return self._log_weight_hidden(h) - self.log_partition()

    def joint(self, v: Tensor | None = None) -> Tensor:
        """The machine as a Pyro model: hidden units first, then v given them; returns v.

        Site ``"h"`` is the number of a hidden state (its units read as binary digits): one discrete variable,
        which ``TraceEnum_ELBO`` and ``infer_discrete`` sum over exactly. Site ``"v"`` may be observed; put a
        plate around the call for several v.
        """
        states = self._states(self.n_hidden, (0.0, 1.0))
        number = pyro.sample("h", Categorical(logits=self._over(states, self._log_weight_hidden)))
        return pyro.sample("v", self.visible(states[number]), obs=v)

    def sample(self, sample_shape: Shape = Size()) -> Tensor:  # noqa: B008
        """Independent draws of the exact law, by enumeration of the smaller layer."""
        with torch.no_grad():
            states, log_weight = self._enumerated()
            drawn = states[Categorical(logits=log_weight).sample(Size(sample_shape))]
            return drawn if self._sums_visible else self.draw_visible(drawn)

    @property
    def mean(self) -> Tensor:
        return self._moments()[0]

    @property
    def variance(self) -> Tensor:
        mean, square = self._moments()
        return square - mean**2

    @torch.no_grad()
    def draw_hidden(self, v: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of the hidden units given v: ``(*, D)`` to ``(*, H)``."""
        return below(self._hidden_field(v).sigmoid(), generator)

    def gibbs(self, v: Tensor, steps: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Block Gibbs, reversible in p(v): all hidden units, then all visible units, ``steps`` times."""
        for _ in range(steps):
            v = self.draw_visible(self.draw_hidden(v, generator), generator)
        return v

    def annealed(self, t: float, base: Tensor | None = None) -> "_BinaryHiddenRBM":
        r"""A machine with weights :math:`tW`, hidden bias :math:`tc`, visible bias :math:`(1 - t) b_0 + t b`.

        At t = 0 its visible units are independent with bias ``base`` = :math:`b_0` (default b); at t = 1 it
        is this machine.
        """
        changed = {"weight": t * self.weight, "hidden_bias": t * self.hidden_bias}
        changed["loc"] = self.loc if base is None else torch.lerp(base.to(self.loc), self.loc, t)
        return type(self)(**(self._parameters() | changed), validate_args=False)

    def log_partition_uncoupled(self) -> Tensor:
        r""":math:`\log Z` of the same biases at W = 0, in closed form."""
        return softplus(self.hidden_bias).sum(-1) + self._log_visible_sum(torch.zeros_like(self.loc))

    @property
    def n_visible(self) -> int:
        return self.weight.shape[-2]

    @property
    def n_hidden(self) -> int:
        return self.weight.shape[-1]

    @property
    def enumerable(self) -> bool:
        """Whether the layer to sum over is small enough for log Z, draws and moments to be exact."""
        return (self.n_visible if self._sums_visible else self.n_hidden) <= MAX_ENUMERATED

    @property
    def _sums_visible(self) -> bool:
        return bool(self.alphabet) and self.n_visible < self.n_hidden

    def _enumerated(self) -> tuple[Tensor, Tensor]:
        """States of the layer that is cheaper to sum over, and their unnormalised log-probabilities."""
        if self._sums_visible:
            states = self._states(self.n_visible, self.alphabet)
            return states, self._over(states, lambda v: -self.free_energy(v))
        states = self._states(self.n_hidden, (0.0, 1.0))
        return states, self._over(states, self._log_weight_hidden)

    def _states(self, n_units: int, alphabet: tuple[float, ...]) -> Tensor:
        """All states of a layer, ``(2**K, K)``; row k spells k in binary."""
        if n_units > MAX_ENUMERATED:
            raise ValueError(
                f"exact sums need a layer of at most {MAX_ENUMERATED} units, the smaller one has {n_units}; "
                "give log_partition= (physgen.ais estimates it) and draw by gibbs()"
            )
        place = torch.arange(n_units - 1, -1, -1, device=self.loc.device)
        bits = torch.arange(2**n_units, device=self.loc.device).unsqueeze(-1) >> place & 1
        return alphabet[0] + (alphabet[1] - alphabet[0]) * bits.to(self.loc)

    def _blocks(self, states: Tensor) -> tuple[Tensor, ...]:
        """States in blocks that bound the memory, with axes of length 1 where the batch goes."""
        return states.reshape(-1, *(1,) * len(self.batch_shape), states.shape[-1]).split(_BLOCK)

    def _over(self, states: Tensor, log_weight: Callable[[Tensor], Tensor]) -> Tensor:
        """``log_weight`` of every state, batch shape + ``(2**K,)``."""
        return torch.cat([log_weight(block) for block in self._blocks(states)]).movedim(0, -1)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Exact mean of v and of its square, batch shape + ``(D,)``."""
        states, log_weight = self._enumerated()
        weights = log_weight.softmax(-1).movedim(-1, 0).unsqueeze(-1).split(_BLOCK)
        first, second = torch.zeros_like(self.loc), torch.zeros_like(self.loc)
        for block, weight in zip(self._blocks(states), weights, strict=True):
            law = None if self._sums_visible else self.visible(block)
            mean, square = (block, block**2) if law is None else (law.mean, law.mean**2 + law.variance)
            first, second = first + (weight * mean).sum(0), second + (weight * square).sum(0)
        return first, second

    def _hidden_field(self, v: Tensor) -> Tensor:
        return self.hidden_bias + _times(self._input(v), self.weight)

    def _log_weight_hidden(self, h: Tensor) -> Tensor:
        return (self.hidden_bias * h).sum(-1) + self._log_visible_sum(_times(h, self.weight.mT))


class BernoulliRBM(_BinaryHiddenRBM):
    r"""Visible marginal of the restricted Boltzmann machine with 0/1 visible and hidden units.

    .. math:: E(v, h) = -b \cdot v - c \cdot h - v^\top W h

    Exact log Z, sampler and moments while the smaller layer has at most :data:`MAX_ENUMERATED` units.
    Event shape ``(D,)``; leading axes of the parameters are batch axes.

    Arguments:
        weight: :math:`W`, shape ``(*, D, H)``.
        loc: Visible bias :math:`b`, shape ``(*, D)``.
        hidden_bias: :math:`c`, shape ``(*, H)``.
        log_partition: :math:`\log Z` beyond enumeration; its error shifts every ``log_prob`` alike.

    References:
        | Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002)

    Example:
        >>> d = BernoulliRBM(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))
        >>> d.log_prob(torch.ones(3)).exp().item()
        0.125
    """

    support = constraints.independent(constraints.boolean, 1)
    has_enumerate_support = True
    alphabet = (0.0, 1.0)

    def visible(self, h: Tensor) -> TorchDistribution:
        """:math:`p(v | h)`: independent units, event shape ``(D,)``."""
        return Bernoulli(logits=self.loc + _times(h, self.weight.mT)).to_event(1)

    @torch.no_grad()
    def draw_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of v given the hidden units: ``(*, H)`` to ``(*, D)``."""
        return below((self.loc + _times(h, self.weight.mT)).sigmoid(), generator)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        states = self._states(self.n_visible, self.alphabet)
        states = states.reshape(-1, *(1,) * len(self.batch_shape), states.shape[-1])
        return states.expand(-1, *self.batch_shape, -1) if expand else states

    def _input(self, v: Tensor) -> Tensor:
        return v

    def _own_energy(self, v: Tensor) -> Tensor:
        return -(self.loc * v).sum(-1)

    def _log_visible_sum(self, shift: Tensor) -> Tensor:
        return softplus(self.loc + shift).sum(-1)


class SpinRBM(BernoulliRBM):
    r"""Visible marginal of the restricted Boltzmann machine with spins :math:`\pm 1` and 0/1 hidden units.

    .. math:: E(s, h) = -b \cdot s - c \cdot h - s^\top W h

    Arguments, limits and shapes are those of :class:`BernoulliRBM`.

    Example:
        >>> d = SpinRBM(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))
        >>> round(d.log_partition().exp().item())  # 2**3 spin states times 2**2 hidden states
        32
    """

    support = constraints.independent(spin, 1)
    alphabet = (-1.0, 1.0)

    def visible(self, h: Tensor) -> TorchDistribution:
        """:math:`p(s | h)`: independent spins, event shape ``(D,)``."""
        return Spin(self.loc + _times(h, self.weight.mT)).to_event(1)

    @torch.no_grad()
    def draw_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of the spins given the hidden units: ``(*, H)`` to ``(*, D)``."""
        return draw_spins(self.loc + _times(h, self.weight.mT), generator)

    def to_bernoulli(self) -> BernoulliRBM:
        r"""The same law of :math:`v = (s + 1)/2`: :math:`2W,\ 2b,\ c - \sum_i W_i`, and a shifted log Z."""
        log_z, c = self._log_partition, self.hidden_bias - self.weight.sum(-2)
        log_z = None if log_z is None else log_z + self.loc.sum(-1)
        return BernoulliRBM(2 * self.weight, 2 * self.loc, c, log_partition=log_z)

    def _log_visible_sum(self, shift: Tensor) -> Tensor:
        field = self.loc + shift
        return (softplus(2 * field) - field).sum(-1)  # log 2 cosh


class GaussianBinaryRBM(_BinaryHiddenRBM):
    r"""Visible marginal of the restricted Boltzmann machine with Gaussian visible units.

    .. math::
        E(v, h) = \sum_i \frac{(v_i - b_i)^2}{2\sigma_i^2} - \sum_j c_j h_j
                  - \sum_{ij} \frac{v_i}{\sigma_i^2} W_{ij} h_j

    A mixture of :math:`2^H` Gaussians of covariance :math:`\mathrm{diag}(\sigma^2)` at :math:`b + W h`; the
    hidden units alone are a Hopfield network of couplings :math:`W^\top \sigma^{-2} W`. Exact log Z, sampler
    and moments for up to :data:`MAX_ENUMERATED` hidden units. Event shape ``(D,)``; leading axes of the
    parameters are batch axes. The sampler is not reparameterised.

    Arguments:
        weight: :math:`W`, shape ``(*, D, H)``.
        loc: Visible bias :math:`b`, shape ``(*, D)``, in the units of v.
        hidden_bias: :math:`c`, shape ``(*, H)``.
        scale: :math:`\sigma > 0`, shape ``(*, D)``, in the units of v.
        log_partition: :math:`\log Z` beyond enumeration; its error shifts every ``log_prob`` alike.

    References:
        | Improved Learning of Gaussian-Bernoulli Restricted Boltzmann Machines (Cho et al., 2011)

    Example:
        >>> d = GaussianBinaryRBM(torch.zeros(1, 2), torch.zeros(1), torch.zeros(2), torch.ones(1))
        >>> round(d.log_prob(torch.zeros(1)).item(), 4)  # -log sqrt(2 pi)
        -0.9189
    """

    arg_constraints = _BinaryHiddenRBM.arg_constraints | {
        "scale": constraints.independent(constraints.positive, 1)
    }
    support = constraints.real_vector

    def __init__(
        self,
        weight: Tensor,
        loc: Tensor,
        hidden_bias: Tensor,
        scale: Tensor,
        *,
        log_partition: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        parameters = {"weight": weight, "loc": loc, "hidden_bias": hidden_bias, "scale": scale}
        self._set(parameters, log_partition, validate_args)

    def visible(self, h: Tensor) -> TorchDistribution:
        r""":math:`p(v | h) = N(b + W h, \sigma^2)`, event shape ``(D,)``."""
        return Normal(self.loc + _times(h, self.weight.mT), self.scale).to_event(1)

    @torch.no_grad()
    def draw_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of v given the hidden units: ``(*, H)`` to ``(*, D)``."""
        mean = self.loc + _times(h, self.weight.mT)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + self.scale * noise

    def _input(self, v: Tensor) -> Tensor:
        return v / self.scale**2

    def _own_energy(self, v: Tensor) -> Tensor:
        return 0.5 * (((v - self.loc) / self.scale) ** 2).sum(-1)

    def _log_visible_sum(self, shift: Tensor) -> Tensor:
        # With m = W h, completing the square in v:
        #   -(v - b)^2 / 2s^2 + v m / s^2  =  -(v - b - m)^2 / 2s^2 + (b + m / 2) m / s^2
        # so each h is a Gaussian at b + m with the same volume.
        volume = 0.5 * self.loc.shape[-1] * math.log(2 * math.pi) + self.scale.log().sum(-1)
        return volume + ((self.loc + shift / 2) * shift / self.scale**2).sum(-1)


def _times(rows: Tensor, matrix: Tensor) -> Tensor:
    """``(*, A)`` rows by ``(*batch, A, B)``: a plain product unless there is a batch."""
    return rows @ matrix if matrix.dim() == 2 else (rows.unsqueeze(-2) @ matrix).squeeze(-2)
