r"""Orders in which an autoregressive model goes through the sites, and the model that goes through them so.

An order is a permutation: entry k is the row-major number of the site that comes k-th. It decides which
sites the k-th conditional sees, and so how much of the law a network of a given size can hold. Measured with
FVBN and odd nets on a 16 x 16 torus at beta = 0.44: raster and snake learn fastest, Hilbert is worse,
and hierarchical has the largest KL after a short training.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

REGISTRY: dict[str, Callable[[tuple[int, ...]], Tensor]] = {}


def order(make: Callable[[tuple[int, ...]], Tensor]) -> Callable[[tuple[int, ...]], Tensor]:
    """Registers an order under its own name, for command lines and tests."""
    REGISTRY[make.__name__] = make
    return make


@order
def raster(shape: tuple[int, ...]) -> Tensor:
    """Row after row, each from the left: the order of storage."""
    return torch.arange(math.prod(shape))


@order
def snake(shape: tuple[int, ...]) -> Tensor:
    """Row after row, every second one backwards, so that each site is a neighbour of the one before.

    Example:
        >>> snake((2, 3)).tolist()
        [0, 1, 2, 5, 4, 3]
    """
    path = torch.arange(1)
    for side in reversed(shape):
        rows = torch.arange(side)[:, None] * len(path) + path
        rows[1::2] = rows[1::2].flip(-1)
        path = rows.flatten()
    return path


@order
def hilbert(shape: tuple[int, ...]) -> Tensor:
    """Hilbert's curve through a square of side 2^k: neighbours, and quadrant after quadrant at every scale.

    Source: Hilbert (1891), Über die stetige Abbildung einer Linie auf ein Flächenstück.

    Example:
        >>> hilbert((4, 4)).tolist()
        [0, 1, 5, 4, 8, 12, 13, 9, 10, 14, 15, 11, 7, 6, 2, 3]
    """
    side = shape[0]
    if len(shape) != 2 or shape[1] != side or side & (side - 1):
        raise ValueError(
            f"Hilbert's curve needs a square of side 2, 4, 8, ..., got shape {tuple(shape)}; take snake"
        )
    row = column = torch.zeros(1, dtype=torch.long)
    half = 1
    while half < side:  # four copies: transposed, as it is, as it is, transposed backwards
        last = 2 * half - 1
        row, column = (
            torch.cat([column, row + half, row + half, half - 1 - column]),
            torch.cat([row, column, column + half, last - row]),
        )
        half *= 2
    return row * side + column


@order
def hierarchical(shape: tuple[int, ...]) -> Tensor:
    r"""A coarse sublattice first, then the sites between, twice as many with each stage, to one checkerboard.

    A stage of spacing a puts a site at the centre of each square of known ones, then one on each edge, where
    four known sites at distance a/2 surround it. With nearest neighbours alone every site of the last stage,
    half of all, has all of its neighbours before it: the local field is its exact conditional.

    Source: the idea is that of hierarchical autoregressive networks, Białas, Korcyl and Stebel (2022),
    https://arxiv.org/abs/2203.10989, with interleaved sublattices in place of nested boundaries.

    Example:
        >>> hierarchical((4, 4)).reshape(4, 4).tolist()
        [[0, 10, 2, 8], [5, 7, 13, 15], [1, 3, 4, 6], [9, 11, 12, 14]]
    """
    if len(shape) != 2 or any(side % 2 for side in shape):
        raise ValueError(
            f"the hierarchical order needs a two-dimensional lattice of even sides, got {tuple(shape)}; "
            "take snake"
        )
    k = (math.gcd(*shape) & -math.gcd(*shape)).bit_length() - 1
    halvings = [sum((torch.arange(side) % 2**j == 0).long() for j in range(1, k + 1)) for side in shape]
    row, column = torch.meshgrid(*halvings, indexing="ij")
    stage = (2 * (k - torch.minimum(row, column)) - (row == column).long()).clamp(min=0)
    return torch.argsort(stage.flatten(), stable=True)


class Ordered(nn.Module):
    r"""An autoregressive model that takes the sites in another order than row-major.

    .. math:: q(s) = q_0(s_{\pi(1)}, s_{\pi(2)}, \ldots)

    Arguments:
        model: Any :class:`~physgen.autoregressive.Autoregressive`; it is given the sites in that order.
        order: Name of the order, any of ``REGISTRY``.

    Example:
        >>> from physgen import models
        >>> net = models.build("fvbn", (4, 4), order="hilbert")
        >>> net.log_prob(net.sample(8)).shape
        torch.Size([8])
    """

    def __init__(self, model: nn.Module, order: str):
        super().__init__()
        if order not in REGISTRY:
            raise ValueError(f"unknown order {order!r}; choose one of {', '.join(REGISTRY)}")
        if not hasattr(model, "conditionals"):
            raise ValueError(
                f"an order is one of the sites of an autoregressive model, not of {type(model).__name__}"
            )
        self.model = model
        self.register_buffer("order", REGISTRY[order](model.shape), persistent=False)
        self.register_buffer("place", torch.argsort(self.order), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """What the model gives at every site, ``(*, N)`` or ``(*, N, q)``, row-major."""
        return self._back(self.model(values[..., self.order]), values.ndim)

    def conditionals(self, values: Tensor) -> Tensor:
        """Of each site given those before it in the order, ``(*, N)`` or ``(*, N, q)``, row-major."""
        return self._back(self.model.conditionals(values[..., self.order]), values.ndim)

    def log_prob(self, values: Tensor) -> Tensor:
        """Normalised: ``(*, N)`` values, row-major, to ``(*,)`` nats."""
        return self.model.log_prob(values[..., self.order])

    def loss(self, values: Tensor) -> Tensor:
        """Negative log-likelihood per site, nats."""
        return self.model.loss(values[..., self.order])

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, ``(n, N)``, row-major."""
        return self.model.sample(n, generator)[:, self.place]

    def sample_and_log_prob(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Independent draws ``(n, N)`` and their log-probabilities ``(n,)``, with their gradient."""
        values, log_q = self.model.sample_and_log_prob(n, generator)
        return values[:, self.place], log_q

    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Independent draws ``(n, N)`` and what they were drawn from, as :meth:`forward` up to rounding."""
        values, given = self.model.draw(n, generator)
        return values[:, self.place], given[:, self.place]

    def start_from(self, couplings: Tensor) -> None:
        """As the model's own, with couplings ``(N, N)`` of the sites in row-major order."""
        self.model.start_from(couplings[self.order][:, self.order])

    def _back(self, per_site: Tensor, n_axes: int) -> Tensor:
        return per_site.index_select(n_axes - 1, self.place)
