r"""PixelRNN with rows of memory cells (Row LSTM), for spins on a two-dimensional torus.

The states of a row follow, all at once, from those of the row above,

.. math:: (f, i, o, g)_{rc} = \sum_{k \ge 0} U_k\, x_{r, c-k} + \sum_{|k| \le 1} V_k\, h_{r-1, c-k} + b ,

periodic along the row above, which is known from end to end; the convolution U of the row itself ends at the
site (type B). A state knows a triangle of the sites above it, one column wider on both sides with each row.
The rest, and the cells, are in :mod:`physgen.pixelrnn`.

References:
    | Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner and Kavukcuoglu, 2016),
      https://arxiv.org/abs/1601.06759
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from ..pixelrnn import At, PixelRNN, States, input_to_state, remember

__all__ = ["RowLSTM", "build"]


class RowLSTM(PixelRNN):
    """Arguments are those of :class:`~physgen.pixelrnn.PixelRNN`.

    Example:
        >>> net = build((4, 4), width=8)
        >>> net.log_prob(net.sample(8)).shape
        torch.Size([8])
    """

    def states(self, width: int, kernel: int) -> States:
        return Rows(width, kernel)


class Rows(States):
    """States of one row after the other; the row itself is seen from ``kernel // 2`` sites to the left."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.reach = kernel // 2
        self.given = input_to_state((self.reach + 1) * width, width)
        self.above = nn.Linear(3 * width, 4 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        seen = pad(x, (0, 0, self.reach, 0)).unfold(2, self.reach + 1, 1).transpose(-1, -2).flatten(3)
        h = cell = torch.zeros_like(x[:, 0])
        rows = []
        for given in self.given(seen).unbind(1):
            h, cell = remember(given + self.over(h), cell)
            rows.append(h)
        return torch.stack(rows, 1)

    def over(self, h: Tensor) -> Tensor:
        """What the states of the row above, ``(n, columns, width)``, add to the gates."""
        return self.above(torch.cat([h.roll(1, 1), h, h.roll(-1, 1)], -1))

    def cached(self, x: Tensor) -> At:
        """A row of states is begun with its first site, as soon as the row above is known."""
        h, cell, over = torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0]), x.new_empty(0)
        weight, bias = self.given.weight, self.given.bias

        def at(row: int, column: int) -> Tensor:
            nonlocal over
            if column == 0:
                over = self.over(h)
            seen = x[:, row, max(column - self.reach, 0) : column + 1].flatten(1)
            gates = linear(seen, weight[:, -seen.shape[1] :], bias) + over[:, column]
            h[:, column], cell[:, column] = remember(gates, cell[:, column])
            return h[:, column]

        return at


build = RowLSTM
