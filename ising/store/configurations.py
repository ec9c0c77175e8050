"""Flat, labelled configurations for machine learning."""

import math
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..kernels.bits import unpack
from .archive import entries
from .layout import Entry, parsing
from .sealed import StoreError

SPLITS = ("train", "validation", "test")


class Configuration(NamedTuple):
    """One labelled configuration, or a batch of them: every field then has a leading axis."""

    spins: Tensor  # float32 ±1, (N,)
    beta: Tensor  # inverse temperature
    energy: Tensor  # total
    magnetisation: Tensor  # total
    run: Tensor  # number of the run in the file
    chain: Tensor  # number of the chain in its run
    sample: Tensor  # number of the sample in its chain


class Configurations(Dataset):
    """The configurations of a file in one list, with labels, split by Markov chain.

    Neighbours in time are alike, so rows dealt out at random would put near-copies of the training data into
    the test set. Here a chain belongs to one split as a whole: of the chains of each run the first go to
    training, the next to validation, the last to the test. Chain k of every run of equal size is in the same
    split, as the exchanges of a tempering ladder need.

    The packed bits are read at first use in each process, N/8 bytes per configuration; a copy sent to another
    process takes only the file name with it.

    Arguments:
        path: A file of :func:`~ising.store.append` or :class:`~ising.store.Journal`.
        split: ``train``, ``validation``, ``test``, or ``all``.
        beta: Only the runs at this inverse temperature.
        fractions: Shares of training, validation and test, rounded to whole chains.

    Attributes:
        spins: All configurations, float32 ±1, shape ``(n, N)``, unpacked at each access.
        beta, energy, magnetisation: Labels, float64, shape ``(n,)``; energies and magnetisations are totals.
        run, chain, sample: Where each comes from, int64, shape ``(n,)``.
        shape: Sites along each axis.

    Example:
        >>> import tempfile
        >>> from ising import Ising, lattices, simulate, store
        >>> ring = simulate(Ising(lattices.chain(12)), beta=0.5, chains=10, samples=5, burn_in=9, thin=2)
        >>> path = tempfile.mkdtemp() + "/ring.h5"
        >>> name = store.append(path, ring)
        >>> data = Configurations(path, split="train")
        >>> data.spins.shape, data[0].beta.item(), data.chain.unique().tolist()
        (torch.Size([40, 12]), 0.5, [0, 1, 2, 3, 4, 5, 6, 7])
    """

    def __init__(
        self,
        path: str | Path,
        *,
        split: Literal["train", "validation", "test", "all"] = "all",
        beta: float | None = None,
        fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    ) -> None:
        if split not in (*SPLITS, "all"):
            raise ValueError(f"split must be one of {', '.join(SPLITS)} or all, got {split!r}")
        if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
            raise ValueError(f"fractions must be three shares >= 0 that sum to 1, got {fractions}")
        self.path, self._beta = Path(path), beta
        with entries(path, beta=beta) as found:
            self.shape = found[0].head.shape
            self._contents = {entry.name: entry.content_sha256 for entry in found}
            self._chains = {entry.name: _chains(entry, split, fractions, self.path) for entry in found}
            self._length = sum(entry.samples * len(self._chains[entry.name]) for entry in found)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> Configuration:
        chosen = Configuration(*(column[index] for column in self._rows))
        return chosen._replace(spins=self._unpacked(chosen.spins))

    def __getitems__(self, indices: list[int]) -> list[Configuration]:
        return [Configuration(*row) for row in zip(*self[indices], strict=True)]

    @property
    def spins(self) -> Tensor:
        return self._unpacked(self._rows.spins)

    @property
    def beta(self) -> Tensor:
        return self._rows.beta

    @property
    def energy(self) -> Tensor:
        return self._rows.energy

    @property
    def magnetisation(self) -> Tensor:
        return self._rows.magnetisation

    @property
    def run(self) -> Tensor:
        return self._rows.run

    @property
    def chain(self) -> Tensor:
        return self._rows.chain

    @property
    def sample(self) -> Tensor:
        return self._rows.sample

    @cached_property
    def _rows(self) -> Configuration:
        """All rows, with the spins still packed to bits."""
        with entries(self.path, beta=self._beta) as found:
            present = {entry.name: entry for entry in found}
            for name, content in self._contents.items():
                if name not in present or present[name].content_sha256 != content:
                    raise StoreError(f"{self.path} was replaced since it was opened here; open it again")
            parts = [_read(present[name], chains, self.path) for name, chains in self._chains.items()]
        return Configuration(
            *(torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True))
        )

    def _unpacked(self, bits: Tensor) -> Tensor:
        return torch.from_numpy(unpack(bits.numpy(), math.prod(self.shape))).float()

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_rows"}


def _chains(entry: Entry, split: str, fractions: tuple[float, float, float], path: Path) -> range:
    """The chains of one split."""
    if split == "all":
        return range(entry.chains)
    position = SPLITS.index(split)
    first, last = (round(sum(fractions[:k]) * entry.chains) for k in (position, position + 1))
    if first == last:
        raise StoreError(
            f"{path}: {entry.name} has {entry.chains} chain(s), too few to give {fractions[position]:.0%} of "
            f"them to {split}; simulate with more chains (--chains 10 or more), or take split='all'"
        )
    return range(first, last)


def _read(entry: Entry, chains: range, path: Path) -> tuple[np.ndarray, ...]:
    """The rows of consecutive chains, chain by chain."""
    with parsing(path):
        spins, energy, magnetisation = (data[chains.start : chains.stop] for data in entry.datasets())
    chain, sample = np.mgrid[chains.start : chains.stop, : entry.samples]
    beta, run = np.full(energy.shape, entry.head.beta), np.full(energy.shape, entry.number)
    labels = (beta, energy, magnetisation, run, chain, sample)
    return spins.reshape(-1, spins.shape[-1]), *(label.reshape(-1) for label in labels)
