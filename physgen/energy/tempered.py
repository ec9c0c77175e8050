r"""Persistent chains exchanged with chains of the same machine at higher temperatures.

Level r follows the law of ``annealed(t_r)``: weights and hidden bias :math:`t W, t c`, visible bias
:math:`(1 - t) b_0 + t b`, with :math:`t_0 = 0` (independent units, drawn anew at every call) and
:math:`t_R = 1` (the machine). After the updates neighbouring levels exchange configurations with

.. math:: \min(1, e^{\Delta}), \qquad \Delta = F_r(v) + F_{r+1}(w) - F_r(w) - F_{r+1}(v)

for v at level r and w at r + 1, so each level keeps its law, and what is new at t = 0 travels up.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..distributions import RestrictedBoltzmann
from ..nn import private_seed
from .chains import evenly, positive, same_shape
from .moments import Machine, contrast, rows_of

_MEMORY = 0.99  # of the running mean of the rejection rates, per call
_ADAPT = 50  # calls between two changes of the ladder


class TemperedPCD:
    r"""Persistent chains with a ladder of temperatures that adapts to equal exchange rates.

    Every 50 calls the inner :math:`t_r` move so that the measured rejection rates become equal: their running
    means, cumulated, are a function :math:`\Lambda(t)`, and the new levels cut it into equal pieces. No
    random number enters, so a resumed run moves them alike. With R levels the round trip rate is about
    :math:`1 / (2 + 2\Lambda)` per call; take about :math:`2 \Lambda` levels.

    Arguments:
        model: The machine.
        start: Configurations ``(*, D)`` that all levels start from.
        k: Updates of every level per call.
        chains: Chains per level.
        levels: Temperatures R + 1, those of t = 0 and 1 included.
        base: Visible bias at t = 0, ``(D,)``; default the bias of independent units with the means of
            ``start``.
        seed: Of the private generator.

    Attributes:
        rejection: Running means of the rejection rates between neighbours, ``(levels - 1,)``.

    References:
        | Tempered Markov Chain Monte Carlo for Training of Restricted Boltzmann Machines
        | (Desjardins, Courville, Bengio, Vincent and Delalleau, 2010)
        | Non-Reversible Parallel Tempering: a Scalable Highly Parallel MCMC Scheme (Syed et al., 2022)

    Example:
        >>> from physgen.models.rbm import RBM
        >>> loss = TemperedPCD(RBM((2, 2), hidden=3), start=torch.ones(10, 4), chains=20, levels=4)
        >>> loss(torch.ones(10, 4)).backward(); loss.replicas.shape, loss.ladder[[0, -1]].tolist()
        (torch.Size([4, 20, 4]), [0.0, 1.0])
    """

    def __init__(
        self,
        model: Machine,
        start: Tensor | np.ndarray,
        k: int = 1,
        *,
        chains: int = 256,
        levels: int = 8,
        base: Tensor | None = None,
        seed: int = 0,
    ):
        if levels < 2:
            raise ValueError(f"a ladder needs at least the 2 levels t = 0 and 1, got {levels}")
        self.model, self.k, self.calls = model, positive("k", k), 0
        rows = evenly(model, start, positive("chains", chains))
        self.replicas = rows.expand(levels, *rows.shape).clone()
        fitted = model.distribution().visible_units.fit(torch.as_tensor(start).flatten(0, -2)).to(rows)
        self.base = fitted.detach() if base is None else base.to(rows)
        self.ladder = torch.linspace(0, 1, levels, dtype=torch.float64, device=rows.device)
        self.rejection = torch.full((levels - 1,), 0.5, dtype=torch.float64, device=rows.device)
        self.generator = torch.Generator(rows.device).manual_seed(private_seed(seed, 6))

    @property
    def chains(self) -> Tensor:
        """The chains of the machine itself, ``(chains, D)``."""
        return self.replicas[-1]

    def __call__(self, data: Tensor) -> Tensor:
        law = self.model.distribution()
        data = rows_of(law, data)
        with torch.no_grad():
            self._update(law)
            for parity in (0, 1):
                self._exchange(law, parity)
            self.calls += 1
            if self.calls % _ADAPT == 0:
                self.ladder = levelled(self.ladder, self.rejection)
        return contrast(law, data, self.chains)

    def state_dict(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in ("replicas", "base", "ladder", "rejection", "calls")}
        return kept | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.replicas = same_shape(state["replicas"], self.replicas)
        self.base, self.ladder = state["base"].to(self.base), state["ladder"].to(self.ladder)
        self.rejection, self.calls = state["rejection"].to(self.rejection).clone(), state["calls"]
        self.generator.set_state(state["generator"].cpu())

    def _update(self, law: RestrictedBoltzmann) -> None:
        """Updates all levels k times: one matrix product serves them all, as fields are linear in t."""
        t, v = self._times(self.ladder), self.replicas
        for _ in range(self.k):
            h = law.hidden_units.draw(t * law.hidden_field(v), self.generator)
            v = law.visible_units.draw(torch.lerp(self.base, law.visible_field(h), t), self.generator)
        self.replicas = v

    def _exchange(self, law: RestrictedBoltzmann, parity: int) -> None:
        """Neighbours (r, r + 1) for all r of one parity."""
        low = torch.arange(parity, len(self.ladder) - 1, 2, device=self.ladder.device)
        pair = torch.stack([low, low + 1])
        shift, v = law.hidden_field(self.replicas[pair]) - law.hidden_bias, self.replicas[pair]
        own = self._free_energy(law, v, shift, self.ladder[pair])
        crossed = self._free_energy(law, v, shift, self.ladder[pair.flip(0)])
        accept = (own - crossed).double().sum(0).clamp(max=0).exp()
        self.rejection[low] = _MEMORY * self.rejection[low] + (1 - _MEMORY) * (1 - accept.mean(-1))
        u = torch.rand(accept.shape, generator=self.generator, dtype=accept.dtype, device=accept.device)
        self.replicas[pair] = torch.where((u < accept).unsqueeze(-1), v.flip(0), v)

    def _free_energy(self, law: RestrictedBoltzmann, v: Tensor, shift: Tensor, ladder: Tensor) -> Tensor:
        t = self._times(ladder)
        visible = law.visible_units.energy(v, torch.lerp(self.base, law.loc, t))
        return visible - law.hidden_units.log_sum(t * law.hidden_bias, t * shift)

    def _times(self, ladder: Tensor) -> Tensor:
        return ladder.to(self.base).unsqueeze(-1).unsqueeze(-1)


def levelled(ladder: Tensor, rejection: Tensor) -> Tensor:
    """Levels between which the cumulated rejection rate grows equally, by linear interpolation.

    Example:
        >>> levelled(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.1, 0.3]))
        tensor([0.0000, 0.6667, 1.0000])
    """
    height = torch.cat([rejection.new_zeros(1), rejection.clamp(min=1e-3).cumsum(0)]).cpu().numpy()
    wanted = np.linspace(0, height[-1], len(ladder))
    moved = torch.as_tensor(np.interp(wanted, height, ladder.cpu().numpy())).to(ladder)
    moved[0], moved[-1] = ladder[0], ladder[-1]
    return moved
