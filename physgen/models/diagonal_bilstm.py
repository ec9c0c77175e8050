r"""PixelRNN with memory cells along both diagonals (Diagonal BiLSTM), for spins in two dimensions.

One set of states runs from the upper left, and depends on all sites to the left and above up to there,

.. math:: (f, i, o, g)_{rc} = U x_{rc} + V h_{r, c-1} + V' h_{r-1, c} + b ,

and goes on with the cell to the left. The states of one diagonal r + c follow from those of the last, all at
once. A second set runs from the upper right; it has seen the whole of its row, and is passed on to the row
below. Together they know every earlier site. The rest, and the cells, are in :mod:`physgen.pixelrnn`.

References:
    | Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner and Kavukcuoglu, 2016),
      https://arxiv.org/abs/1601.06759
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..pixelrnn import At, PixelRNN, States, input_to_state, remember

__all__ = ["DiagonalBiLSTM", "build"]


class DiagonalBiLSTM(PixelRNN):
    """Arguments are those of :class:`~physgen.pixelrnn.PixelRNN`.

    Example:
        >>> net = build((4, 4), width=8)
        >>> net.log_prob(net.sample(8)).shape
        torch.Size([8])
    """

    def states(self, width: int, kernel: int) -> States:  # noqa: ARG002
        return BothDiagonals(width)


class BothDiagonals(States):
    """States from the upper left, and those from the upper right of the row above."""

    def __init__(self, width: int):
        super().__init__()
        self.left, self.right = Diagonals(width), Diagonals(width)

    def forward(self, x: Tensor) -> Tensor:
        right = self.right(x[:, :-1].flip(2)).flip(2)
        return self.left(x) + pad(right, (0, 0, 0, 0, 1, 0))

    def cached(self, x: Tensor) -> At:
        """States from the right, of a whole row, are found when the row below begins."""
        columns = x.shape[2]
        left, right, passed = self.left.cached(x), self.right.cached(x), torch.zeros_like(x[:, 0])

        def at(row: int, column: int) -> Tensor:
            if row and column == 0:
                for k in range(columns):
                    passed[:, columns - 1 - k] = right(k, x[:, row - 1, columns - 1 - k])
            return left(column, x[:, row, column]) + passed[:, column]

        return at


class Diagonals(nn.Module):
    """States from the upper left: ``(n, rows, columns, width)`` to the same, the site itself included."""

    def __init__(self, width: int):
        super().__init__()
        self.given = input_to_state(width, width)
        self.near = nn.Linear(2 * width, 4 * width, bias=False)  # the sites to the left, and above

    def forward(self, x: Tensor) -> Tensor:
        h = cell = torch.zeros_like(x[:, :, 0])
        diagonals = []
        for given in skew(self.given(x)).unbind(2):  # zero beyond the ends of a row, and so are the states
            near = torch.cat([h, pad(h[:, :-1], (0, 0, 1, 0))], -1)
            h, cell = remember(given + self.near(near), cell)
            diagonals.append(h)
        return unskew(torch.stack(diagonals, 2))

    def cached(self, x: Tensor) -> Callable[[int, Tensor], Tensor]:
        """The state at one column after the other, row by row, from the features there."""
        h, cell = (pad(torch.zeros_like(x[:, 0]), (0, 0, 1, 0)) for _ in range(2))  # zero left of the row

        def at(column: int, site: Tensor) -> Tensor:
            gates = self.given(site) + self.near(h[:, column : column + 2].flatten(1))
            h[:, column + 1], cell[:, column + 1] = remember(gates, cell[:, column])
            return h[:, column + 1]

        return at


def skew(x: Tensor) -> Tensor:
    """Row r moved r columns to the right: ``(n, rows, columns, *)`` to ``(n, rows, columns + rows - 1, *)``.

    Example:
        >>> skew(torch.tensor([[1, 2], [3, 4]])[None, :, :, None])[0, :, :, 0].tolist()
        [[1, 2, 0], [0, 3, 4]]
    """
    rows, columns = x.shape[1:3]
    wide = pad(x, (0, 0, 0, rows)).flatten(1, 2)
    return wide[:, : rows * (columns + rows - 1)].unflatten(1, (rows, -1))


def unskew(x: Tensor) -> Tensor:
    """The inverse of :func:`skew`.

    Example:
        >>> x = torch.randn(2, 3, 5, 4)
        >>> torch.equal(unskew(skew(x)), x)
        True
    """
    rows = x.shape[1]
    return pad(x.flatten(1, 2), (0, 0, 0, rows)).unflatten(1, (rows, -1))[:, :, :-rows]


build = DiagonalBiLSTM
