"""Minibatches of rows that are not spins: grey levels with labels, real numbers."""

import numpy as np
import torch
from torch import Tensor

from .batches import Batches


class Rows(Batches):
    """An endless iterator of ``(size, width)`` float32 minibatches, shuffled anew in every pass.

    Like :class:`physgen.batches.Batches`, whose n-th batch also is a function of the arguments and n alone.

    Arguments:
        rows: Any finite numbers, ``(n, width)``.
        size: Rows per batch. What remains of a pass is left out of it.
        seed: Of the order and the draws.
        drawn: Leading columns that hold probabilities of 1 and are drawn anew in every batch: grey levels.
        device: Where batches are made.

    Example:
        >>> rows = Rows(torch.full((100, 3), 0.5), 10, drawn=2)
        >>> next(rows).mean(0)[2].item(), next(rows)[:, :2].unique().tolist()
        (0.5, [0.0, 1.0])
    """

    def __init__(
        self,
        rows: Tensor | np.ndarray,
        size: int,
        *,
        seed: int = 0,
        drawn: int = 0,
        device: torch.device | str = "cpu",
    ):
        rows = torch.as_tensor(rows).to(device, torch.float32)
        leading = rows[:, :drawn]
        if rows.ndim != 2 or not rows.isfinite().all() or ((leading < 0) | (leading > 1)).any():
            raise ValueError(
                f"batches need finite numbers of shape (n, width), the first {drawn} columns from 0 to 1; "
                f"got shape {tuple(rows.shape)}"
            )
        if not 1 <= size <= len(rows):
            raise ValueError(f"the batch size must be from 1 to the {len(rows)} rows, got {size}")
        self.spins, self.columns, self.size, self.seed, self.drawn = rows, drawn, size, seed, 0
        self.symmetries, self._order = ("draw",) if drawn else (), None

    def _transformed(self, spins: Tensor, generator: torch.Generator) -> Tensor:
        u = torch.rand(len(spins), self.columns, generator=generator).to(spins.device)
        spins[:, : self.columns] = (u < spins[:, : self.columns]).to(spins)
        return spins

    def _identity(self) -> dict[str, object]:
        n, width = self.spins.shape
        total = float(self.spins.sum(dtype=torch.float64))
        return {
            "rows": n,
            "width": width,
            "sum": total,
            "size": self.size,
            "seed": self.seed,
            "drawn columns": self.columns,
        }
