r"""PixelCNN for spins on a two-dimensional torus.

.. math:: q(s) = \prod_i q(s_i \mid s_{<i}), \qquad q(s_i \mid s_{<i}) = \sigma(2 \theta_i s_i),

sites in raster order. A causal convolution joins a window of the rows above, periodic along the row as they
are known from end to end, with the sites to the left (type A) or with those and the site itself (type B):

.. math:: x^1 = \tanh(A s + T_r s_{0,\cdot} + U_c s_{\cdot,0}), \qquad x^{l+1} = x^l + \tanh(B^l x^l),
    \qquad \theta_i = b_i + v \cdot x_i + \sum_{j<i} D_{ij} s_j .

No window reaches from the last row back to the first, its neighbour on the torus, and none knows which row it
is in. At row r and column c, T reads the first row, as many columns to both sides as the window has, and U
the first column, this row and as many above; their weights are those of that row and of that column. The
direct term D reads all earlier sites. All three start at zero. On 16 x 16 sites at beta = 0.44, with D alone
the divergence after half a minute of training is a quarter larger.

References:
    | Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner and Kavukcuoglu, 2016),
      https://arxiv.org/abs/1601.06759
    | Solving Statistical Mechanics Using Variational Autoregressive Networks (Wu, Wang and Zhang, 2019),
      https://arxiv.org/abs/1809.10606
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad

from ..autoregressive import Autoregressive, Next
from ..distributions.ancestral_conv import Window, draw_by_windows
from ..nn import check_window

__all__ = ["PixelCNN", "build"]


class PixelCNN(Autoregressive):
    r"""Arguments:
        shape: ``(rows, columns)``, each at least ``kernel // 2``.
        depth: Causal convolutions, one of type A and the rest of type B.
        width: Channels.
        kernel: Columns in the window, odd; it holds ``kernel // 2`` rows above.
        symmetric: Without biases :math:`\theta` is odd in s, so :math:`q(s) = q(-s)` exactly. Right for zero
            field, wrong for any other.
        symbols, levels, direct: The alphabet and the direct term, see
            :class:`~physgen.autoregressive.Autoregressive`; T and U come and go with D.

    Example:
        >>> net = build((4, 4), depth=2, width=8)
        >>> net.log_prob(net.sample(8)).shape
        torch.Size([8])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        depth: int = 2,
        width: int = 16,
        kernel: int = 5,
        symmetric: bool = False,
        symbols: int = 2,
        levels: bool = False,
        direct: bool = True,
    ):
        check_window(shape, kernel, depth, model="a PixelCNN")
        super().__init__(shape, symmetric=symmetric, symbols=symbols, levels=levels, direct=direct)
        self.layers = nn.ModuleList(
            CausalConv(
                width if layer else self.alphabet.inputs, width, kernel, itself=layer > 0, bias=not symmetric
            )
            for layer in range(depth)
        )
        self.torus = Torus(self.shape, self.alphabet.inputs, width, kernel // 2) if direct else None
        self.head = nn.Linear(width, self.alphabet.outputs, bias=False)

    def network(self, x: Tensor) -> Tensor:
        x = x.movedim(-1, 1).unflatten(-1, self.shape)
        around = 0 if self.torus is None else self.torus(x)
        for layer in self.layers:
            x = layer.join(layer.above(x) + layer.beside(x) + around, x)
            around = 0
        return self.head(x.flatten(2).movedim(1, -1))

    def cached(self, x: Tensor) -> Next:
        """A feature is computed as soon as it can be; the cost is about that of one pass of the network."""
        (rows, columns), reach = self.shape, self.layers[0].reach
        channels = [self.alphabet.inputs] + [layer.outputs for layer in self.layers]
        grids = [x.new_zeros(len(x), c, reach + rows, reach + columns) for c in channels]  # zero margins
        above = []

        def add(i: int) -> Tensor:
            row, column = divmod(i, columns)
            if i:
                before = divmod(i - 1, columns)
                grids[0][:, :, reach + before[0], reach + before[1]] = x[:, i - 1]
            if column == 0:
                known = [grid[:, :, row : row + reach, reach:] for grid in grids]
                above[:] = [
                    layer.over(grid).squeeze(2) for layer, grid in zip(self.layers, known, strict=False)
                ]
                if self.torus is not None and row:
                    above[0] += self.torus.of_row(grids[0][:, :, reach, reach:], row)
            elif self.torus is not None:
                first = grids[0][:, :, row : row + reach + 1, reach]
                above[0][:, :, column] += self.torus.of_column(first, column)
            for layer, grid, over, result in zip(self.layers, grids, above, grids[1:], strict=False):
                window = grid[:, :, reach + row, column : column + reach + 1]
                found = layer.join(over[:, :, column] + layer.beside_one(window), window[:, :, -1])
                result[:, :, reach + row, reach + column] = found
            return self.head(found)

        return add

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Independent draws and their fields, ``(n, N)`` each; compiled for spins in float32 on a CPU."""
        if not self.compiled:
            return super().draw(n, generator)
        direct, bias = self.direct.dense()
        windows = [layer.window() for layer in self.layers]
        edges = self.torus.top.weight, self.torus.side.weight
        return draw_by_windows(windows, edges, self.head.weight[0], direct, bias, self.shape, n, generator)


class Torus(nn.Module):
    """What the first row and the first column tell the others, by weights of each row and column.

    Those of the first ones themselves are not used.
    """

    def __init__(self, shape: tuple[int, int], inputs: int, width: int, reach: int):
        super().__init__()
        self.reach, self.width, (rows, columns) = reach, width, shape
        self.top = nn.Conv1d(inputs, rows * width, 2 * reach + 1, bias=False)
        self.side = nn.Conv1d(inputs, columns * width, reach + 1, bias=False)
        for edge in (self.top, self.side):
            nn.init.zeros_(edge.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, inputs, rows, columns)`` to ``(n, width, rows, columns)``."""
        down = self.top(self._around(x[:, :, 0])).unflatten(1, (-1, self.width)).movedim(1, 2)
        right = self.side(pad(x[..., 0], (self.reach, 0))).unflatten(1, (-1, self.width)).movedim(1, -1)
        return pad(down[:, :, 1:], (0, 0, 1, 0)) + pad(right[..., 1:], (1, 0))

    def of_row(self, first: Tensor, row: int) -> Tensor:
        """Of the first row ``(n, inputs, columns)`` to one further down, ``(n, width, columns)``."""
        return conv1d(self._around(first), self._part(self.top, row))

    def of_column(self, first: Tensor, column: int) -> Tensor:
        """Of the first column, ``(n, inputs, reach + 1)``, to one site to the right, ``(n, width)``."""
        return conv1d(first, self._part(self.side, column)).squeeze(-1)

    def _around(self, row: Tensor) -> Tensor:
        return pad(row, (self.reach, self.reach), mode="circular")

    def _part(self, edge: nn.Conv1d, index: int) -> Tensor:
        return edge.weight[index * self.width : (index + 1) * self.width]


class CausalConv(nn.Module):
    """Sees ``kernel // 2`` rows above and as many columns to the left, and the site ``itself`` or not."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, itself: bool, bias: bool):
        super().__init__()
        self.reach, self.itself, self.outputs = kernel // 2, itself, outputs
        self.rows = nn.Conv2d(inputs, outputs, (self.reach, kernel), bias=bias)
        self.left = nn.Conv2d(inputs, outputs, (1, self.reach + itself), bias=False)

    def above(self, x: Tensor) -> Tensor:
        """Periodic along the row, zero over the first row: ``(n, c, rows, columns)`` to the same."""
        return self.over(pad(x[:, :, :-1], (0, 0, self.reach, 0)))

    def over(self, x: Tensor) -> Tensor:
        """Every ``reach`` consecutive rows to the one that lies under them."""
        return self.rows(pad(x, (self.reach, self.reach, 0, 0), mode="circular"))

    def beside(self, x: Tensor) -> Tensor:
        """Zero left of the first column: ``(n, c, rows, columns)`` to the same."""
        return self.left(pad(x if self.itself else x[..., :-1], (self.reach, 0)))

    def beside_one(self, window: Tensor) -> Tensor:
        """:meth:`beside` at one site, from the window ``(n, c, reach + 1)`` that ends there."""
        weight = self.left.weight.squeeze(2)
        return window[..., : weight.shape[-1]].flatten(1) @ weight.flatten(1).T

    def join(self, change: Tensor, x: Tensor) -> Tensor:
        """The features of this layer; they hold those below, where these may know the site itself."""
        return torch.tanh(change) + (x if self.itself else 0)

    def window(self) -> Window:
        """The weights, without gradients, as compiled draws take them."""
        rows, left = self.rows.weight.detach(), self.left.weight.detach().squeeze(2)
        return Window(rows, left, rows.new_zeros(len(rows)) if self.rows.bias is None else self.rows.bias)


build = PixelCNN
