r"""Network whose sites read the frontier alone: those earlier spins that the rest of the law depends on.

With bonds between neighbours, :math:`p(s_i \mid s_{<i})` depends only on those earlier sites that have a bond
to i or to a later site: of an L by L torus in raster order, the last L sites and the first row. So all spins
are kept in K slots of memory, K the largest size of the frontier, 2 L here. A spin goes into a slot
that is free, and its slot is free again as soon as all of its neighbours are drawn:

.. math:: q(s) = \prod_i \sigma(2 \theta_i s_i), \qquad
    \theta_i = b_i + D_i \cdot x_i + \sum_{m=1}^{w} v_{im} \tanh( A_{im} \cdot x_i ),

x_i the slots before site i is drawn. Nothing of the exact conditional is lost, and a site costs
:math:`K (1 + w)` weights instead of i (1 + w). A symmetric model has no b and is odd in the spins:
:math:`q(s) = q(-s)` whatever the weights.

Each D, A and v is a sum of one that all rows share and one of the site alone. The rows of a torus differ
little, so what they have in common is learnt first, from the gradients of all of them: on 24 x 24 sites at
the critical point, 2000 steps of reverse KL at a rate of 3e-3 lead to an effective sample size of 0.77
instead of 0.74.

References:
    | Solving Statistical Mechanics Using Variational Autoregressive Networks (Wu, Wang and Zhang, 2019),
      https://arxiv.org/abs/1809.10606; here with the Markov property of the Hamiltonian
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from ..autoregressive import Autoregressive, Next
from ..distributions import ancestral, frontier

__all__ = ["Frontier", "build"]


class Frontier(Autoregressive):
    r"""Arguments:
        shape: Sites along each axis.
        hidden: Hidden units of each site, w.
        symmetric: Odd, as above. Otherwise every site has a bias :math:`b_i`, for Hamiltonians with a field.
        bonds: Pairs of sites with a bond, row-major numbers; those of the periodic lattice if not given.

    Example:
        >>> net = build((6, 6))
        >>> net.slot.max().item() + 1, bool(torch.equal(*net.log_prob(torch.ones(2, 36)).split(1)))
        (12, True)
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden: int = 5,
        symmetric: bool = True,
        bonds: Sequence[Sequence[int]] | None = None,
    ):
        super().__init__(shape, symmetric=symmetric, direct=False)
        slot, sources = memory(self.n_sites, torus(self.shape) if bonds is None else bonds)
        self.register_buffer("slot", slot, persistent=False)
        self.register_buffer("sources", sources, persistent=False)
        columns, n_slots = self.shape[-1] if len(self.shape) > 1 else 1, sources.shape[1]
        inner = 0.1 * torch.randn(columns, hidden, n_slots)
        self.shared_weight = nn.Parameter(torch.cat([torch.zeros(columns, 1, n_slots), inner], 1))
        self.shared_outer = nn.Parameter(0.01 * torch.randn(columns, hidden))
        self.weight = nn.Parameter(torch.zeros(self.n_sites, 1 + hidden, n_slots))
        self.outer = nn.Parameter(torch.zeros(self.n_sites, hidden))

    def network(self, x: Tensor) -> Tensor:
        padded = torch.cat([x[..., 0], x.new_zeros(len(x), 1)], 1)
        weight, outer = self._weights()
        out = torch.einsum("nik,imk->nim", padded[:, self.sources], weight)
        return (out[..., 0] + (torch.tanh(out[..., 1:]) * outer).sum(-1))[..., None]

    def cached(self, x: Tensor) -> Next:
        """:meth:`network` site by site, from slots that take up each spin once."""
        slots = x.new_zeros(len(x), self.sources.shape[1])
        weight, outer = self._weights()

        def at(i: int) -> Tensor:
            if i:
                slots[:, self.slot[i - 1]] = x[:, i - 1, 0]
            out = slots @ weight[i].T
            return out[:, :1] + (torch.tanh(out[:, 1:]) @ outer[i])[:, None]

        return at

    @property
    def compiled(self) -> bool:
        """Whether the compiled passes apply."""
        return ancestral.applies(self.weight)

    def log_prob(self, values: Tensor) -> Tensor:
        """Normalised: ``(*, N)`` spins to ``(*,)`` nats; where compiled, differentiable once."""
        if not self.compiled:
            return super().log_prob(values)
        spins = frontier.tiles(self.alphabet.check(values, self.shape).reshape(-1, self.n_sites))
        n = values[..., 0].numel()
        return self._log_prob(frontier.read(spins, *self._arguments()))[:n].reshape(values.shape[:-1])

    @torch.no_grad()
    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Independent draws and their fields, ``(n, N)`` each."""
        if not self.compiled:
            return super().draw(n, generator)
        _, spins, fields, _ = frontier.draw(*self._arguments(), n, generator)
        return frontier.rows(spins, n), frontier.rows(fields, n)

    def sample_and_log_prob(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draws ``(n, N)`` and their log-probabilities ``(n,)``, which cost no pass; differentiable once."""
        if not self.compiled:
            return super().sample_and_log_prob(n, generator)
        drawn = frontier.draw(*self._arguments(), n, generator)
        return frontier.rows(drawn[1], n), self._log_prob(drawn)[:n]

    @torch.no_grad()
    def start_from(self, couplings: Tensor) -> None:
        r"""Sets D to the known part of the local field: :math:`\beta J_{ij}` of the sites in the slots.

        Arguments:
            couplings: :math:`\beta J`, symmetric, ``(N, N)``, zero where there is no bond.
        """
        padded = torch.cat([couplings.to(self.weight), self.weight.new_zeros(self.n_sites, 1)], 1)
        self.weight[:, 0] = padded.gather(1, self.sources)
        self.shared_weight[:, 0] = 0.0

    def _arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        bias = self.direct.bias
        bias = self.outer.new_zeros(self.n_sites) if bias is None else bias.squeeze(-1)
        return *self._weights(), bias, self.slot

    def _weights(self) -> tuple[Tensor, Tensor]:
        """``(N, 1 + w, K)`` and ``(N, w)``: what the rows share and what each has of its own."""
        pairs = (self.weight, self.shared_weight), (self.outer, self.shared_outer)
        weight, outer = (
            (own.unflatten(0, (-1, len(shared))) + shared).flatten(0, 1) for own, shared in pairs
        )
        return weight, outer

    def _log_prob(self, known: tuple[Tensor, ...]) -> Tensor:
        return _LogProb.apply(*known, *self._arguments())


