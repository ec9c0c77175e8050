r"""Gated PixelCNN: two stacks of convolutions that together see every earlier site, without a blind spot.

The vertical stack V reads whole rows above, the horizontal one H the sites to the left of its own row and, at
each layer, what V has found for that site. Both pass through gated units,
:math:`g(a, b) = \tanh(a) \odot \sigma(b)`:

.. math:: u^l = R^l V^{l-1}, \qquad V^l = g(u^l), \qquad
    H^l = H^{l-1} + M^l g( L^l H^{l-1} + C^l u^l ), \qquad V^0 = H^0 = s .

:math:`R^1` reads the rows above the site, the others its own row too, as :math:`V^l` in it knows nothing of
it; :math:`L^1` reads the sites to the left, the others the site itself too. C and M join channels of one
site. The first H has no residual, which would hold the site itself. The last H goes through one layer of
rectified units of each site. Masked convolutions (:mod:`.pixelcnn`) with a window as wide as it is high miss
a wedge of sites above and to the right, however many there are. Rows continue periodically in V.

References:
    | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016),
      https://arxiv.org/abs/1606.05328
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..autoregressive import Autoregressive, Next
from ..nn import check_window

__all__ = ["GatedPixelCNN", "build"]


class GatedPixelCNN(Autoregressive):
    r"""Arguments:
        shape: ``(rows, columns)``, each at least ``kernel // 2``.
        depth: Layers of both stacks.
        width: Channels of each stack.
        kernel: Columns that V reads, odd; it reads ``kernel // 2`` rows and H as many sites.
        symmetric: :math:`q(s) = q(-s)` exactly, see :class:`~physgen.autoregressive.Autoregressive`, as are
        symbols, levels, direct: The alphabet and the direct term.

    Example:
        >>> net = build((4, 4), depth=2, width=8)
        >>> net.log_prob(net.sample(8)).shape
        torch.Size([8])
    """

    odd = False

    def __init__(
        self,
        shape: tuple[int, ...],
        depth: int = 3,
        width: int = 16,
        kernel: int = 5,
        symmetric: bool = False,
        symbols: int = 2,
        levels: bool = False,
        direct: bool = True,
    ):
        check_window(shape, kernel, depth, model="a gated PixelCNN")
        super().__init__(shape, symmetric=symmetric, symbols=symbols, levels=levels, direct=direct)
        inputs = [self.alphabet.inputs] + [width] * (depth - 1)
        self.layers = nn.ModuleList(GatedLayer(c, width, kernel, first=not i) for i, c in enumerate(inputs))
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.alphabet.outputs))

    def network(self, x: Tensor) -> Tensor:
        vertical = horizontal = x.movedim(-1, 1).unflatten(-1, self.shape)
        for layer in self.layers:
            up = layer.up(vertical)
            horizontal = layer.join(layer.across(up) + layer.beside(horizontal), horizontal)
            vertical = gate(up)
        return self.head(horizontal.flatten(2).movedim(1, -1))

    def cached(self, x: Tensor) -> Next:
        """V for a row as soon as the one above is known, H site by site; at the cost of one pass."""
        (rows, columns), reach = self.shape, self.layers[0].reach
        channels = [self.alphabet.inputs] + [layer.width for layer in self.layers]
        vertical = [x.new_zeros(len(x), c, reach + rows, columns) for c in channels]  # zero margins
        current = [x.new_zeros(len(x), c, 1, reach + columns) for c in channels]  # H in one row
        found: list[Tensor] = []

        def begin(row: int) -> None:
            if row:
                line = x[:, (row - 1) * columns : row * columns]
                vertical[0][:, :, reach + row - 1] = line.movedim(-1, 1)
            found.clear()
            for layer, below, above in zip(self.layers, vertical, vertical[1:], strict=False):
                up = layer.over(below[:, :, row : row + layer.seen])
                above[:, :, reach + row] = gate(up).squeeze(2)
                found.append(layer.across(up))

        def add(i: int) -> Tensor:
            row, column = divmod(i, columns)
            if column == 0:
                begin(row)
            else:
                current[0][:, :, 0, reach + column - 1] = x[:, i - 1]
            for layer, below, up, above in zip(self.layers, current, found, current[1:], strict=False):
                here = slice(reach + column, reach + column + 1)
                left = layer.left(below[..., column : column + layer.seen])
                above[..., here] = layer.join(up[..., column : column + 1] + left, below[..., here])
            return self.head(above[..., 0, reach + column])

        return add


class GatedLayer(nn.Module):
    """One layer of both stacks; the ``first`` sees neither the own row in V nor the site itself in H."""

    def __init__(self, inputs: int, width: int, kernel: int, *, first: bool):
        super().__init__()
        self.reach, self.width, self.first = kernel // 2, width, first
        self.seen = self.reach + (not first)  # rows in V, sites in H
        self.rows = nn.Conv2d(inputs, 2 * width, (self.seen, kernel))
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.left = nn.Conv2d(inputs, 2 * width, (1, self.seen), bias=False)
        self.mix = nn.Conv2d(width, width, 1)

    def over(self, rows: Tensor) -> Tensor:
        """V before its gates from every ``seen`` consecutive rows, ``(n, 2 w, rows, columns)``."""
        return self.rows(pad(rows, (self.reach, self.reach, 0, 0), mode="circular"))

    def up(self, vertical: Tensor) -> Tensor:
        """:meth:`over` at every site of the lattice, zero over the first row."""
        return self.over(pad(vertical[:, :, :-1] if self.first else vertical, (0, 0, self.reach, 0)))

    def beside(self, horizontal: Tensor) -> Tensor:
        """What the sites to the left give at every site of the lattice, zero left of the first column."""
        return self.left(pad(horizontal[..., :-1] if self.first else horizontal, (self.reach, 0)))

    def join(self, found: Tensor, horizontal: Tensor) -> Tensor:
        """H, from what both stacks give and from H below, of any sites."""
        return self.mix(gate(found)) + (0 if self.first else horizontal)


def gate(x: Tensor) -> Tensor:
    """Half of the channels, each let through by its partner: ``(n, 2 w, ...)`` to ``(n, w, ...)``."""
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


build = GatedPixelCNN
