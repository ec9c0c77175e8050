r"""General Boltzmann machine: spins that are all coupled with each other, some of them hidden.

.. math::
    E(s, h) = -a \cdot s - b \cdot h - s^\top W h - \tfrac12 s^\top V s - \tfrac12 h^\top U h, \qquad
    p(s, h) = \frac{1}{Z} e^{-E / T_0}, \qquad s_i, h_j = \pm 1

V and U are symmetric with zero diagonal: their upper triangles are the parameters. Without hidden units it is
an Ising model with couplings :math:`V/T_0` of all pairs and fields :math:`a/T_0`; with V = U = 0 it would be
a restricted machine.

References:
    | A learning algorithm for Boltzmann machines (Ackley, Hinton and Sejnowski, 1985)
    | Statistical Analysis of Non-Lattice Data (Besag, 1975), the pseudo-likelihood
"""

import math

import torch
from torch import Tensor, nn

from ..machine import Machine
from ..nn import check_spins, spin_log_prob
from ..pairwise import PairwiseSpins, symmetric, upper

__all__ = ["Boltzmann", "build"]


class Boltzmann(Machine):
    r"""Trained by :class:`physgen.learning.MeanFieldPCD`, :func:`physgen.learning.maximum_likelihood`, or,
    fully visible, also by :meth:`loss`.

    Arguments:
        shape: Lattice sides; their product is N. All pairs of sites are coupled.
        hidden: Hidden units H.
        lateral: Whether hidden units are coupled with each other (U). Without, the sum over them is closed
            and mean field is exact.
        temperature: :math:`T_0`.
        spread: Standard deviation of the initial W, in units of :math:`N^{-1/2}`; V and U start at 0.
        symmetric: Fixes a = b = 0, so that p(s) = p(-s) exactly.

    Example:
        >>> machine = Boltzmann((4, 4), hidden=3)
        >>> machine.free_energy(torch.ones(2, 16)).shape, machine.sample(5).shape
        (torch.Size([2]), torch.Size([5, 16]))
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden: int = 0,
        lateral: bool = True,
        temperature: float = 1.0,
        spread: float = 0.1,
        symmetric: bool = False,
    ):
        super().__init__()
        if hidden < 0 or not temperature > 0:
            raise ValueError(
                f"a Boltzmann machine needs hidden >= 0 and temperature > 0, got {hidden} and {temperature}"
            )
        self.shape, self.n_sites = tuple(shape), math.prod(shape)
        self.n_hidden, self.lateral, self.temperature = hidden, lateral and hidden > 1, temperature
        self.V = nn.Parameter(torch.zeros(len(upper(self.n_sites)[0])))
        self.a = nn.Parameter(torch.zeros(self.n_sites), requires_grad=not symmetric)
        if hidden:
            self.W = nn.Parameter(spread * self.n_sites**-0.5 * torch.randn(self.n_sites, hidden))
            self.b = nn.Parameter(torch.zeros(hidden), requires_grad=not symmetric)
        if self.lateral:
            self.U = nn.Parameter(torch.zeros(len(upper(hidden)[0])))
        self.register_buffer("base", torch.zeros(self.n_sites))

    @torch.no_grad()
    def centre(self, spins: Tensor) -> "Boltzmann":
        """Before training: sets a to the fields of independent spins with the means of ``(*, N)`` data."""
        if self.a.requires_grad:
            self.base.copy_(self._mean_field_of(spins))
            self.a.copy_(self.temperature * self.base)
        return self

    @torch.no_grad()
    def set(self, V: Tensor | None = None, a: Tensor | None = None) -> "Boltzmann":
        """Puts couplings ``(N, N)``, symmetric with zero diagonal, and fields ``(N,)`` in place.

        Example:
            >>> pair = torch.tensor([[0.0, 0.5], [0.5, 0.0]])
            >>> Boltzmann((2,)).set(V=pair).couplings.tolist()
            [[0.0, 0.5], [0.5, 0.0]]
        """
        if V is not None:
            if V.shape != (self.n_sites,) * 2 or not torch.equal(V, V.T) or V.diagonal().any():
                raise ValueError(
                    f"couplings are a symmetric matrix of {self.n_sites} sites with zero diagonal, got shape "
                    f"{tuple(V.shape)}; symmetrise by (V + V.T) / 2 and clear the diagonal"
                )
            self.V.copy_(V[upper(self.n_sites)])
        if a is not None:
            self.a.copy_(a)
        return self

    @property
    def couplings(self) -> Tensor:
        """V as a matrix, ``(N, N)``."""
        return symmetric(self.V, self.n_sites)

    def law(self, dtype: torch.dtype | None = None) -> PairwiseSpins:
        """The joint law of all spins, visible ones first, at the temperature of the machine."""
        N, H = self.n_sites, self.n_hidden
        V, a = symmetric(self.V.to(dtype), N), self.a.to(dtype)
        if not H:
            return PairwiseSpins(V / self.temperature, a / self.temperature)
        W = self.W.to(dtype)
        U = symmetric(self.U.to(dtype), H) if self.lateral else V.new_zeros(H, H)
        J = torch.cat([torch.cat([V, W], dim=1), torch.cat([W.T, U], dim=1)])
        field = torch.cat([a, self.b.to(dtype)])
        return PairwiseSpins(J / self.temperature, field / self.temperature, [(N, True), (H, self.lateral)])

    def pseudo_log_prob(self, spins: Tensor) -> Tensor:
        r"""Besag's :math:`\sum_i \log p(s_i | s_{j \ne i})`, nats, ``(*, N)`` to ``(*,)``; fully visible
        only.

        Maximising its mean over data gives the couplings of the data's law in the limit of many data, without
        Z.
        """
        if self.n_hidden:
            raise ValueError(
                f"the pseudo-likelihood is of visible machines, this one has {self.n_hidden} hidden units; "
                "train it by physgen.learning.MeanFieldPCD"
            )
        law = self.law()
        return spin_log_prob(spins, law.field + check_spins(spins, self.shape) @ law.J)

    def loss(self, spins: Tensor) -> Tensor:
        """Minus the mean pseudo-log-likelihood per site, nats."""
        return -self.pseudo_log_prob(spins).mean() / self.n_sites

    @torch.no_grad()
    def to_binary(self) -> tuple[dict[str, Tensor], Tensor]:
        r"""The same machine on units :math:`x = (s + 1)/2 \in \{0, 1\}`: parameters of its energy, and a
        constant.

        With J, f the couplings and fields of all units, :math:`J' = 4J` and :math:`f'_i = 2 f_i - 2 \sum_j
        J_{ij}`; then :math:`E_{\pm}(2x - 1) = E_{01}(x) + c`, :math:`c = \sum_i f_i - \tfrac12 \sum_{ij}
        J_{ij}`. V and U are returned as matrices.
        """
        law, T = self.law(torch.float64), self.temperature
        J, f = T * law.J, T * law.field
        N = self.n_sites
        field = 2 * f - 2 * J.sum(1)
        binary = {"V": 4 * J[:N, :N], "W": 4 * J[:N, N:], "U": 4 * J[N:, N:], "a": field[:N], "b": field[N:]}
        return binary, f.sum() - J.sum() / 2

    @torch.no_grad()
    def from_binary(self, binary: dict[str, Tensor]) -> "Boltzmann":
        """The inverse of :meth:`to_binary`: takes over the parameters of a machine on 0/1 units."""
        N, H = self.n_sites, self.n_hidden
        upper_rows = torch.cat([binary["V"], binary["W"]], dim=1)
        J = torch.cat([upper_rows, torch.cat([binary["W"].T, binary["U"]], dim=1)]).double() / 4
        field = torch.cat([binary["a"], binary["b"]]).double() / 2 + J.sum(1)
        self.set(J[:N, :N].to(self.V), field[:N])
        if H:
            self.W.copy_(J[:N, N:])
            self.b.copy_(field[N:])
        if self.lateral:
            self.U.copy_(J[N:, N:][upper(H)])
        return self


build = Boltzmann