def torus(shape: tuple[int, ...]) -> list[list[int]]:
    """Bonds of nearest neighbours of a periodic lattice, each once.

    Example:
        >>> torus((3,))
        [[0, 1], [0, 2], [1, 2]]
    """
    site = torch.arange(torch.Size(shape).numel()).view(shape)
    pairs = [torch.stack([site, site.roll(-1, axis)], -1).flatten(0, -2) for axis in range(len(shape))]
    pairs = torch.cat(pairs).sort(-1).values.unique(dim=0)
    return pairs[pairs[:, 0] != pairs[:, 1]].tolist()


def memory(n_sites: int, bonds: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """The slot of each site, ``(N,)``, and what the slots hold before it is drawn, ``(N, K)``; N for nothing.

    A spin that nothing depends on any more stays until its slot is taken.

    Example:
        >>> slot, sources = memory(4, [[0, 1], [1, 2], [2, 3]])  # an open chain
        >>> slot.tolist(), sources.flatten().tolist()
        ([0, 0, 0, 0], [4, 0, 1, 2])
    """
    last = list(range(n_sites))  # the last site that depends on each
    for i, j in bonds:
        last[min(i, j)] = max(last[min(i, j)], i, j)
    slot, held = [], []
    for i in range(n_sites):
        free = (k for k, j in enumerate(held) if last[j] <= i)
        k = next(itertools.chain(free, [len(held)]))
        held[k : k + 1] = [i]
        slot.append(k)
    sources = torch.full((n_sites, len(held)), n_sites)
    for i, k in enumerate(slot):
        sources[i + 1 :, k] = i
    return torch.tensor(slot), sources


class _LogProb(Function):
    """What a pass has computed, as a function of the weights; of spins it is none."""

    @staticmethod
    def forward(ctx, log_q, spins, fields, units, weight, outer, bias, slot):  # noqa: ARG004
        ctx.save_for_backward(spins, fields, units, outer, slot)
        ctx.n_slots = weight.shape[-1]
        return log_q.flatten()

    @staticmethod
    @once_differentiable
    def backward(ctx, signal):
        spins, *known = ctx.saved_tensors
        by = frontier.gradient(signal.view(len(spins), -1), spins, *known, ctx.n_slots)
        return None, None, None, None, *by, None


build = Frontier
