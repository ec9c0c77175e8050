"""Shuffled minibatches of configurations, with the exact symmetries of the lattice as augmentation."""

from collections.abc import Collection, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .nn import private_seed

SYMMETRIES = ("translation", "reflection", "transposition", "flip")


class Stateful(Protocol):
    """Where a step's batches come from: an endless iterator whose state a checkpoint can hold."""

    def __iter__(self) -> Iterator[Tensor]: ...
    def __next__(self) -> Tensor: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Batches:
    r"""An endless iterator of ``(size, N)`` float32 minibatches.

    Every pass over the data has a new order. A symmetry g of the Hamiltonian leaves the Boltzmann law as
    it is, :math:`p(g s) = p(s)`, so g applied to a configuration is another draw from the same law. One
    lattice symmetry is drawn per batch and one spin flip per configuration.

    The n-th batch is a function of the arguments and n alone, so the whole state is one number.

    Arguments:
        spins: ±1, shape ``(*, N)``, tensor or array of any type; leading axes are flattened.
        size: Configurations per batch. What remains of a pass is left out of it.
        seed: Of the order and the symmetries.
        symmetries: Any of ``"translation"`` (needs periodic axes), ``"reflection"`` of each axis,
            ``"transposition"`` of equal axes, ``"flip"`` of all spins (needs zero field). Which of them hold
            is a property of the Hamiltonian that made the data: the caller says so.
        shape: Sites along each axis, needed by the lattice symmetries.
        device: Where batches are made.

    Example:
        >>> batches = Batches(torch.ones(100, 16), 10, shape=(4, 4), symmetries=["translation", "flip"])
        >>> next(batches).shape, batches.state_dict()["drawn"]
        (torch.Size([10, 16]), 1)
    """

    def __init__(
        self,
        spins: Tensor | np.ndarray,
        size: int,
        *,
        seed: int = 0,
        symmetries: Collection[str] = (),
        shape: tuple[int, ...] | None = None,
        device: torch.device | str = "cpu",
    ):
        spins = torch.as_tensor(spins)
        if spins.ndim < 2 or not (spins.abs() == 1).all():
            raise ValueError(
                f"batches need spins -1 and +1 of shape (*, N), got shape {tuple(spins.shape)} with values "
                f"{spins.unique()[:3].tolist()}; 0/1 data becomes spins by 2 * x - 1"
            )
        self.spins = spins.reshape(-1, spins.shape[-1]).to(device, torch.int8)
        if not 1 <= size <= len(self.spins):
            raise ValueError(
                f"the batch size must be from 1 to the {len(self.spins)} configurations, got {size}"
            )
        self.size, self.seed, self.drawn = size, seed, 0
        self.symmetries, self.shape = check_symmetries(symmetries, shape, self.spins.shape[-1]), shape
        self._order: tuple[int, Tensor] | None = None

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        epoch, part = divmod(self.drawn, len(self.spins) // self.size)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, torch.randperm(len(self.spins), generator=self._generator(0, epoch))
        rows = self._order[1][part * self.size : (part + 1) * self.size]
        batch = self.spins[rows.to(self.spins.device)].float()
        batch = self._transformed(batch, self._generator(1, self.drawn)) if self.symmetries else batch
        self.drawn += 1
        return batch

    def _generator(self, *key: int) -> torch.Generator:
        return torch.Generator().manual_seed(private_seed(self.seed, *key))

    def _transformed(self, spins: Tensor, generator: torch.Generator) -> Tensor:
        def draw(below: int) -> int:
            return int(torch.randint(below, (), generator=generator))

        if self.shape is not None:
            axes = range(1, len(self.shape) + 1)
            lattice = spins.reshape(-1, *self.shape)
            if "transposition" in self.symmetries:
                order = torch.randperm(len(self.shape), generator=generator) + 1
                lattice = lattice.permute(0, *order.tolist())
            if "reflection" in self.symmetries:
                lattice = lattice.flip([axis for axis in axes if draw(2)])
            if "translation" in self.symmetries:
                lattice = lattice.roll([draw(length) for length in self.shape], list(axes))
            spins = lattice.reshape(spins.shape)
        if "flip" in self.symmetries:
            spins = spins * (2.0 * torch.randint(2, (len(spins), 1), generator=generator) - 1).to(
                spins.device
            )
        return spins

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues after the batches that were drawn before; refuses the state of other data or settings."""
        for name, here in self._identity().items():
            if state.get(name) != here:
                raise ValueError(
                    f"these batches have {name} = {here!r}, the saved ones {state.get(name)!r}; "
                    "resume with the data and the settings that training began with"
                )
        self.drawn = state["drawn"]

    def _identity(self) -> dict[str, Any]:
        n, n_sites = self.spins.shape
        return {
            "configurations": n,
            "sites": n_sites,
            "magnetisation": int(self.spins.sum(dtype=torch.long)),
            "size": self.size,
            "seed": self.seed,
            "symmetries": list(self.symmetries),
        }


def check_symmetries(
    symmetries: Collection[str], shape: tuple[int, ...] | None, n_sites: int
) -> tuple[str, ...]:
    """The symmetries in a fixed order, or one sentence on why they cannot be applied."""
    names = {symmetries} if isinstance(symmetries, str) else set(symmetries)
    if names - set(SYMMETRIES):
        raise ValueError(f"symmetries are any of {', '.join(SYMMETRIES)}, got {', '.join(sorted(names))}")
    if names - {"flip"}:
        if shape is None or np.prod(shape) != n_sites:
            raise ValueError(f"lattice symmetries need the shape of the {n_sites} sites, got shape={shape}")
        if "transposition" in names and len(set(shape)) > 1:
            raise ValueError(f"a transposition needs equal sides, got shape={shape}; leave it out")
    return tuple(name for name in SYMMETRIES if name in names)
