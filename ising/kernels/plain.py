"""Any update rule as it is written in :mod:`ising.updates`, on any device."""

import numpy as np
import torch

from .. import updates
from ..model import Ising
from .bits import pack


class Plain:
    """Calls ``sweep`` again and again; see :class:`ising.kernels.Sampler`."""

    name = "torch"

    def __init__(
        self,
        model: Ising,
        update: str,
        beta: float | np.ndarray,
        spins: np.ndarray,
        seed: np.random.SeedSequence,
        *,
        device: str = "cpu",
        threads: int = 1,  # noqa: ARG002  torch has its own threads
    ):
        self._sweep, self._model, self._device = updates.get(update), model.to(device), device
        self._generator = torch.Generator(device).manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
        self._spins = self._placed(spins)
        self.set_beta(beta)

    def sweep(self, n: int) -> float:
        flipped = torch.zeros((), device=self._device)
        for _ in range(n):
            self._spins, info = self._sweep(self._spins, self._model, self._beta, self._generator)
            flipped += info.acceptance.mean()
        return float(flipped) / n

    def spins(self) -> np.ndarray:
        return self._spins.clone(memory_format=torch.contiguous_format).cpu().numpy()

    def bits(self) -> np.ndarray:
        return pack(self.spins())

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        energy, magnetisation = self._model.energy(self._spins), self._spins.sum(-1, dtype=torch.float64)
        return energy.cpu().numpy(), magnetisation.cpu().numpy()

    def set_beta(self, beta: float | np.ndarray) -> None:
        self._beta = torch.as_tensor(beta, dtype=torch.float32, device=self._device)

    def state(self) -> dict[str, np.ndarray]:
        return {"spins": self.spins(), "generator": self._generator.get_state().cpu().numpy()}

    def load(self, state: dict[str, np.ndarray]) -> None:
        self._spins = self._placed(state["spins"])
        self._generator.set_state(torch.from_numpy(np.array(state["generator"])))

    def _placed(self, spins: np.ndarray) -> torch.Tensor:
        return updates.sites_first(torch.from_numpy(np.array(spins, dtype=np.int8)).to(self._device)).T
