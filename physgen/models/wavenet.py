r"""WaveNet: dilated causal convolutions along a sequence, with gated units, residuals and skips.

Token i holds the value of site i - 1 (nothing for i = 0). Layer l joins tokens that lie its dilation apart,

.. math:: z^l_i = \tanh(a_i) \odot \sigma(b_i), \quad (a_i, b_i) = c^l + \sum_{k=0}^{K-1} W^l_k\,
    x^l_{i - k d_l}, \qquad x^{l+1}_i = x^l_i + U^l z^l_i ,

and all layers add to one sum of skips, :math:`x^0_i + \sum_l S^l z^l_i`, from which two layers of rectified
units make :math:`\theta_i`. Tokens before the first are zeros. A conditional thus depends on the last

.. math:: R = 1 + (K - 1) \sum_l d_l

sites, the receptive field. Dilations 1, 2, 4, ... make it double with each layer, while a draw costs each
site one pass through the layers, :math:`\text{depth} \times \text{width}^2`, whatever R and N are.

Lattices of more axes are read in row-major order. By default there is no direct term, and one bias for all
sites: the law is the same everywhere but for the beginning, and :meth:`WaveNet.of_length` goes on with it.

References:
    | WaveNet: A Generative Model for Raw Audio (van den Oord et al., 2016),
      https://arxiv.org/abs/1609.03499
    | Fast Wavenet Generation Algorithm (Le Paine et al., 2016), https://arxiv.org/abs/1611.09482
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..autoregressive import Autoregressive, Bias, Next

__all__ = ["WaveNet", "build"]


class WaveNet(Autoregressive):
    r"""Arguments:
        shape: Sites along each axis, any number of axes.
        dilations: Of each layer; without any, R = 1.
        width: Features of a token.
        kernel: Tokens K that a layer joins, at least 2.
        symmetric, symbols, levels: See :class:`~physgen.autoregressive.Autoregressive`.
        direct: With the term that joins a site with all earlier ones; R is then the whole sequence.

    Attributes:
        receptive_field: R.

    Example:
        >>> net = build((64,), dilations=(1, 2, 4), width=8)
        >>> net.receptive_field, net.log_prob(net.sample(5)).shape
        (8, torch.Size([5]))
    """

    odd = False

    def __init__(
        self,
        shape: tuple[int, ...],
        dilations: tuple[int, ...] = (1, 2, 4, 8),
        width: int = 16,
        kernel: int = 2,
        symmetric: bool = False,
        symbols: int = 2,
        levels: bool = False,
        direct: bool = False,
    ):
        if kernel < 2 or width < 1 or any(d < 1 for d in dilations):
            raise ValueError(
                f"a WaveNet needs a kernel of at least 2, a width and dilations of at least 1, got kernel "
                f"{kernel}, width {width} and dilations {tuple(dilations)}"
            )
        super().__init__(shape, symmetric=symmetric, symbols=symbols, levels=levels, direct=direct)
        if not direct:
            self.direct = Bias(1, self.alphabet.outputs, bias=not symmetric)
        self.receptive_field = 1 + (kernel - 1) * sum(dilations)
        self.hyper = {"width": width, "kernel": kernel, "symmetric": symmetric, "symbols": symbols}
        self.hyper |= {"dilations": tuple(dilations), "levels": levels, "direct": direct}
        self.read = nn.Linear(self.alphabet.inputs, width)
        last = len(dilations) - 1
        self.layers = nn.ModuleList(Layer(width, kernel, d, last=i == last) for i, d in enumerate(dilations))
        self.head = nn.Sequential(
            nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.alphabet.outputs, bias=False)
        )

    def network(self, x: Tensor) -> Tensor:
        skips = tokens = self.read(earlier(x, 1))
        for layer in self.layers:
            tokens, skip = layer(tokens)
            skips = skips + skip
        return self.head(skips)

    def cached(self, x: Tensor) -> Next:
        """One queue of tokens for each layer, as long as it looks back."""
        layers = [layer.cached(len(x)) for layer in self.layers]

        def add(i: int) -> Tensor:
            skips = token = self.read(x[:, i - 1] if i else torch.zeros_like(x[:, 0]))
            for layer in layers:
                token, skip = layer(i, token)
                skips = skips + skip
            return self.head(skips)

        return add

    def of_length(self, n_sites: int) -> "WaveNet":
        """A copy for sequences of another length; not with a direct term, which has a weight per pair."""
        if self.hyper["direct"]:
            raise ValueError("a direct term is of one length; build the WaveNet with direct=False")
        net = WaveNet((n_sites,), **self.hyper).to(self._like())
        net.load_state_dict(self.state_dict())
        return net


class Layer(nn.Module):
    """Gated units of ``kernel`` tokens, ``dilation`` apart; the ``last`` one has no residual to hand on."""

    def __init__(self, width: int, kernel: int, dilation: int, *, last: bool):
        super().__init__()
        self.back = [k * dilation for k in range(kernel)]
        self.width, self.last = width, last
        self.taps = nn.Linear(kernel * width, 2 * width)
        self.mix = nn.Linear(width, width if last else 2 * width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """``(n, N, width)`` to the next tokens and to skips, both of that shape."""
        return self._join([earlier(tokens, b) for b in self.back])

    def cached(self, n: int) -> Callable[[int, Tensor], tuple[Tensor, Tensor]]:
        """The same for one token after the other, ``(n, width)``."""
        queue = self.taps.weight.new_zeros(self.back[-1] + 1, n, self.width)

        def at(i: int, token: Tensor) -> tuple[Tensor, Tensor]:
            queue[i % len(queue)] = token
            return self._join([queue[(i - b) % len(queue)] for b in self.back])

        return at

    def _join(self, seen: list[Tensor]) -> tuple[Tensor, Tensor]:
        a, b = self.taps(torch.cat(seen, -1)).chunk(2, -1)
        skip, *more = self.mix(torch.tanh(a.contiguous()) * torch.sigmoid(b)).split(self.width, -1)
        return sum(more, seen[0]), skip


def earlier(x: Tensor, by: int) -> Tensor:
    """Every token replaced by the one so many sites before, the first ones by zeros; ``(n, N, width)``."""
    return pad(x[:, : max(x.shape[1] - by, 0)], (0, 0, min(by, x.shape[1]), 0))


build = WaveNet
