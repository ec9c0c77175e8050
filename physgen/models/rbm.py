r"""Restricted Boltzmann machine of any units, in centred parameters.

.. math::
    E(v, h) = U_v(v) - b \cdot t(v) + U_h(h) - c \cdot t(h) - (t(v) - \mu)^\top W (t(h) - \lambda)

with U and t of :mod:`physgen.distributions.units`, :math:`\mu` the mean of the data and :math:`\lambda` that
of hidden units without a field: 1/2 for 0 and 1. Centring changes no law, only the metric in which an
optimiser moves: with plain parameters every change of W also shifts all fields. Spins with
:math:`\mu = b = c = 0` and hidden units of 0 and 1 have a law that is exactly even.

References:
    | Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient
    | (Tieleman, 2008)
    | Deep Boltzmann Machines and the Centering Trick (Montavon and Müller, 2012)
"""

import math

import torch
from torch import Tensor, nn

from ..distributions import Groups, Layer, RestrictedBoltzmann, machine, units
from ..distributions.centred import Centred
from ..distributions.conversions import given
from ..distributions.units import Units

__all__ = ["RBM", "build"]


class RBM(nn.Module):
    r"""Trained by the losses of :mod:`physgen.energy`.

    Arguments:
        shape: Lattice sides; their product is the number N of visible units.
        hidden: Hidden units H; with ``tied``, units per site.
        spread: Standard deviation of the initial weights; default :math:`N^{-1/2}`. With ``tied`` it falls
            off as exp(-r); default 0.03 there, around a bond for each unit.
        visible, hidden_units: Kinds of :mod:`physgen.distributions.units`: ``"spin"``, ``"bernoulli"``,
            ``"softmax:3"``, ``"binomial:4"``, ``"gaussian"``, ``"relu"``.
        labels: Classes; where there are any, a one-hot label follows the N units in every configuration.
        learn_scale: Learns the widths of Gaussian visible units; else they are those of the data.
        tied: Repeats each hidden unit at every site of the torus, with the same weights relative to its site
            (Lee et al., 2009, with kernels as large as the lattice). The law is then invariant under
            translations; two units per site hold the nearest-neighbour Ising model of the square lattice
            exactly, one per bond. Training starts near bonds: unit a at a site and at the one 1 + a // d
            steps away along axis a mod d of d. From weights without a place it finds long waves first and
            stays there, or goes along bent valleys of equally good machines for ever.
        symmetric: Fixes :math:`b = c = \mu = 0`, so that p(s) = p(-s) exactly. Needed where both signs of the
            magnetisation occur and chains cannot cross between them: there persistent chains keep the shares
            of the two signs for ever, and biases would grow without bound to correct them.

    Example:
        >>> rbm = RBM((4, 4), hidden=8)
        >>> rbm.free_energy(torch.ones(3, 16)).shape, rbm.sample(5).shape
        (torch.Size([3]), torch.Size([5, 16]))
        >>> RBM((4, 4), visible="softmax:3", labels=2).sample(5, burn_in=4).shape
        torch.Size([5, 50])
    """

    base: Tensor
    displacement: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden: int = 64,
        spread: float | None = None,
        visible: str = "spin",
        hidden_units: str = "bernoulli",
        labels: int = 0,
        learn_scale: bool = False,
        tied: bool = False,
        symmetric: bool = False,
    ):
        super().__init__()
        self.shape, self.n_sites = shape, math.prod(shape)
        self.visible, self.labels, self.tied, self.symmetric = visible, labels, tied, symmetric
        if hidden < 1:
            raise ValueError(f"a restricted Boltzmann machine needs at least one hidden unit, got {hidden}")
        if (tied or symmetric) and (visible, hidden_units, labels) != ("spin", "bernoulli", 0):
            raise ValueError("tied and symmetric machines have spins, hidden units of 0 and 1, and no labels")
        has_scale = isinstance(units.layer(visible, self.n_sites), units.Gaussian)
        if learn_scale and not has_scale:
            raise ValueError(f"only Gaussian and relu units have a width to learn, not {visible} units")
        bonds = tied and spread is None
        if spread is None:
            spread = 0.03 if tied else self.n_sites**-0.5
        if has_scale:
            self.log_scale = nn.Parameter(torch.zeros(self.n_sites), requires_grad=learn_scale)
        self.hidden_layer = units.layer(hidden_units, hidden * (self.n_sites if tied else 1))
        self.width = self.visible_layer().width
        H = hidden if tied else self.hidden_layer.width
        self.W = nn.Parameter(spread * torch.randn(self.width, H))
        self.b = nn.Parameter(torch.zeros(1 if tied else self.width), requires_grad=not symmetric)
        self.c = nn.Parameter(torch.zeros(H), requires_grad=not symmetric)
        self.register_buffer("base", torch.zeros_like(self.b))
        if tied:
            sites, distance = _torus(shape)
            self.register_buffer("displacement", sites, persistent=False)
            self.W.data *= torch.exp(-distance).unsqueeze(-1)
            if bonds:
                self.W.data += _bonds(shape, hidden)

    def visible_layer(self, dtype: torch.dtype | None = None) -> Units:
        """The visible units with their present widths."""
        if hasattr(self, "log_scale"):
            layer = units.REGISTRY[self.visible](self.n_sites, self.log_scale.to(dtype).exp())
        else:
            layer = units.layer(self.visible, self.n_sites)
        return Groups(layer, units.Softmax(1, self.labels)) if self.labels else layer

    @torch.no_grad()
    def centre(self, data: Tensor) -> "RBM":
        r"""Before training: sets :math:`\mu` to the mean of ``(*, width)`` data, b to the bias of that mean.

        Two imaginary configurations, at zero field, keep the bias of a unit that never changes finite.
        Widths of Gaussian units become those of the data. A symmetric machine stays as it is.
        """
        if self.symmetric:
            return self
        rows = torch.as_tensor(data).reshape(-1, self.width)
        if self.tied:
            rows = rows.reshape(-1, 1).expand(-1, self.width)
        if hasattr(self, "log_scale"):
            deviation = rows[:, : self.n_sites].double().std(0)
            if not (deviation > 0).all():
                raise ValueError("a Gaussian unit needs data that vary; leave out units that are constant")
            self.log_scale.copy_(deviation.log())
        bias = self.visible_layer().fit(rows)
        self.base.copy_(bias[: len(self.base)])
        self.b.copy_(self.base)
        return self

    def distribution(self, dtype: torch.dtype | None = None) -> RestrictedBoltzmann:
        """The law of the visible units in plain parameters, for Pyro and for exact sums."""
        W, b, c, base = (x.to(dtype) for x in (self.W, self.b, self.c, self.base))
        visible, hidden = self.visible_layer(dtype), self.hidden_layer
        if self.tied:
            W = W.index_select(0, self.displacement).reshape(self.n_sites, -1)
            b, c, base = b.expand(self.n_sites), c.repeat(self.n_sites), base.expand(self.n_sites)
        mu = visible.coupled(visible.mean(base))
        rest = hidden.coupled(hidden.mean(torch.zeros_like(c)))
        parts = Centred(W, b, c, mu, rest)
        return machine(visible, hidden, centred=parts, validate_args=False)

    def free_energy(self, v: Tensor) -> Tensor:
        r""":math:`F(v) = -\log p(v) - \log Z`, nats: ``(*, width)`` to ``(*,)``."""
        return self.distribution().free_energy(self._checked(v))

    def hidden(self, v: Tensor) -> Layer:
        """:math:`p(h | v)`: independent units, event shape ``(H,)``."""
        return self.distribution().hidden(self._checked(v))

    def classify(self, v: Tensor) -> Tensor:
        r"""Exact :math:`\log p(y | v)` of every label: the N units, ``(*, width)``, to ``(*, labels)``."""
        law = given(self._labelled(), 0, v)
        return law.log_prob(law.enumerate_support()).movedim(0, -1)

    def given_label(self, label: Tensor) -> RestrictedBoltzmann:
        """:math:`p(v | y)`: numbers of labels, ``(*,)``, to a batch of machines of the N units alone.

        Their ``sample`` is exact where the hidden layer or the N units can be enumerated; else draw by
        ``gibbs``, for instance from data.
        """
        return given(self._labelled(), 1, nn.functional.one_hot(label, self.labels).to(self.W))

    @torch.no_grad()
    def gibbs(self, v: Tensor, steps: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """``steps`` block Gibbs updates of ``(*, width)`` configurations."""
        return self.distribution().gibbs(v, steps, generator)

    def annealed(self, t: float, base: Tensor | None = None) -> RestrictedBoltzmann:
        """From independent units (with the data's means, after :meth:`centre`) at t = 0 to this machine."""
        return self.distribution().annealed(t, self.base.expand(self.width) if base is None else base)

    @property
    def enumerable(self) -> bool:
        """Whether log Z and independent draws are exact here: one layer has at most 2^20 states."""
        return self.distribution().enumerable

    @torch.no_grad()
    def log_partition(self) -> float:
        """Exact log Z in float64, if :attr:`enumerable`; else see :func:`physgen.ais.log_partition`."""
        return self.distribution(torch.float64).log_partition().item()

    @torch.no_grad()
    def sample(self, n: int, burn_in: int = 4000) -> Tensor:
        """``(n, width)`` draws, independent of each other; of the exact law only if :attr:`enumerable`.

        Else they are the ends of n annealed chains and follow the law approximately: what ``burn_in`` updates
        do not relax stays, so domain walls survive and energies come out too high, and modes keep the shares
        that they had when the chains could no longer cross between them.
        """
        if self.enumerable:
            return self.distribution().sample((n,))
        return self.sample_chains(n, samples=1, burn_in=burn_in)[:, 0]

    @torch.no_grad()
    def sample_chains(
        self,
        chains: int = 64,
        samples: int = 1000,
        *,
        thin: int = 1,
        burn_in: int = 4000,
        start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Block Gibbs chains, ``(chains, samples, width)``: correlated along the second axis.

        Arguments:
            chains: Independent chains.
            samples: Kept configurations per chain.
            thin: Block updates between two kept configurations.
            burn_in: Block updates before. Without ``start`` the first half anneals from independent units,
                which domain walls survive less often than a quench.
            start: First configurations ``(chains, width)``, for instance data.
            generator: Source of randomness; torch's global one if not given.
        """
        law = self.distribution()
        if start is None:
            anneal = burn_in // 2
            start = self.annealed(0.0).draw_visible(self.c.new_zeros(chains, law.n_hidden), generator)
            for i in range(anneal):
                start = self.annealed((i + 1) / anneal).gibbs(start, 1, generator)
            burn_in -= anneal
        v = law.gibbs(self._checked(start), burn_in, generator)
        kept = v.new_empty(len(v), samples, self.width)
        for i in range(samples):
            v = law.gibbs(v, thin, generator)
            kept[:, i] = v
        return kept

    def _labelled(self) -> RestrictedBoltzmann:
        if not self.labels:
            raise ValueError("this machine has no labels; build it with labels=, the number of classes")
        return self.distribution()

    def _checked(self, v: Tensor) -> Tensor:
        if v.shape[-1] != self.width:
            raise ValueError(
                f"the last axis must hold this machine's {self.width} sites, got shape {tuple(v.shape)}"
            )
        layer = self.visible_layer()
        if not layer.support.check(v).all():
            raise ValueError(f"{self.visible} units take {layer.takes}; got other values")
        return v


def _bonds(shape: tuple[int, ...], hidden: int) -> Tensor:
    """Weights ``(N, hidden)`` of pairs of sites, one for each unit, along each axis in turn."""
    weights = torch.zeros(*shape, hidden)
    for a in range(hidden):
        axis, steps = a % len(shape), 1 + a // len(shape)
        other = [0] * len(shape)
        other[axis] = steps % shape[axis]
        for place in ([0] * len(shape), other):
            weights[(*place, a)] += 0.5 / steps
    return weights.reshape(-1, hidden)


def _torus(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The site at i - x for every pair of sites, ``(N * N,)``, and the distances from site 0, ``(N,)``."""
    sides, sites = torch.tensor(shape), torch.arange(math.prod(shape)).reshape(shape)
    place = torch.cartesian_prod(*(torch.arange(n) for n in shape)).reshape(-1, len(shape))
    step = (place.unsqueeze(1) - place) % sides
    return sites[step.unbind(-1)].flatten(), torch.minimum(place, sides - place).float().norm(dim=-1)


build = RBM
