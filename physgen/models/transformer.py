r"""Causal transformer: every site attends to all sites before it.

Token k is made of the value of site k - 1 (nothing for k = 0) and of a position learned for site k. A block
attends and then transforms, each on normalised tokens and added to them:

.. math:: A_{ik} = \mathrm{softmax}_{k \le i} \big( q_i \cdot k_k / \sqrt d + B_{r_i - r_{k-1}} \big),
    \qquad x_i \leftarrow x_i + W \sum_k A_{ik} v_k, \qquad x_i \leftarrow x_i + \mathrm{MLP}(x_i) ,

and :math:`\theta_i` is linear in the last :math:`x_i`. B, a number for each head and displacement on the
torus, lets a head look at the same neighbour from everywhere, also across the periodic edges. The network
is not odd in the spins; symmetric models read the spins relative to the first.

References:
    | Attention Is All You Need (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762
    | On Layer Normalization in the Transformer Architecture (Xiong et al., 2020),
      https://arxiv.org/abs/2002.04745
    | Self-Attention with Relative Position Representations (Shaw, Uszkoreit and Vaswani, 2018),
      https://arxiv.org/abs/1803.02155
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from ..autoregressive import Autoregressive, Next

__all__ = ["Transformer", "build"]


class Transformer(Autoregressive):
    r"""Arguments:
        shape: Sites along each axis, any number of axes.
        depth: Blocks.
        width: Features of a token, a multiple of ``heads``.
        heads: Attention heads.
        symmetric, symbols, levels, direct: See :class:`~physgen.autoregressive.Autoregressive`.

    Example:
        >>> net = build((4, 4), width=16, heads=2)
        >>> net.log_prob(net.sample(8)).shape
        torch.Size([8])
    """

    odd = False

    def __init__(
        self,
        shape: tuple[int, ...],
        depth: int = 2,
        width: int = 32,
        heads: int = 4,
        symmetric: bool = False,
        symbols: int = 2,
        levels: bool = False,
        direct: bool = True,
    ):
        if depth < 1 or heads < 1 or width % heads:
            raise ValueError(
                f"a transformer needs at least one block and a width that is a multiple of its heads, got "
                f"depth {depth}, width {width} and {heads} heads"
            )
        super().__init__(shape, symmetric=symmetric, symbols=symbols, levels=levels, direct=direct)
        self.read = nn.Linear(self.alphabet.inputs, width)
        self.position = nn.Parameter(0.1 * torch.randn(self.n_sites, width))
        self.blocks = nn.ModuleList(Block(width, heads, self.n_sites) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.alphabet.outputs, bias=False)
        nn.init.normal_(self.head.weight, std=0.01)
        known = pad(displacements(self.shape)[:, :-1], (1, 0))  # of token k: the site it tells of; 0 of none
        self.register_buffer("apart", known, persistent=False)

    def network(self, x: Tensor) -> Tensor:
        tokens = self.read(pad(x[:, :-1], (0, 0, 1, 0))) + self.position
        for block in self.blocks:
            tokens = block(tokens, self.apart)
        return self.head(self.norm(tokens))

    def cached(self, x: Tensor) -> Next:
        """Keys and values are kept; a site costs one query per block."""
        blocks = [block.cached(len(x), self.apart) for block in self.blocks]

        def add(i: int) -> Tensor:
            token = self.read(x[:, i - 1] if i else torch.zeros_like(x[:, 0])) + self.position[i]
            for block in blocks:
                token = block(i, token)
            return self.head(self.norm(token))

        return add


class Block(nn.Module):
    """Attention and a perceptron of one hidden layer."""

    def __init__(self, width: int, heads: int, sites: int):
        super().__init__()
        self.heads = heads
        self.norm, self.attention = nn.LayerNorm(width), nn.Linear(width, 3 * width, bias=False)
        self.near = nn.Parameter(torch.zeros(heads, sites))
        self.joined = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor, apart: Tensor) -> Tensor:
        """``(n, N, width)`` to the same, given the displacement that each token k has to each site i."""
        later = torch.ones_like(apart, dtype=torch.bool).triu(1)
        near = self.near[:, apart].masked_fill(later, -math.inf)
        return self._transformed(tokens, scaled_dot_product_attention(*self._asked(tokens), near))

    def cached(self, n: int, apart: Tensor) -> Callable[[int, Tensor], Tensor]:
        """The same for one token after the other, ``(n, width)``."""
        size = self.joined.in_features // self.heads
        kept = [self.near.new_zeros(n, self.heads, len(apart), size) for _ in range(2)]

        def at(i: int, token: Tensor) -> Tensor:
            query, *new = self._asked(token[:, None])
            for old, one in zip(kept, new, strict=True):
                old[:, :, i : i + 1] = one
            keys, values = (old[:, :, : i + 1] for old in kept)
            near = self.near[:, apart[i, : i + 1]].unsqueeze(1)
            seen = scaled_dot_product_attention(query, keys, values, near)
            return self._transformed(token[:, None], seen)[:, 0]

        return at

    def _asked(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``(n, heads, tokens, size)`` each."""
        parts = self.attention(self.norm(tokens)).unflatten(-1, (3, self.heads, -1))
        query, keys, values = parts.permute(2, 0, 3, 1, 4).unbind()
        return query, keys, values

    def _transformed(self, tokens: Tensor, seen: Tensor) -> Tensor:
        tokens = tokens + self.joined(seen.transpose(1, 2).flatten(2))
        return tokens + self.mlp(tokens)


def displacements(shape: tuple[int, ...]) -> Tensor:
    """The way on the torus from site j to site i, as the number of the site that lies so far from site 0.

    Example:
        >>> displacements((4,))[0].tolist()  # to site 0 from each
        [0, 3, 2, 1]
    """
    sides = torch.tensor(shape)
    place = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij"), -1).reshape(-1, len(shape))
    step = (place[:, None] - place) % sides
    strides = torch.tensor([math.prod(shape[k + 1 :]) for k in range(len(shape))])
    return (step * strides).sum(-1)


build = Transformer
