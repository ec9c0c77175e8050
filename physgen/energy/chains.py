"""Contrastive divergence, and chains that persist from call to call."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..distributions import RestrictedBoltzmann
from ..distributions.alternating import alternate
from ..distributions.passes import difference, walked
from ..nn import private_seed
from .moments import Machine, along, contrast, learns_units, rows_of


class ContrastiveDivergence:
    r"""CD-k: the chains start at the data of each batch, and take k updates.

    Biased for every finite k, since k updates do not reach the model's law; fast, and good enough at first.

    Arguments:
        model: The machine.
        k: Updates per call.
        seed: Of the private generator.

    References:
        | Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002)

    Example:
        >>> from physgen.models.rbm import RBM
        >>> ContrastiveDivergence(RBM((2, 2), hidden=3), k=1)(torch.ones(10, 4)).backward()
    """

    def __init__(self, model: Machine, k: int = 1, *, seed: int = 0):
        self.model, self.k = model, positive("k", k)
        self.generator = torch.Generator(next(model.parameters()).device).manual_seed(private_seed(seed, 2))

    def __call__(self, data: Tensor) -> Tensor:
        law = self.model.distribution()
        data = rows_of(law, data, check=False)
        v, _, found = walked(law, data, self.k, self.generator)
        return contrast(law, data, v, found)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"].cpu())


class PersistentCD:
    r"""PCD-k: chains that go on from call to call and so stay near the law of a slowly changing model.

    Biased when the model changes faster than its chains mix: raise k or lower the learning rate. The chains
    answer late to a change of the model, so an optimiser with momentum swings around the solution; take
    ``Adam(betas=(0.0, 0.999))``, a falling rate and averaged parameters. Chains that start from data hold the
    right shares of well separated modes from the first step on. Hidden units go on too: drawn
    in the fields that the gradient needs, they are the first half of the update in the next call.

    Arguments:
        model: The machine.
        start: Configurations ``(*, D)`` to start from, tensor or array of any dtype; ``chains`` evenly spaced
            rows are taken.
        k: Updates per call.
        chains: Persistent chains.
        seed: Of the private generator.

    References:
        | Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient
        | (Tieleman, 2008)

    Example:
        >>> from physgen.models.rbm import RBM
        >>> loss = PersistentCD(RBM((2, 2), hidden=3), start=torch.ones(10, 4), k=5, chains=20)
        >>> loss(torch.ones(10, 4)).backward(); loss.chains.shape
        torch.Size([20, 4])
    """

    def __init__(
        self, model: Machine, start: Tensor | np.ndarray, k: int = 5, *, chains: int = 512, seed: int = 0
    ):
        self.model, self.k = model, positive("k", k)
        self.chains = evenly(model, start, positive("chains", chains))
        self.generator = torch.Generator(self.chains.device).manual_seed(private_seed(seed, 3))
        self.hidden = model.distribution().draw_hidden(self.chains, self.generator)

    def __call__(self, data: Tensor) -> Tensor:
        law = self.model.distribution()
        data = rows_of(law, data, check=False)
        self.chains, self.hidden, found = walked(law, data, self.k, self.generator, self.hidden)
        return contrast(law, data, self.chains, found)

    def state_dict(self) -> dict[str, Any]:
        return {"chains": self.chains, "hidden": self.hidden, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.chains = same_shape(state["chains"], self.chains)
        self.hidden = same_shape(state["hidden"], self.hidden)
        self.generator.set_state(state["generator"].cpu())


class FastPCD(PersistentCD):
    r"""Persistent chains of a machine with an overlay of fast weights, which drive them on.

    After each call, with the gradient g of that call,

    .. math::
        \theta_{fast} \leftarrow d\, \theta_{fast} - \epsilon\, g, \qquad v \sim p_{\theta + \theta_{fast}}

    The overlay raises the energy wherever the chains stay, so few updates explore much. It decays, but its
    mean is not zero, so chains follow a law that is a little off: end with a small rate, or with plain
    chains.

    Arguments:
        model, start, k, chains, seed: As in :class:`PersistentCD`.
        rate: :math:`\epsilon`, learning rate of the overlay; at 0 these are plain persistent chains.
        decay: d, the factor on the overlay per call.

    References:
        | Using Fast Weights to Improve Persistent Contrastive Divergence (Tieleman and Hinton, 2009)

    Example:
        >>> from physgen.models.rbm import RBM
        >>> loss = FastPCD(RBM((2, 2), hidden=3), start=torch.ones(10, 4), chains=20)
        >>> loss(torch.ones(10, 4)).backward(); [x.shape for x in loss.overlay]
        [torch.Size([4, 3]), torch.Size([4]), torch.Size([3])]
    """

    def __init__(
        self,
        model: Machine,
        start: Tensor | np.ndarray,
        k: int = 1,
        *,
        chains: int = 512,
        seed: int = 0,
        rate: float = 0.01,
        decay: float = 0.95,
    ):
        super().__init__(model, start, k, chains=chains, seed=seed)
        if not (rate >= 0 and 0 <= decay < 1):
            raise ValueError(f"fast weights need rate >= 0 and 0 <= decay < 1, got {rate} and {decay}")
        self.rate, self.decay = rate, decay
        law = model.distribution()
        self.overlay = [torch.zeros_like(x) for x in (law.weight, law.loc, law.hidden_bias)]

    def __call__(self, data: Tensor) -> Tensor:
        law = self.model.distribution()
        data = rows_of(law, data)
        with torch.no_grad():
            plain = (law.weight, law.loc, law.hidden_bias)
            moved = [x + fast for x, fast in zip(plain, self.overlay, strict=True)]
            pushed = RestrictedBoltzmann(law.visible_units, law.hidden_units, *moved, validate_args=False)
            self.chains = alternate(pushed, self.hidden, 2 * self.k - 1, self.generator, hidden=True)
            self.hidden = pushed.draw_hidden(self.chains, self.generator)
            fields = law.hidden_field(torch.cat([data, self.chains]))
            slope = difference(law, data, self.chains, fields).slope
            for fast, part in zip(self.overlay, slope, strict=True):
                fast.mul_(self.decay).sub_(part, alpha=self.rate)
        if learns_units(law):
            return contrast(law, data, self.chains)
        return along(law, slope)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"overlay": self.overlay}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.overlay = [new.to(old).clone() for new, old in zip(state["overlay"], self.overlay, strict=True)]


def evenly(model: Machine, start: Tensor | np.ndarray, n: int) -> Tensor:
    """``n`` evenly spaced rows of ``(*, D)`` configurations, in the type of the model's parameters."""
    rows = torch.as_tensor(start)
    rows = rows.reshape(-1, rows.shape[-1])
    return rows[torch.linspace(0, len(rows) - 1, n).long()].to(next(model.parameters()))


def same_shape(saved: Tensor, present: Tensor) -> Tensor:
    """A copy of saved chains in the type of the present ones, refused where there are others of them.

    Example:
        >>> same_shape(torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.float64))
        tensor([[1., 1.]], dtype=torch.float64)
    """
    if saved.shape != present.shape:
        raise ValueError(
            f"the saved state has chains of shape {tuple(saved.shape)}, this loss has "
            f"{tuple(present.shape)}; build it with the settings it was saved with"
        )
    return saved.to(present).clone()


def positive(name: str, value: int) -> int:
    """The value, refused under its name if it is below 1.

    Example:
        >>> positive("k", 3)
        3
    """
    if value < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {value}")
    return value
