r"""Persistent chains exchanged with chains of earlier models of the same training.

The machines that training has passed through lead from independent units to the present one by small steps,
also where a temperature would cross a first-order transition. Frozen copies of them form the ladder: a copy
joins when exchanges between the newest one and the present machine become rarer than a threshold.
"""

import copy
import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..distributions import RestrictedBoltzmann
from ..nn import private_seed
from .chains import evenly, positive, same_shape
from .moments import contrast, rows_of

_MEMORY = 0.9  # of the running mean of the exchange rate with the present machine, per call


class TrajectoryPCD:
    r"""Persistent chains with the trajectory of training as their ladder.

    The first level is the machine at W = 0, whose units are independent: its chains are drawn anew at every
    call. Neighbours exchange configurations v and w with :math:`\min(1, e^\Delta)`,
    :math:`\Delta = F_r(v) + F_{r+1}(w) - F_r(w) - F_{r+1}(v)`. Start training from small weights, so that the
    first steps are steps of the ladder as well.

    Arguments:
        model: A module with ``distribution``; copies of it are kept.
        start: Configurations ``(*, D)`` to start from.
        k: Updates per call of the present machine; copies take one.
        chains: Chains per level.
        threshold: A copy joins when the running mean of the exchange rate falls below this.
        seed: Of the private generator.

    Attributes:
        copies: Frozen machines, oldest first.
        rate: Running mean of the exchange rate between the newest copy and the present machine.

    References:
        | Fast Training and Sampling of Restricted Boltzmann Machines (Béreux et al., 2024)

    Example:
        >>> from physgen.models.rbm import RBM
        >>> loss = TrajectoryPCD(RBM((2, 2), hidden=3, spread=0.01), start=torch.ones(10, 4), chains=20)
        >>> loss(torch.ones(10, 4)).backward(); loss.replicas.shape
        torch.Size([2, 20, 4])
    """

    def __init__(
        self,
        model: nn.Module,
        start: Tensor | np.ndarray,
        k: int = 1,
        *,
        chains: int = 256,
        threshold: float = 0.3,
        seed: int = 0,
    ):
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is an exchange rate between 0 and 1, got {threshold}")
        self.model, self.k, self.threshold, self.rate = model, positive("k", k), threshold, 1.0
        rows = evenly(model, start, positive("chains", chains))
        self.replicas = torch.stack([rows, rows])
        self.copies = [_frozen(model)]
        self.generator = torch.Generator(rows.device).manual_seed(private_seed(seed, 7))

    @property
    def chains(self) -> Tensor:
        """The chains of the present machine, ``(chains, D)``."""
        return self.replicas[-1]

    def __call__(self, data: Tensor) -> Tensor:
        law = self.model.distribution()
        data = rows_of(law, data)
        with torch.no_grad():
            self._update([copy.distribution() for copy in self.copies], law)
            if self.rate < self.threshold:
                self.copies.append(_frozen(self.model))
                self.replicas, self.rate = torch.cat([self.replicas, self.chains.unsqueeze(0)]), 1.0
        return contrast(law, data, self.chains)

    def state_dict(self) -> dict[str, Any]:
        return {
            "copies": [copy.state_dict() for copy in self.copies],
            "replicas": self.replicas,
            "rate": self.rate,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        same_shape(state["replicas"][0], self.replicas[0])
        self.replicas, self.rate = state["replicas"].to(self.replicas).clone(), state["rate"]
        self.copies = [_frozen(self.model) for _ in state["copies"]]
        for copied, saved in zip(self.copies, state["copies"], strict=True):
            copied.load_state_dict(saved)
        self.generator.set_state(state["generator"].cpu())

    def _update(self, earlier: list[RestrictedBoltzmann], law: RestrictedBoltzmann) -> None:
        """Updates of every level, then exchanges from the bottom to the top."""
        first, v = earlier[0], self.replicas
        v[0] = first.annealed(0.0).draw_visible(
            first.hidden_bias.new_zeros(v.shape[1], first.n_hidden), self.generator
        )
        for r in range(1, len(earlier)):
            v[r] = earlier[r].gibbs(v[r], 1, self.generator)
        v[-1] = law.gibbs(v[-1], self.k, self.generator)
        ladder = [first.annealed(0.0), *earlier[1:], law]
        for r, (low, high) in enumerate(itertools.pairwise(ladder)):
            rate = self._exchange(low, high, r)
        self.rate = _MEMORY * self.rate + (1 - _MEMORY) * rate

    def _exchange(self, low: RestrictedBoltzmann, high: RestrictedBoltzmann, r: int) -> float:
        """Exchanges levels r and r + 1; returns the mean probability with which it did."""
        pair = self.replicas[r : r + 2]
        below, above = low.free_energy(pair), high.free_energy(pair)
        accept = (below[0] + above[1] - below[1] - above[0]).double().clamp(max=0).exp()
        u = torch.rand(accept.shape, generator=self.generator, dtype=accept.dtype, device=accept.device)
        self.replicas[r : r + 2] = torch.where((u < accept).unsqueeze(-1), pair.flip(0), pair)
        return float(accept.mean())


def _frozen(model: nn.Module) -> nn.Module:
    """A copy that no optimiser moves."""
    return copy.deepcopy(model).requires_grad_(False)
