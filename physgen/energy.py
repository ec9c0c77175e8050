r"""Training of models that know their energy but not their partition function.

The gradient of the negative log-likelihood is that of
:math:`\langle F \rangle_{data} - \langle F \rangle_{model}` with the samples held fixed. The losses differ in
where the samples of the model come from. Each is a surrogate: only its gradient means something. Its value
is a contrast, may be negative and does not fall while learning goes well; watch the likelihood instead, by
:func:`physgen.ais.log_partition`.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .nn import private_seed


class EnergyModel(Protocol):
    """What the losses ask of a model; :class:`physgen.models.rbm.RBM` is one."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def free_energy(self, x: Tensor) -> Tensor:
        """Minus the unnormalised log-probability ``(*, N)`` to ``(*,)``, with gradients for parameters."""
        ...

    def gibbs(self, x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
        """``steps`` updates of ``(*, N)`` configurations that keep the model's law."""
        ...


class ContrastiveDivergence:
    r"""CD-k: the chains start at the data of each batch, and take k updates.

    Biased for every finite k, since k updates do not reach the model's law; fast, and good enough at first.

    Arguments:
        model: Free energy and Gibbs update.
        k: Updates per call.
        seed: Of the private generator.

    References:
        | Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002)

    Example:
        >>> from physgen.models.rbm import RBM
        >>> ContrastiveDivergence(RBM((2, 2), hidden=3), k=1)(torch.ones(10, 4)).backward()
    """

    def __init__(self, model: EnergyModel, k: int = 1, *, seed: int = 0):
        self.model, self.k = model, _positive("k", k)
        self.generator = torch.Generator(next(model.parameters()).device).manual_seed(private_seed(seed, 2))

    def __call__(self, data: Tensor) -> Tensor:
        with torch.no_grad():
            chains = self.model.gibbs(data, self.k, self.generator)
        return _contrast(self.model, data, chains)

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.generator.set_state(state["generator"].cpu())


class PersistentCD:
    r"""PCD-k: chains that go on from call to call and so stay near the law of a slowly changing model.

    Biased when the model changes faster than its chains mix: raise k or lower the learning rate. The chains
    answer late to a change of the model, so an optimiser with momentum swings around the solution; take
    ``Adam(betas=(0.0, 0.999))``, a falling rate and averaged parameters. Chains that start from data hold the
    right shares of well separated modes from the first step on.

    Arguments:
        model: Free energy and Gibbs update.
        start: Configurations ``(*, N)`` to start from, tensor or array of any dtype; ``chains`` evenly spaced
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
        self, model: EnergyModel, start: Tensor | np.ndarray, k: int = 5, *, chains: int = 512, seed: int = 0
    ):
        rows = torch.as_tensor(start)
        rows = rows.reshape(-1, rows.shape[-1])
        chosen = torch.linspace(0, len(rows) - 1, _positive("chains", chains)).long()
        self.model, self.k = model, _positive("k", k)
        self.chains = rows[chosen].to(next(model.parameters()))
        self.generator = torch.Generator(self.chains.device).manual_seed(private_seed(seed, 3))

    def __call__(self, data: Tensor) -> Tensor:
        with torch.no_grad():
            self.chains = self.model.gibbs(self.chains, self.k, self.generator)
        return _contrast(self.model, data, self.chains)

    def state_dict(self) -> dict[str, Tensor]:
        return {"chains": self.chains, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if state["chains"].shape != self.chains.shape:
            raise ValueError(
                f"the saved state has chains of shape {tuple(state['chains'].shape)}, this loss has "
                f"{tuple(self.chains.shape)}; build it with the settings it was saved with"
            )
        self.chains = state["chains"].to(self.chains)
        self.generator.set_state(state["generator"].cpu())


def _contrast(model: EnergyModel, data: Tensor, chains: Tensor) -> Tensor:
    energies = model.free_energy(torch.cat([data, chains]))
    return energies[: len(data)].mean() - energies[len(data) :].mean()


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {value}")
    return value
