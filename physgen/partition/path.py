r"""Paths of laws :math:`p_t \propto f_t` from independent units at t = 0 to a model at t = 1.

A path says how much :math:`\log f_t` changes with t at a state, and moves states by updates that leave
:math:`p_t` as it is. Annealing in either direction needs no more. Those here serve any units;
:mod:`physgen.partition.collapsed` has a better one for units of two values.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..distributions import RestrictedBoltzmann
from .collapsed import Collapsed, fits


class Annealable(Protocol):
    """A model with a path; :class:`physgen.models.rbm.RBM` and the distributions of one batch have one."""

    def annealed(self, t: float, base: Tensor | None) -> RestrictedBoltzmann:
        """Independent visible units with bias ``base`` at t = 0, the model itself at t = 1."""
        ...


class Path(Protocol):
    """What annealing asks of a path. States are opaque; they are made by :meth:`start` or :meth:`of`."""

    log_z0: float
    reversible: bool  # whether walks back are mirror images of walks to the model, so that both may be joined

    def start(self, n: int, generator: torch.Generator | None) -> NamedTuple:
        """``n`` independent states of the law at t = 0."""
        ...

    def of(self, v: Tensor, generator: torch.Generator | None) -> NamedTuple:
        """States of the law at t = 1 from its samples ``(n, D)``."""
        ...

    def change(self, state: NamedTuple, here: float, there: float) -> Tensor:
        r""":math:`\log f_{there} - \log f_{here}` of every state, float64 ``(n,)``."""
        ...

    def move(self, state: NamedTuple, t: float, generator: torch.Generator | None) -> NamedTuple:
        """One update of every state by the law at t."""
        ...


class Field(NamedTuple):
    """A state of one layer, ``(n, A)``, and the shift that it gives to the other at t = 1, ``(n, B)``."""

    x: Tensor
    shift: Tensor


class Straight:
    r"""The path with weights :math:`tW` and biases :math:`(1 - t) b_0 + t b`.

    The field at any t follows from that at t = 1, so a step costs two matrix products, those of its update.
    The states are those of the layer with fewer coordinates; the other one is summed over, which takes its
    noise out of the weights.

    Arguments:
        start: A machine without couplings.
        end: One with the same units.
    """

    reversible = True

    def __init__(self, start: RestrictedBoltzmann, end: RestrictedBoltzmann):
        visible = end.visible_units, start.loc, end.loc
        hidden = end.hidden_units, start.hidden_bias, end.hidden_bias
        self._keeps_hidden = end.n_hidden < end.n_visible
        kept, summed = (hidden, visible) if self._keeps_hidden else (visible, hidden)
        self._kept, self._kept_0, self._kept_1 = kept
        self._summed, self._summed_0, self._summed_1 = summed
        forth = end.weight.mT if self._keeps_hidden else end.weight
        self._forth, self._back = forth.contiguous(), forth.mT.contiguous()
        self.log_z0 = float(start.log_partition_uncoupled())

    def start(self, n: int, generator: torch.Generator | None) -> Field:
        return self._seen(self._kept.draw(self._kept_0.expand(n, -1), generator))

    def of(self, v: Tensor, generator: torch.Generator | None) -> Field:
        v = v.to(self._forth)
        return self._seen(self._other(v, 1.0, generator) if self._keeps_hidden else v)

    def change(self, state: Field, here: float, there: float) -> Tensor:
        return self._log_weight(state, there) - self._log_weight(state, here)

    def move(self, state: Field, t: float, generator: torch.Generator | None) -> Field:
        field = torch.add(torch.lerp(self._summed_0, self._summed_1, t), state.shift, alpha=t)
        return self._seen(self._other(self._summed.draw(field, generator), t, generator))

    def _other(self, y: Tensor, t: float, generator: torch.Generator | None) -> Tensor:
        """A draw of the layer that is kept, given the one that is summed over."""
        bias = torch.lerp(self._kept_0, self._kept_1, t)
        field = torch.addmm(bias, self._summed.coupled(y), self._back, alpha=t)
        return self._kept.draw(field, generator)

    def _seen(self, x: Tensor) -> Field:
        return Field(x, self._kept.coupled(x) @ self._forth)

    def _log_weight(self, state: Field, t: float) -> Tensor:
        own = self._kept.energy(state.x, torch.lerp(self._kept_0, self._kept_1, t))
        bias = torch.lerp(self._summed_0, self._summed_1, t)
        return self._summed.log_sum(bias, t * state.shift).double() - own.double()


class Visible(NamedTuple):
    """Visible units ``(n, D)``."""

    v: Tensor


class Stepwise:
    """Any path of laws with ``free_energy`` and ``gibbs``, asked for anew at every t.

    Arguments:
        model: Its ``annealed(t, base)`` gives them; at t = 0 also ``log_partition_uncoupled`` and ``sample``.
        base: Handed to it.
    """

    reversible = False  # of all that is known

    def __init__(self, model: Annealable, base: Tensor | None):
        self._model, self._base = model, base
        self._known: dict[float, RestrictedBoltzmann] = {}
        self.log_z0 = float(self._at(0.0).log_partition_uncoupled())

    def start(self, n: int, generator: torch.Generator | None) -> Visible:
        law = self._at(0.0)
        return Visible(law.draw_visible(law.hidden_bias.new_zeros(n, law.n_hidden), generator))

    def of(self, v: Tensor, generator: torch.Generator | None) -> Visible:  # noqa: ARG002
        return Visible(v)

    def change(self, state: Visible, here: float, there: float) -> Tensor:
        before, after = self._at(here), self._at(there)
        return before.free_energy(state.v).double() - after.free_energy(state.v).double()

    def move(self, state: Visible, t: float, generator: torch.Generator | None) -> Visible:
        return Visible(self._at(t).gibbs(state.v, 1, generator))

    def _at(self, t: float) -> RestrictedBoltzmann:
        """The law at t; that of the last two times is kept."""
        if t not in self._known:
            self._known = dict(list(self._known.items())[-1:])
            self._known[t] = self._model.annealed(t, self._base)
        return self._known[t]


@torch.no_grad()
def path_of(model: Annealable, base: Tensor | None = None) -> Path:
    """The path of a model: :class:`Stepwise`, or a better one where its annealed machines lie on a line.

    That is :class:`physgen.partition.collapsed.Collapsed` where it fits, else :class:`Straight`.

    Example:
        >>> from physgen.distributions import SpinRBM
        >>> machine = SpinRBM(torch.ones(3, 2), torch.zeros(3), torch.zeros(2))
        >>> type(path_of(machine)).__name__, round(path_of(machine).log_z0, 4)  # 5 log 2
        ('Collapsed', 3.4657)
    """
    start, middle, end = (model.annealed(t, base) for t in (0.0, 0.5, 1.0))
    if not _straight(start, middle, end):
        return Stepwise(model, base)
    return Collapsed(start, end) if fits(end) else Straight(start, end)


def _straight(start: object, middle: object, end: object) -> bool:
    laws = start, middle, end
    if not all(isinstance(law, RestrictedBoltzmann) and not law.batch_shape for law in laws):
        return False
    same = all(
        type(getattr(law, layer)) is type(getattr(end, layer))
        and torch.equal(getattr(law, layer).stiffness(end.weight), getattr(end, layer).stiffness(end.weight))
        for law in (start, middle)
        for layer in ("visible_units", "hidden_units")
    )
    halfway = all(
        torch.allclose(getattr(middle, name), (getattr(start, name) + getattr(end, name)) / 2)
        for name in ("weight", "loc", "hidden_bias")
    )
    return same and halfway and not start.weight.any()
