r"""What every autoregressive model shares: one order of the sites, exact densities and draws.

.. math:: q(s) = \prod_i q(s_i \mid s_{<i}), \qquad q(s_i \mid s_{<i}) = \sigma(2 \theta_i s_i), \qquad
    \theta_i = b_i + \sum_{j<i} D_{ij} s_j + \text{what the network adds} ,

sites in row-major order; for an alphabet of q symbols, :math:`\theta_i` is q logits and :math:`\sigma` the
softmax (:mod:`physgen.alphabet`). The direct term D joins a site with all earlier ones, so with its
neighbours across the periodic edges, too, which no causal window reaches.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .alphabet import alphabet
from .distributions import ancestral
from .nn import MaskedLinear

Next = Callable[[int], Tensor]
"""What the network adds at site i, ``(n, outputs)``; to be called for the sites 0, 1, ... in turn."""


class Autoregressive(nn.Module):
    r"""A model writes :meth:`network`, what it adds for all sites at once, and :meth:`cached`, the same site
    by site with nothing computed twice; densities and draws follow. It may have a faster ``draw``.

    Arguments:
        shape: Sites along each axis, any number of axes.
        symmetric: :math:`q(s) = q(-s)` exactly: right for zero field, wrong for any other. Of spins only. The
            direct term has no biases. A network f that is not ``odd`` reads all spins relative to the first,
            and adds :math:`s_1 f_i(s_1 s_{<i})`, which is odd whatever f is.
        symbols: Values that a site can have: 2 for spins ±1, otherwise integers 0 to q - 1.
        levels: They are levels of one quantity, such as grey, and read as one number.
        direct: With the direct term D; it takes :math:`(q N)^2` weights. Otherwise only the biases b.

    Attributes:
        odd: Whether the network of a symmetric model changes its sign with the spins by itself.
    """

    odd = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        symmetric: bool = False,
        symbols: int = 2,
        levels: bool = False,
        direct: bool = True,
    ):
        super().__init__()
        if symmetric and symbols > 2:
            raise ValueError(
                f"symmetric is about the flip of spins, not about {symbols} symbols; leave it out"
            )
        self.shape, self.n_sites = tuple(shape), math.prod(shape)
        self.relative = symmetric and not self.odd
        self.alphabet = alphabet(symbols, levels=levels)
        inputs, outputs, bias = self.alphabet.inputs, self.alphabet.outputs, not symmetric
        self.direct = (
            Earlier(self.n_sites, inputs, outputs, bias=bias) if direct else Bias(self.n_sites, outputs, bias)
        )

    def network(self, x: Tensor) -> Tensor:
        """Features of the values ``(n, N, inputs)`` to what is added, ``(n, N, outputs)``."""
        raise NotImplementedError

    def cached(self, x: Tensor) -> Next:
        """:meth:`network` of features that the caller writes into x, those of site i before site i + 1."""
        raise NotImplementedError

    def forward(self, values: Tensor) -> Tensor:
        r"""Fields :math:`\theta_i(s_{<i})`: ``(*, N)`` to ``(*, N)``; to logits ``(*, N, q)`` for symbols."""
        x = self.alphabet.read(values, self._like().dtype).reshape(-1, self.n_sites, self.alphabet.inputs)
        added = self._relative(x) if self.relative else self.network(x)
        given = self.direct(x) + added
        return given.reshape(*values.shape, self.alphabet.outputs).squeeze(-1)

    def conditionals(self, values: Tensor) -> Tensor:
        r""":math:`q(s_i = 1 \mid s_{<i})`, ``(*, N)``; for symbols those of all, ``(*, N, q)``."""
        return self.alphabet.conditionals(self(self.alphabet.check(values, self.shape)))

    def log_prob(self, values: Tensor) -> Tensor:
        """Normalised: ``(*, N)`` values to ``(*,)`` log-probabilities, nats."""
        values = self.alphabet.check(values, self.shape)
        return self.alphabet.log_prob(values, self(values))

    def loss(self, values: Tensor) -> Tensor:
        """Negative log-likelihood per site, nats."""
        return -self.log_prob(values).mean() / self.n_sites

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, ``(n, N)``."""
        return self.draw(n, generator)[0]

    def sample_and_log_prob(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Independent draws ``(n, N)`` and their log-probabilities ``(n,)``, with their gradient."""
        values = self.sample(n, generator)
        return values, self.log_prob(values)

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Independent draws ``(n, N)`` and what they were drawn from, as :meth:`forward` up to rounding."""
        x = self._like().new_zeros(n, self.n_sites, self.alphabet.inputs)
        add = self._relative_cached(x) if self.relative else self.cached(x)
        values, given = [], []
        for i in range(self.n_sites):
            given.append(self.direct.at(i, x) + add(i))
            values.append(self.alphabet.draw(given[-1], generator))
            x[:, i] = self.alphabet.read(values[-1], x.dtype)
        return torch.stack(values, 1), torch.stack(given, 1).squeeze(-1)

    @torch.no_grad()
    def start_from(self, couplings: Tensor) -> None:
        r"""Sets the direct term to the known part of the local field: :math:`D_{ij} = \beta J_{ij}`, j < i.

        The Boltzmann factor of the bonds to earlier sites is then in place and the network learns the rest.

        Arguments:
            couplings: :math:`\beta J`, symmetric, ``(N, N)``, zero where there is no bond.
        """
        if couplings.shape != self.direct.weight.shape:
            raise ValueError(f"couplings need shape {tuple(self.direct.weight.shape)}, got {couplings.shape}")
        self.direct.weight.copy_(couplings.to(self.direct.mask) * self.direct.mask)

    @property
    def compiled(self) -> bool:
        """Whether draws by :mod:`physgen.distributions.ancestral` apply: of spins, with a direct term."""
        dense = isinstance(self.direct, Earlier) and self.alphabet.outputs == 1
        return dense and ancestral.applies(self.direct.weight)

    def _relative(self, x: Tensor) -> Tensor:
        first, known = x[:, :1], torch.arange(self.n_sites, device=x.device) > 0
        return first * self.network(x * first) * known[:, None]

    def _relative_cached(self, x: Tensor) -> Next:
        relative = torch.zeros_like(x)
        add = self.cached(relative)

        def odd(i: int) -> Tensor:
            if i:
                relative[:, i - 1] = x[:, i - 1] * x[:, 0]
            return add(i) * (x[:, 0] if i else 0.0)

        return odd

    def _like(self) -> Tensor:
        return next(self.parameters())


class Earlier(MaskedLinear):
    """Linear in all earlier sites: ``(n, N, inputs)`` to ``(n, N, outputs)``."""

    def __init__(self, n_sites: int, inputs: int, outputs: int, *, bias: bool):
        site = torch.arange(n_sites)
        super().__init__(site.repeat_interleave(outputs)[:, None] > site.repeat_interleave(inputs), bias=bias)
        self.inputs, self.outputs = inputs, outputs
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1)).unflatten(-1, (-1, self.outputs))

    def at(self, i: int, x: Tensor) -> Tensor:
        """The same at site i alone, ``(n, outputs)``."""
        rows, known = slice(i * self.outputs, (i + 1) * self.outputs), i * self.inputs
        bias = None if self.bias is None else self.bias[rows]
        return linear(x.flatten(1)[:, :known], self.weight[rows, :known], bias)

    def dense(self) -> tuple[Tensor, Tensor]:
        """Weights and biases, zero where there are none, as compiled draws take them."""
        weight = self.masked()
        return weight, weight.new_zeros(len(weight)) if self.bias is None else self.bias


class Bias(nn.Module):
    """In place of :class:`Earlier`, without any weights; for n_sites = 1 the same bias at all sites."""

    def __init__(self, n_sites: int, outputs: int, bias: bool):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_sites, outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(()) if self.bias is None else self.bias

    def at(self, i: int, x: Tensor) -> Tensor:
        return x.new_zeros(()) if self.bias is None else self.bias[i % len(self.bias)]
