r"""What both pixel recurrent networks share: the first convolution, residual layers of states, the cell.

.. math:: x^1 = A s, \qquad x^{l+1} = x^l + h^l(x^l), \qquad
    \theta_i = b_i + v \cdot x_i + \sum_{j<i} D_{ij} s_j

A is a causal convolution of type A (:class:`physgen.models.pixelcnn.CausalConv`). The states :math:`h_i^l`
are those of long short-term memory, which reach every earlier site of their cone in one layer. They are not
odd in the spins; symmetric models read the spins relative to the first.

References:
    | Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner and Kavukcuoglu, 2016),
      https://arxiv.org/abs/1601.06759
    | Long Short-Term Memory (Hochreiter and Schmidhuber, 1997)
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .autoregressive import Autoregressive, Next
from .models.pixelcnn import CausalConv
from .nn import check_window

At = Callable[[int, int], Tensor]
"""What a layer gives at (row, column), ``(n, width)``; to be called in raster order."""


class States(nn.Module):
    """A layer: features ``(n, rows, columns, width)`` to states of that shape, from each site and earlier."""

    def cached(self, x: Tensor) -> At:
        """The same of features that the caller writes into x, those of a site before asking for its state."""
        raise NotImplementedError


class PixelRNN(Autoregressive):
    r"""A model says how states follow from each other, by its :meth:`states`.

    Arguments:
        shape: ``(rows, columns)``, each at least ``kernel // 2``.
        depth: Layers of states.
        width: Features and states of each site.
        kernel: Columns that the convolutions see, odd; the first one sees ``kernel // 2`` rows above.
        symmetric, symbols, levels, direct: See :class:`~physgen.autoregressive.Autoregressive`.
    """

    odd = False

    def __init__(
        self,
        shape: tuple[int, ...],
        depth: int = 2,
        width: int = 32,
        kernel: int = 5,
        symmetric: bool = False,
        symbols: int = 2,
        levels: bool = False,
        direct: bool = True,
    ):
        check_window(shape, kernel, depth, model="a PixelRNN")
        super().__init__(shape, symmetric=symmetric, symbols=symbols, levels=levels, direct=direct)
        self.first = CausalConv(self.alphabet.inputs, width, kernel, itself=False, bias=True)
        self.layers = nn.ModuleList(self.states(width, kernel) for _ in range(depth))
        self.head = nn.Linear(width, self.alphabet.outputs, bias=False)

    def states(self, width: int, kernel: int) -> States:
        """A new layer."""
        raise NotImplementedError

    def network(self, x: Tensor) -> Tensor:
        grid = x.movedim(-1, 1).unflatten(-1, self.shape)
        x = (self.first.above(grid) + self.first.beside(grid)).movedim(1, -1)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x).flatten(1, 2)

    def cached(self, x: Tensor) -> Next:
        """Every state is computed once; the cost is about that of one pass of the network."""
        (rows, columns), reach, n = self.shape, self.first.reach, len(x)
        grid = x.new_zeros(n, self.alphabet.inputs, reach + rows, reach + columns)  # zero margins
        features = [x.new_zeros(n, rows, columns, self.first.outputs) for _ in self.layers]
        states = [layer.cached(read) for layer, read in zip(self.layers, features, strict=True)]
        over = x.new_empty(0)

        def add(i: int) -> Tensor:
            nonlocal over
            row, column = divmod(i, columns)
            if i:
                before = divmod(i - 1, columns)
                grid[:, :, reach + before[0], reach + before[1]] = x[:, i - 1]
            if column == 0:
                over = self.first.over(grid[:, :, row : row + reach, reach:]).squeeze(2)
            window = grid[:, :, reach + row, column : column + reach + 1]
            found = over[:, :, column] + self.first.beside_one(window)
            for read, at in zip(features, states, strict=True):
                read[:, row, column] = found
                found = found + at(row, column)
            return self.head(found)

        return add


def remember(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    r"""One step of long short-term memory, ``(*, 4 width)`` and ``(*, width)`` to state and cell:

    .. math:: c' = \sigma(f)\, c + \sigma(i) \tanh(g / 2), \qquad h = \sigma(o) \tanh c' ,

    with :math:`\tanh(g / 2) = 2 \sigma(g) - 1`, so that one pass serves all gates.
    """
    f, i, o, g = torch.sigmoid(gates).chunk(4, -1)
    cell = f * cell + i * (2 * g - 1)
    return o * torch.tanh(cell), cell


def input_to_state(inputs: int, width: int) -> nn.Linear:
    """The part of the gates that depends on the input; at first they keep most of the cell."""
    given = nn.Linear(inputs, 4 * width)
    with torch.no_grad():
        given.bias[:width] += 1.0
    return given
