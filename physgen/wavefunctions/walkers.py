r"""Walkers of particles, drawn from :math:`|\Psi|^2` by many Markov chains at once.

Two moves, each of all coordinates of a walker together:

* ``metropolis``: :math:`y = x + s\,\xi`, accepted with :math:`\min(1, \Psi(y)^2/\Psi(x)^2)`;
* ``langevin``, importance sampling: the walker drifts as the Fokker-Planck equation of :math:`\Psi^2` says,
  :math:`y = x + \tau\, \nabla\log\Psi(x) + \sqrt\tau\,\xi`, and the Metropolis-Hastings factor
  :math:`G(x|y)/G(y|x)` of the two Gaussians corrects for the finite :math:`\tau`.

References:
    | Equation of State Calculations by Fast Computing Machines (Metropolis et al., 1953)
    | Monte Carlo sampling methods using Markov chains and their applications (Hastings, 1970)
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..nn import private_seed
from .trap import ParticleFunction


class Sampled(ParticleFunction, Protocol):
    """A wavefunction of particles whose modulus can be evaluated: ``(n, M)`` to ``(n,)``."""

    def log_psi(self, x: Tensor) -> Tensor: ...


class Point(NamedTuple):
    """Where walkers are, ``(n, M)``, log psi there ``(n,)``, and its gradient ``(n, M)`` for ``langevin``."""

    x: Tensor
    log_psi: Tensor
    drift: Tensor | None


Move = Callable[[Sampled, Point, float, torch.Generator], tuple[Point, Tensor]]


def metropolis(psi: Sampled, at: Point, step: float, generator: torch.Generator) -> tuple[Point, Tensor]:
    """A proposal, and the logarithm ``(n,)`` of the ratio by which it is accepted; ``step`` is a length."""
    y = at.x + step * torch.randn(at.x.shape, generator=generator, dtype=at.x.dtype)
    new = Point(y, psi.log_psi(y), None)
    return new, 2 * (new.log_psi - at.log_psi)


def langevin(psi: Sampled, at: Point, step: float, generator: torch.Generator) -> tuple[Point, Tensor]:
    """A proposal, and the logarithm ``(n,)`` of the ratio by which it is accepted; ``step`` is a time."""
    noise = torch.randn(at.x.shape, generator=generator, dtype=at.x.dtype)
    y = at.x + step * at.drift + math.sqrt(step) * noise
    new = Point(y, psi.log_psi(y), psi.derivatives(y)[0])
    back = (at.x - y - step * new.drift).square().sum(-1) / (2 * step)
    return new, 2 * (new.log_psi - at.log_psi) - back + noise.square().sum(-1) / 2


MOVES: dict[str, Move] = {"metropolis": metropolis, "langevin": langevin}
WANTED = {"metropolis": 0.4, "langevin": 0.65}  # acceptance near which many coordinates diffuse fastest


class Walkers:
    """An endless iterator of ``(n, M)`` walkers; those of one draw are independent chains.

    Arguments:
        psi: The trial function; its parameters may change between two draws.
        coordinates: M.
        n: Walkers.
        move: ``"metropolis"`` or ``"langevin"``.
        moves: Moves from one draw to the next.
        spread: Walkers start from a Gaussian of this width.
        burn_in: Moves before the first draw.
        seed: Of the private generator.

    Attributes:
        adapting: While true, the step follows the acceptance, which keeps no law exactly; set it to False
            before draws are averaged.
        acceptance: Accepted share of the last draw's moves.

    Example:
        >>> from physgen.wavefunctions.gaussian_binary import GaussianBinary
        >>> walkers = Walkers(GaussianBinary(2, 3, hidden=4), 6, 100)
        >>> next(walkers).shape, 0.4 < walkers.acceptance < 0.9
        (torch.Size([100, 6]), True)
    """

    def __init__(
        self,
        psi: Sampled,
        coordinates: int,
        n: int = 1000,
        *,
        move: str = "langevin",
        moves: int = 10,
        spread: float = 1.0,
        burn_in: int = 200,
        seed: int = 0,
    ):
        if move not in MOVES:
            raise ValueError(f"a move is one of {', '.join(MOVES)}, got {move!r}")
        if min(n, moves) < 1:
            raise ValueError(f"at least one walker and one move per draw are needed, got {n} and {moves}")
        self.psi, self.move, self.moves, self.burn_in = psi, move, moves, burn_in
        self.generator = torch.Generator().manual_seed(private_seed(seed, 40))
        self.x = spread * torch.randn(n, coordinates, generator=self.generator, dtype=torch.float64)
        self.step = 0.5 * spread ** (2 if move == "langevin" else 1)
        self.adapting, self.acceptance = True, math.nan

    def __iter__(self) -> Iterator[Tensor]:
        return self

    @torch.no_grad()
    def __next__(self) -> Tensor:
        if self.burn_in:
            for _ in range(-(-self.burn_in // 10)):
                self._advance(10)
            self.burn_in = 0
        self._advance(self.moves)
        return self.x

    def _advance(self, moves: int) -> None:
        drift = self.psi.derivatives(self.x)[0] if self.move == "langevin" else None
        point, taken = Point(self.x, self.psi.log_psi(self.x), drift), 0.0
        for _ in range(moves):
            point, accepted = self._moved(point)
            taken += accepted
        self.x, self.acceptance = point.x, taken / moves
        if self.adapting:
            self.step *= math.exp(0.5 * (self.acceptance - WANTED[self.move]))

    def _moved(self, point: Point) -> tuple[Point, float]:
        new, log_ratio = MOVES[self.move](self.psi, point, self.step, self.generator)
        chance = torch.rand(len(self.x), generator=self.generator, dtype=torch.float64)
        accept = chance.log() < log_ratio
        moved = accept.unsqueeze(-1)
        kept = Point(
            torch.where(moved, new.x, point.x),
            torch.where(accept, new.log_psi, point.log_psi),
            None if new.drift is None else torch.where(moved, new.drift, point.drift),
        )
        return kept, float(accept.double().mean())

    def state_dict(self) -> dict[str, Any]:
        return {
            "x": self.x,
            "generator": self.generator.get_state(),
            "step": self.step,
            "adapting": self.adapting,
            "burn_in": self.burn_in,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["x"].shape != self.x.shape:
            raise ValueError(
                f"the saved walkers have the shape {tuple(state['x'].shape)}, these {tuple(self.x.shape)}; "
                "take the settings that they were saved with"
            )
        self.x, self.step = state["x"], state["step"]
        self.adapting, self.burn_in = state["adapting"], state["burn_in"]
        self.generator.set_state(state["generator"].cpu())
