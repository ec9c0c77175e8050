r"""Known gradients: moments of data and model, handed to autograd in place of a graph through free energies.

For a machine with energy :math:`-b \cdot t_v - c \cdot t_h - t_v^\top W t_h + \dots` the gradient of the
negative log-likelihood is minus the difference of three means between data and model,

.. math::
    \frac{\partial}{\partial W} = \langle t_v \bar t_h^\top\rangle, \qquad
    \frac{\partial}{\partial b} = \langle t_v \rangle, \qquad
    \frac{\partial}{\partial c} = \langle \bar t_h \rangle, \qquad
    \bar t_h = \mathbb{E}[t_h | v].

They multiply the plain parameters, so the chain rule finds the gradient of those they are made of.
"""

import math
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..distributions import RestrictedBoltzmann
from ..distributions.lookup import product
from ..distributions.passes import Contrast, Moments, difference
from ..nn import diverged


class Machine(Protocol):
    """What the losses ask of a model; :class:`physgen.models.rbm.RBM` is one."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def distribution(self) -> RestrictedBoltzmann:
        """The law in plain parameters, which depend on those of the model through autograd."""
        ...


@torch.no_grad()
def moments(law: RestrictedBoltzmann, v: Tensor, field: Tensor | None = None) -> Moments:
    """Means over configurations ``(n, D)``, hidden units at their conditional means.

    Arguments:
        field: ``law.hidden_field(v)``, where that is known already.
    """
    field = law.hidden_field(v) if field is None else field
    hidden = law.hidden_units
    t_v, t_h = law.visible_units.coupled(v), hidden.coupled(hidden.mean(field))
    return Moments(product(t_v.mT, t_h / len(v)), t_v.mean(0), t_h.mean(0))


def contrast(law: RestrictedBoltzmann, data: Tensor, chains: Tensor, found: Contrast | None = None) -> Tensor:
    """A scalar with the gradient of ``F(data).mean() - F(chains).mean()``, F the free energy.

    Where the units have parameters of their own to learn (widths), it is that difference itself.

    Arguments:
        data, chains: Configurations ``(n, D)``, as many or not.
        found: How they differ in centred parameters, where known already.

    Example:
        >>> from physgen.models.rbm import RBM
        >>> rbm, v, w = RBM((2, 2), hidden=3), torch.ones(5, 4), -torch.ones(7, 4)
        >>> contrast(rbm.distribution(), v, w).backward()
        >>> exact = rbm.free_energy(v).mean() - rbm.free_energy(w).mean()
        >>> torch.allclose(rbm.W.grad, torch.autograd.grad(exact, rbm.W)[0], atol=1e-6)
        True
    """
    check_bounded(law, data, chains)
    if learns_units(law):
        return law.free_energy(data).mean() - law.free_energy(chains).mean()
    if found is None:
        with torch.no_grad():
            found = difference(law, data, chains, law.hidden_field(torch.cat([data, chains])), law.centred)
    return _Along.apply(found, *(law.centred[:3] if law.centred else _plain(law)))


def surrogate(law: RestrictedBoltzmann, data: Moments, model: Moments) -> Tensor:
    r""":math:`\theta \cdot (\langle t\rangle_{model} - \langle t\rangle_{data})`; only its slope counts."""
    return along(law, Moments(*(m - d for m, d in zip(model, data, strict=True))))


def along(law: RestrictedBoltzmann, slope: Moments) -> Tensor:
    """A scalar with this slope in the plain parameters, for one backward pass, which uses the slope up."""
    plain = _plain(law)
    pairs = zip(plain, slope, strict=True)
    value = sum(torch.dot(p.detach().reshape(-1), s.reshape(-1)) for p, s in pairs)
    return _Along.apply(Contrast(value, slope), *plain)


def _plain(law: RestrictedBoltzmann) -> tuple[Tensor, Tensor, Tensor]:
    return law.weight, law.loc, law.hidden_bias


class _Along(torch.autograd.Function):
    """A scalar product whose gradient is handed on without a copy."""

    @staticmethod
    def forward(ctx: Any, found: Contrast, *plain: Tensor) -> Tensor:  # noqa: ARG004
        ctx.slope = found.slope
        return found.value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        slope, ctx.slope = ctx.slope, None
        if slope is None:
            raise RuntimeError("the gradient of this loss was taken already; call the loss again")
        return None, *(slope if factor == 1 else (factor * s for s in slope))


def learns_units(law: RestrictedBoltzmann) -> bool:
    """Whether a layer has parameters of its own that are to be trained."""
    layers = law.visible_units, law.hidden_units
    return any(x.n_states == math.inf and x.stiffness(law.weight).requires_grad for x in layers)


def check_bounded(law: RestrictedBoltzmann, data: Tensor, chains: Tensor) -> None:
    """Stops training where chains of unbounded units run away from the data."""
    if law.visible_units.n_states < math.inf:
        return
    here, there = (float(x.detach().square().mean().sqrt()) for x in (chains, data))
    if not here < 100 * max(there, 1e-6):
        raise diverged(f"root mean square {here:.3g} of the chains, {there:.3g} of the data")


def rows_of(law: RestrictedBoltzmann, data: Tensor, *, check: bool = True) -> Tensor:
    """``(*, D)`` data as ``(n, D)`` in the type of the law, or one sentence on why they are no such states.

    Arguments:
        check: Whether to look at the values: what reads them next may refuse them itself.
    """
    units = law.visible_units
    if data.shape[-1:] != (units.width,):
        raise ValueError(
            f"the last axis must hold {units.width} visible units, got shape {tuple(data.shape)}"
        )
    if check:
        units.check(data)
    return data.reshape(-1, units.width).to(law.parts.weight.dtype)
