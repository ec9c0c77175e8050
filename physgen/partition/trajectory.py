r"""log Z along the training of a model: annealing whose path is the sequence of parameters itself.

Each change of the parameters multiplies the weight of every persistent chain by
:math:`e^{F_{old}(v) - F_{new}(v)}`; then the chain takes a few updates by the new law. Chains come in
independent groups. Where the weights of a group become uneven its chains are drawn anew in proportion to
them, which leaves the mean of its estimate :math:`\hat Z` exact; the scatter of the groups is the error.

References:
    | Tracking the Partition Function (Desjardins, Courville and Bengio, 2011)
    | Sequential Monte Carlo Samplers (Del Moral, Doucet and Jasra, 2006)
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from ising.stats import Estimate

from .weights import Weights

MIN_SHARE = 0.5  # of a group's chains that its weights must be worth, or they are drawn anew


class Law(Protocol):
    """What is followed; :class:`physgen.models.rbm.RBM` and its distributions have it."""

    def free_energy(self, v: Tensor) -> Tensor: ...

    def gibbs(self, v: Tensor, steps: int, generator: torch.Generator | None) -> Tensor: ...


class Trajectory:
    r"""Follows :math:`\log Z` from a model where it is known.

    Arguments:
        model: At its first parameters.
        chains: Independent draws of that law, ``(groups, n, N)``; 8 groups or more tell the error.
        log_z: Its :math:`\log Z`; exact for a machine without couplings.
        k: Updates per call.
        seed: Of the private generator.

    Example:
        >>> from physgen.models.rbm import RBM
        >>> rbm = RBM((3, 3), hidden=4, spread=0.0)
        >>> follow = Trajectory(rbm, rbm.sample(400).reshape(8, 50, 9), rbm.log_partition())
        >>> direction = torch.randn(rbm.W.shape, generator=torch.Generator().manual_seed(0))
        >>> for _ in range(20):
        ...     rbm.W.data += 0.02 * direction
        ...     follow.update(rbm)
        >>> follow.estimate.sigmas_from(rbm.log_partition()) < 5
        True
    """

    @torch.no_grad()
    def __init__(self, model: Law, chains: Tensor, log_z: float, k: int = 1, *, seed: int = 0):
        if chains.dim() != 3 or len(chains) < 2:
            raise ValueError(
                f"chains come in at least 2 groups, of shape (groups, n, N), got {tuple(chains.shape)}"
            )
        self.k, self.log_z = k, float(log_z)
        self.generator = torch.Generator(chains.device).manual_seed(seed)
        self.chains = chains.clone()
        self.log_w = chains.new_zeros(chains.shape[:2], dtype=torch.float64)
        self.settled = chains.new_zeros(len(chains), dtype=torch.float64)
        self.free_energy = model.free_energy(self.chains).double()

    @torch.no_grad()
    def update(self, model: Law) -> None:
        """Call after each change of the parameters, or after a few small ones."""
        self.log_w += self.free_energy - model.free_energy(self.chains)
        for group in (self.shares < MIN_SHARE).nonzero().flatten().tolist():
            self._draw_anew(group)
        self.chains = model.gibbs(self.chains, self.k, self.generator)
        self.free_energy = model.free_energy(self.chains).double()

    @property
    def shares(self) -> Tensor:
        """Share of its chains that the weights of each group are worth, ``(groups,)``."""
        return 1 / (self.log_w.softmax(-1).square().sum(-1) * self.log_w.shape[1])

    @property
    def estimate(self) -> Estimate:
        r""":math:`\log Z` of the model of the last call, from the mean :math:`\hat Z` of the groups."""
        return self._groups.estimate

    @property
    def doubt(self) -> str:
        """What is wrong with the weights of the groups, a sentence or nothing."""
        return self._groups.doubt

    @property
    def _groups(self) -> Weights:
        return Weights(self.settled + _log_mean(self.log_w), self.log_z)

    def _draw_anew(self, group: int) -> None:
        """Systematic resampling: every chain is kept as often as its weight says, up to one."""
        n = self.log_w.shape[1]
        u = torch.rand(1, generator=self.generator, dtype=torch.float64, device=self.log_w.device)
        places = (torch.arange(n, device=u.device) + u) / n
        heights = self.log_w[group].softmax(0).cumsum(0)
        self.chains[group] = self.chains[group][torch.searchsorted(heights, places).clamp(max=n - 1)]
        self.settled[group] += _log_mean(self.log_w[group])
        self.log_w[group] = 0

    def state_dict(self) -> dict[str, Tensor]:
        names = ("chains", "log_w", "settled", "free_energy")
        return {name: getattr(self, name) for name in names} | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if state["chains"].shape != self.chains.shape:
            raise ValueError(
                f"the saved state has chains of shape {tuple(state['chains'].shape)}, this object has "
                f"{tuple(self.chains.shape)}; build it with the chains it was saved with"
            )
        for name in ("chains", "log_w", "settled", "free_energy"):
            setattr(self, name, state[name].to(getattr(self, name)).clone())
        self.generator.set_state(state["generator"].cpu())


def _log_mean(log_w: Tensor) -> Tensor:
    return log_w.logsumexp(-1) - math.log(log_w.shape[-1])
