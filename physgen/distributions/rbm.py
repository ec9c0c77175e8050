r"""Restricted Boltzmann machines as Pyro distributions: any visible units coupled to any hidden units.

.. math:: E(v, h) = U_v(v) - b \cdot t_v(v) + U_h(h) - c \cdot t_h(h) - t_v(v)^\top W t_h(h), \qquad
    p(v) = \frac{1}{Z} \sum_h e^{-E(v, h)},

with U and t of :mod:`physgen.distributions.units`; the own energy of Gaussian units is
:math:`(v - b)^2 / 2\sigma^2`, which differs from :math:`U - b \cdot t` by a constant.
"""

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import pyro
import torch
from pyro.distributions import Categorical, TorchDistribution, constraints
from torch import Size, Tensor

from . import halves
from .alternating import alternate
from .bits import in_bits
from .centred import Centred
from .layer import MAX_STATES, Layer, all_states, count
from .lookup import times
from .spin import Shape
from .units import Units

_BLOCK = 2**13  # states held at a time


class RestrictedBoltzmann(TorchDistribution):
    r"""Visible marginal p(v) of a restricted Boltzmann machine.

    Exact log Z, sampler and moments while one of the layers has at most 2^20 states. Event
    shape ``(visible.width,)``; leading axes of the parameters are batch axes. Draws carry no gradient.

    Arguments:
        visible, hidden: The layers.
        weight: W, shape ``(*, visible.width, hidden.width)``.
        loc: Visible bias b, shape ``(*, visible.width)``.
        hidden_bias: c, shape ``(*, hidden.width)``.
        centred: What these are made of, so that a gradient may skip them. It is enough: plain ones are then
            found when they are asked for.
        log_partition: :math:`\log Z` beyond enumeration; its error shifts every ``log_prob`` alike.

    Raises:
        ValueError: Where the shapes do not match, or between unbounded layers W in units of both widths has a
            spectral norm of 1 or more. Then Z diverges if both are Gaussian; if relu units are among them it
            may still be finite, and the refusal errs on the safe side.

    References:
        | Exponential Family Harmoniums with an Application to Information Retrieval (Welling et al., 2004)

    Example:
        >>> from physgen.distributions import units
        >>> potts, hidden = units.Softmax(2, states=3), units.Bernoulli(1)
        >>> d = RestrictedBoltzmann(potts, hidden, torch.zeros(6, 1), torch.zeros(6), torch.zeros(1))
        >>> round(d.log_prob(torch.tensor([0.0, 1, 0, 0, 0, 1])).exp().item(), 4)
        0.1111
    """

    arg_constraints = {
        "weight": constraints.independent(constraints.real, 2),
        "loc": constraints.real_vector,
        "hidden_bias": constraints.real_vector,
    }

    def __init__(
        self,
        visible: Units,
        hidden: Units,
        weight: Tensor | None = None,
        loc: Tensor | None = None,
        hidden_bias: Tensor | None = None,
        *,
        centred: Centred | None = None,
        log_partition: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        self.visible_units, self.hidden_units, self.centred = visible, hidden, centred
        self.known_log_z = None if log_partition is None else torch.as_tensor(log_partition)
        self._with_graph = torch.is_grad_enabled()
        if any(x is None for x in (weight, loc, hidden_bias)) and centred is None:
            raise ValueError("a machine needs weight, loc and hidden_bias, or centred parameters")
        batch_shape = Size() if weight is None else self._set_plain(weight, loc, hidden_bias)
        super().__init__(batch_shape, Size([visible.width]), validate_args=validate_args)
        self._check_normalisable()

    def _set_plain(self, weight: Tensor, loc: Tensor, hidden_bias: Tensor) -> Size:
        visible, hidden = self.visible_units, self.hidden_units
        expected, found = (visible.width, hidden.width), tuple(weight.shape[-2:])
        if found != expected:
            hint = " (it looks transposed)" if found == expected[::-1] else ""
            raise ValueError(f"weight must end in (visible, hidden) = {expected}, got {found}{hint}")
        batches = weight.shape[:-2], loc.shape[:-1], hidden_bias.shape[:-1]
        batches += visible.batch_shape, hidden.batch_shape
        batch_shape = torch.broadcast_shapes(*batches) if any(batches) else Size()
        if batch_shape:
            weight = weight.expand(*batch_shape, *expected)
            loc = loc.expand(*batch_shape, visible.width)
            hidden_bias = hidden_bias.expand(*batch_shape, hidden.width)
        self.weight, self.loc, self.hidden_bias = weight, loc, hidden_bias
        return batch_shape

    @cached_property
    def _uncentred(self) -> tuple[Tensor, ...]:
        with torch.set_grad_enabled(self._with_graph):
            return self.centred.plain()

    weight = cached_property(lambda self: self._uncentred[0])  # unless they were given
    loc = cached_property(lambda self: self._uncentred[1])
    hidden_bias = cached_property(lambda self: self._uncentred[2])

    @cached_property
    def plain(self) -> Centred:
        """The parameters about offsets of 0."""
        b, c = self.loc, self.hidden_bias
        return Centred(self.weight, b, c, torch.zeros_like(b), torch.zeros_like(c))

    @property
    def parts(self) -> Centred:
        """What the machine is made of."""
        return self.centred or self.plain

    def expand(self, batch_shape: Shape, _instance: TorchDistribution | None = None) -> "RestrictedBoltzmann":
        """The same machine for every entry of a larger batch, without a copy of its parameters."""
        kept, batch_shape = len(self.batch_shape), Size(batch_shape)
        parameters = (
            x.expand(batch_shape + x.shape[kept:]) for x in (self.weight, self.loc, self.hidden_bias)
        )
        log_z = None if self.known_log_z is None else self.known_log_z.expand(batch_shape)
        new = self._get_checked_instance(type(self), _instance)
        new = self._like(*parameters, log_partition=log_z, new=new)
        new._validate_args = self._validate_args
        return new

    @property
    def support(self) -> constraints.Constraint:
        return self.visible_units.support

    @property
    def has_enumerate_support(self) -> bool:
        return self.visible_units.n_states < math.inf

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return all_states(self.visible_units, self.loc, self.batch_shape, expand)

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """:math:`E(v, h)`: ``(*, D)`` and ``(*, H)`` to ``(*,)``."""
        own = self.visible_units.energy(v, self.loc) + self.hidden_units.energy(h, self.hidden_bias)
        return own - (self._hidden_shift(v) * self.hidden_units.coupled(h)).sum(-1)

    def free_energy(self, v: Tensor) -> Tensor:
        r""":math:`F(v) = -\log\sum_h e^{-E(v, h)}`, ``(*, D)`` to ``(*,)``; :math:`p(v) = e^{-F(v)} / Z`."""
        own = self.visible_units.energy(v, self.loc)
        return own - self.hidden_units.log_sum(self.hidden_bias, self._hidden_shift(v))

    def hidden(self, v: Tensor) -> Layer:
        """:math:`p(h | v)`: independent units, event shape ``(H,)``."""
        return Layer(self.hidden_units, self.hidden_field(v), validate_args=False)

    def visible(self, h: Tensor) -> Layer:
        """:math:`p(v | h)`: independent units, event shape ``(D,)``."""
        return Layer(self.visible_units, self.visible_field(h), validate_args=False)

    def hidden_field(self, v: Tensor) -> Tensor:
        """Field of every hidden coordinate: ``(*, D)`` to ``(*, H)``."""
        return times(self.visible_units.coupled(v), self.weight, self.hidden_bias)

    def visible_field(self, h: Tensor) -> Tensor:
        """Field of every visible coordinate: ``(*, H)`` to ``(*, D)``."""
        return times(self.hidden_units.coupled(h), self.weight.mT, self.loc)

    def log_partition(self) -> Tensor:
        r""":math:`\log Z`, batch shaped: the one given, or the exact sum over the smaller layer.

        The sum is done again at every call: pass its result as ``log_partition=`` where parameters are fixed.
        """
        if self.known_log_z is not None:
            return self.known_log_z
        return self.log_weights(self._sums_visible).logsumexp(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return -self.free_energy(value) - self.log_partition()

    def log_prob_hidden(self, h: Tensor) -> Tensor:
        r""":math:`\log p(h) = \log \sum_v e^{-E(v, h)} - \log Z`: ``(*, H)`` to ``(*,)``."""
        return self._log_weight_hidden(h) - self.log_partition()

    def log_weights(self, visible: bool) -> Tensor:
        """Unnormalised log-probability of every state of a layer by number, batch shape + ``(S,)``.

        Between layers of two-valued units and without a gradient by :mod:`physgen.distributions.halves`.
        """
        found = self._by_halves(visible)
        if found is not None:
            return found
        weigh = (lambda v: -self.free_energy(v)) if visible else self._log_weight_hidden
        return torch.cat([weigh(block) for block in self._blocks(visible)]).movedim(0, -1)

    def joint(self, v: Tensor | None = None) -> Tensor:
        """The machine as a Pyro model: hidden units first, then v given them; returns v.

        Site ``"h"`` is the number of a hidden state (its units read as digits): one discrete variable, which
        ``TraceEnum_ELBO`` and ``infer_discrete`` sum over exactly. Site ``"v"`` may be observed; put a plate
        around the call for several v.
        """
        number = pyro.sample("h", Categorical(logits=self.log_weights(visible=False)))
        return pyro.sample("v", self.visible(self.hidden_units.state(number, self.loc)), obs=v)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = Size()) -> Tensor:  # noqa: B008
        """Independent draws of the exact law, by enumeration of the smaller layer."""
        visible = self._sums_visible
        number = Categorical(logits=self.log_weights(visible).double()).sample(Size(sample_shape))
        drawn = self._summed(visible).state(number, self.loc)
        return drawn if visible else self.draw_visible(drawn)

    @property
    def mean(self) -> Tensor:
        return self._average(lambda mean, _: mean)

    @property
    def variance(self) -> Tensor:
        centre = self.mean
        return self._average(lambda mean, variance: variance + (mean - centre) ** 2)

    @torch.no_grad()
    def draw_hidden(self, v: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of the hidden units given v: ``(*, D)`` to ``(*, H)``."""
        return self.hidden_units.draw(self.hidden_field(v), generator)

    @torch.no_grad()
    def draw_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of v given the hidden units: ``(*, H)`` to ``(*, D)``."""
        return self.visible_units.draw(self.visible_field(h), generator)

    def gibbs(self, v: Tensor, steps: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Block Gibbs, reversible in p(v): all hidden units, then all visible units, ``steps`` times."""
        return alternate(self, v, 2 * steps, generator)

    def annealed(self, t: float, base: Tensor | None = None) -> "RestrictedBoltzmann":
        r"""A machine with weights :math:`tW`, hidden bias :math:`tc`, visible bias :math:`(1 - t) b_0 + t b`.

        At t = 0 its units are independent, the visible ones with bias ``base`` = :math:`b_0` (default b); at
        t = 1 it is this machine.
        """
        loc = self.loc if base is None else torch.lerp(base.to(self.loc), self.loc, t)
        return self._like(t * self.weight, loc, t * self.hidden_bias)

    def at(self, temperature: float) -> "RestrictedBoltzmann":
        r"""The machine of the same energy at temperature :math:`T_0`: :math:`p \propto e^{-E / T_0}`."""
        if not temperature > 0:
            raise ValueError(f"the temperature must be positive, got {temperature}")
        (visible, b), (hidden, c) = (x.heated(temperature) for x in (self.visible_units, self.hidden_units))
        b, c = b.to(self.loc), c.to(self.loc)
        weight = temperature * b.unsqueeze(-1) * self.weight * c
        return self._like(weight, b * self.loc, c * self.hidden_bias, visible=visible, hidden=hidden)

    def log_partition_uncoupled(self) -> Tensor:
        r""":math:`\log Z` of the same biases at W = 0, in closed form."""
        b, c = self.loc, self.hidden_bias
        none = torch.zeros_like
        return self.hidden_units.log_sum(c, none(c)) + self.visible_units.log_sum(b, none(b))

    @property
    def n_visible(self) -> int:
        return self.visible_units.width

    @property
    def n_hidden(self) -> int:
        return self.hidden_units.width

    @property
    def enumerable(self) -> bool:
        """Whether the layer to sum over is small enough for log Z, draws and moments to be exact."""
        return min(self.visible_units.n_states, self.hidden_units.n_states) <= MAX_STATES

    @property
    def _sums_visible(self) -> bool:
        return self.visible_units.n_states < self.hidden_units.n_states

    def _like(
        self, weight: Tensor, loc: Tensor, hidden_bias: Tensor, *, new: Any = None, **changes: Any
    ) -> "RestrictedBoltzmann":
        """A machine of this class with other parameters, and the same layers unless they change too."""
        new = new or type(self).__new__(type(self))
        options = {"visible": self.visible_units, "hidden": self.hidden_units, "validate_args": False}
        plain = {"weight": weight, "loc": loc, "hidden_bias": hidden_bias}
        RestrictedBoltzmann.__init__(new, **plain, **(options | changes))
        return new

    def _check_normalisable(self) -> None:
        """The quadratic part of E must be positive; for relu units that is enough but more than they need."""
        if min(self.visible_units.n_states, self.hidden_units.n_states) < math.inf:
            return
        rows, columns = (x.stiffness(self.weight).detach() for x in (self.visible_units, self.hidden_units))
        coupling = rows.unsqueeze(-1) * self.weight.detach() * columns.unsqueeze(-2)
        if (coupling.square().sum((-2, -1)) < 1).all():  # Frobenius bounds the norm at the cost of a sum
            return
        finite = coupling.isfinite().all()
        norm = float(torch.linalg.matrix_norm(coupling, 2).max()) if finite else math.inf
        if norm >= 1:
            raise ValueError(
                "between unbounded layers W / (scale of v) (scale of h) needs a spectral norm below 1 for "
                f"the density to have an integral, got {norm:.4g}; lower the weights or the learning rate"
            )

    def _summed(self, visible: bool) -> Units:
        return self.visible_units if visible else self.hidden_units

    def _blocks(self, visible: bool) -> Iterator[Tensor]:
        """All states of a layer in blocks that bound the memory, with axes of length 1 for the batch."""
        layer = self._summed(visible)
        for numbers in torch.arange(count(layer), device=self.loc.device).split(_BLOCK):
            yield layer.state(numbers, self.loc).reshape(-1, *(1,) * len(self.batch_shape), layer.width)

    def _by_halves(self, visible: bool) -> Tensor | None:
        parts = self.weight, self.loc, self.hidden_bias
        differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in parts)
        bits = None if differentiable or self.weight.device.type != "cpu" else in_bits(self)
        if bits is None:
            return None
        count(self._summed(visible))
        found = halves.log_weights(bits.swapped if visible else bits)
        return None if found is None else found.to(self.weight)

    def _average(self, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Average over the summed layer of a function of mean and variance of v in each of its states."""
        visible, total = self._sums_visible, torch.zeros_like(self.loc)
        weights = self.log_weights(visible).softmax(-1).movedim(-1, 0).unsqueeze(-1).split(_BLOCK)
        for block, weight in zip(self._blocks(visible), weights, strict=True):
            law = None if visible else self.visible(block)
            inside = (block, torch.zeros_like(block)) if law is None else (law.mean, law.variance)
            total = total + (weight * of(*inside)).sum(0)
        return total

    def _hidden_shift(self, v: Tensor) -> Tensor:
        return times(self.visible_units.coupled(v), self.weight)

    def _log_weight_hidden(self, h: Tensor) -> Tensor:
        own = self.hidden_units.energy(h, self.hidden_bias)
        shift = times(self.hidden_units.coupled(h), self.weight.mT)
        return self.visible_units.log_sum(self.loc, shift) - own
